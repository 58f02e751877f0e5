"""A small detection set made of real handwritten digits, for the demo and the tests.

The 8x8 digits of scikit-learn are enlarged to objects of 20 to 56 pixels and pasted, partly
covering each other, onto coloured, textured and noisy images with clutter that is drawn with the
same pen but is no digit. A set is written once, in COCO format, by whoever first asks for it.
"""

import fcntl
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from mmdet.datasets import CocoDataset

from diffkd_mm.registry import DATASETS

# Raise it with every change below that changes a picture or a box: sets on disk carry it in
# their stamp, and those of another version are made anew.
VERSION = 1

CLASSES = tuple(str(digit) for digit in range(10))
# The order decides the pictures, so that new splits go to the end.
NUM_IMAGES = {'train': 1500, 'val': 400, 'tune': 1000, 'test': 1000}
IMAGE_SIZE = 128
SEED = 0
VAL_FRACTION = 0.25  # of scikit-learn's digits, kept for the validation images
MIN_SIDE, MAX_SIDE = 20, 56  # pixels, of the square an 8x8 digit is enlarged to
MAX_OBJECTS = 5
MAX_COVERED = 0.35  # the part of a box that a later digit may lie over

ANNOTATIONS = 'annotations.json'
STAMP = 'digits.json'


def load_digit_samples(split: str, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Loads the handwritten digits that the images of one split may show.

    Args:
        split (str): ``'train'`` or ``'val'``, which share no digit, or ``'tune'`` or ``'test'``:
            one half of those of ``'val'`` each.
        seed (int): Seed of the division. Defaults to 0.

    Returns:
        tuple[ndarray, ndarray]: Ink from 0 to 1, float32, (N, 8, 8), and the digits, int64, (N,).
    """
    # Needed to make the set, not to read it, so not at the top of the file.
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    val, train = np.split(order, [round(VAL_FRACTION * len(order))])
    tune, test = np.array_split(val, 2)
    chosen = {'train': train, 'val': val, 'tune': tune, 'test': test}[split]
    return digits.images[chosen].astype(np.float32) / 16, digits.target[chosen]


def compose_image(
    rng: np.random.Generator, samples: np.ndarray, labels: np.ndarray, image_size: int = IMAGE_SIZE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Composes one image and its boxes.

    Args:
        rng (Generator): The only source of chance.
        samples (ndarray): Ink of the digits to draw from, 0 to 1, (N, 8, 8).
        labels (ndarray): Their digits, (N,).
        image_size (int): Side of the image in pixels. Defaults to 128.

    Returns:
        tuple[ndarray, ndarray, ndarray]: The image, BGR, uint8, (image_size, image_size, 3); M
        boxes x1, y1, x2, y2 in pixels, the second corner exclusive, int64, (M, 4); their digits,
        int64, (M,).
    """
    image = _background(rng, image_size)
    for _ in range(rng.integers(0, 4)):
        _add_clutter(rng, image)

    boxes, digits = np.zeros((0, 4), np.int64), []
    for _ in range(rng.integers(2, MAX_OBJECTS + 1)):
        index = rng.integers(len(samples))
        side = np.exp(rng.uniform(np.log(MIN_SIDE), np.log(MAX_SIDE)))
        mask = _digit_mask(rng, samples[index], side)
        height, width = mask.shape
        if max(height, width) > image_size:
            continue
        # A few tries to find room: a crowded image ends up with fewer digits.
        for _ in range(10):
            x, y = rng.integers(image_size - width + 1), rng.integers(image_size - height + 1)
            box = np.array([x, y, x + width, y + height])
            if (_covered(box, boxes) <= MAX_COVERED).all():
                under = image[y : y + height, x : x + width]
                _paint(under, mask * rng.uniform(0.8, 1), _pen_colour(rng, under))
                boxes = np.concatenate([boxes, box[None]])
                digits.append(labels[index])
                break

    image += rng.normal(0, rng.uniform(2, 10), image.shape)
    return image.clip(0, 255).round().astype(np.uint8), boxes, np.array(digits, np.int64)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Blends two colours by random waves of several lengths: float32, (size, size, 3)."""
    waves = np.zeros((size, size), np.float32)
    for cells in (2, 4, 8, 16):
        grid = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
        waves += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) / cells**0.5
    blend = 1 / (1 + np.exp(-2 * waves[..., None]))
    first = rng.uniform(20, 235, 3)
    second = first + rng.normal(0, 30, 3)
    return (blend * first + (1 - blend) * second).astype(np.float32)


def _digit_mask(rng: np.random.Generator, ink: np.ndarray, side: float) -> np.ndarray:
    """Enlarges ink (8, 8) to ``side`` pixels, distorts it and cuts it to its own box: (h, w)."""
    angle, shear, stretch = rng.uniform(-12, 12), rng.uniform(-0.15, 0.15), rng.uniform(0.85, 1.15)
    canvas = round(1.6 * side) + 4
    turn = cv2.getRotationMatrix2D((0, 0), angle, side / 8)[:, :2]
    matrix = turn @ np.array([[stretch, shear], [0, 1]])
    # The middle of the 8x8 digit goes to the middle of the canvas.
    shift = canvas / 2 - matrix @ np.array([3.5, 3.5])
    mask = cv2.warpAffine(
        ink, np.column_stack([matrix, shift]), (canvas, canvas), flags=cv2.INTER_CUBIC
    )
    # Enlarged ink fades over a whole source pixel: give it an edge.
    mask = np.clip(3 * (mask - 0.35), 0, 1)
    rows, columns = (np.flatnonzero(mask.max(axis) > 0.5) for axis in (1, 0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _add_clutter(rng: np.random.Generator, image: np.ndarray) -> None:
    """Draws one thing that is no digit, in place: a pen stroke, a blob or a patch of stripes."""
    size = image.shape[0]
    extent = rng.uniform(8, 40)
    centre = rng.uniform(0, size, 2)
    mask = np.zeros((size, size), np.float32)
    kind = rng.integers(3)
    if kind == 0:
        # One bend at most: with two it could be read as a 2, a 3 or a 5.
        points = centre + extent * rng.uniform(-0.6, 0.6, (3, 2))
        t = np.linspace(0, 1, 16)[:, None]
        curve = (1 - t) ** 2 * points[0] + 2 * t * (1 - t) * points[1] + t**2 * points[2]
        thickness = int(rng.integers(1, max(2, extent // 6) + 1))
        cv2.polylines(mask, [curve.round().astype(np.int32)], False, 1, thickness, cv2.LINE_AA)
    elif kind == 1:
        axes = (extent * rng.uniform(0.15, 0.4, 2)).round().astype(int) + 1
        middle = centre.round().astype(int)
        cv2.ellipse(
            mask, middle.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, 1, -1, cv2.LINE_AA
        )
    else:
        x, y = (centre - extent / 2).round().astype(int).clip(0)
        patch = mask[y : y + int(extent), x : x + int(extent)]
        steps = rng.uniform(-1, 1, 2)
        phase = np.add.outer(
            steps[0] * np.arange(patch.shape[0]), steps[1] * np.arange(patch.shape[1])
        )
        patch[:] = np.sin(phase) > 0
    _paint(image, mask * rng.uniform(0.5, 1), _pen_colour(rng, image))


def _pen_colour(rng: np.random.Generator, under: np.ndarray) -> np.ndarray:
    """Picks a colour (3,) that can be told from the mean of what it is laid over (h, w, 3)."""
    mean = under.mean((0, 1))
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - mean).mean() > 70:
            return colour


def _paint(under: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    """Lays a colour (3,) over ``under`` (h, w, 3), in place, where ``mask`` (h, w) is opaque."""
    under += mask[..., None] * (colour - under)


def _covered(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Part of each of ``boxes`` (N, 4) that lies under ``box`` (4,): (N,), 0 to 1."""
    overlap = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    return overlap.clip(0).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)


def make_digits(
    data_root: str | Path,
    split: str,
    num_images: int | None = None,
    image_size: int = IMAGE_SIZE,
    seed: int = SEED,
) -> Path:
    """Makes one split of the set on disk, unless it is there already.

    The split is complete or absent, never half written, and only one of several processes on a
    machine writes it. The folder's name holds all arguments that are not the defaults, so that
    sets of other arguments lie beside each other; only a set of another version is replaced. The
    first images of a larger set are those of a smaller one.

    Args:
        data_root (str or Path): Folder that holds the splits.
        split (str): ``'train'``, ``'val'``, ``'tune'`` or ``'test'``. The last two divide the
            handwritten digits of ``'val'`` between them.
        num_images (int, optional): Defaults to 1500 for training, 400 for validation and 1000 for
            the last two.
        image_size (int): Side of the square images in pixels, at least 64. Defaults to 128.
        seed (int): Decides everything random. Defaults to 0.

    Returns:
        Path: The folder with ``images/`` and ``annotations.json``: ``data_root/split``, and with
        other than the default arguments, for example, ``data_root/split-s96-n200-seed0``.

    Raises:
        ValueError: If the split is unknown or a number is too small.
        ImportError: If the set has to be made and scikit-learn is missing.
    """
    if split not in NUM_IMAGES:
        raise ValueError(f'split must be one of {", ".join(NUM_IMAGES)}, got {split!r}')
    if num_images is None:
        num_images = NUM_IMAGES[split]
    if num_images < 1 or image_size < 64:
        raise ValueError(
            f'need at least one image of at least 64 pixels, got num_images={num_images}, '
            f'image_size={image_size}'
        )
    stamp = dict(
        version=VERSION, split=split, num_images=num_images, image_size=image_size, seed=seed
    )
    root = Path(data_root)
    folder = root / _folder_name(split, num_images, image_size, seed)
    if _read_stamp(folder) == stamp:
        return folder

    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f'.{folder.name}.lock'):
        if _read_stamp(folder) == stamp:  # made by another process while this one waited
            return folder
        with tempfile.TemporaryDirectory(prefix=f'.{folder.name}.', dir=root) as scratch:
            new = Path(scratch) / 'new'
            _write_split(new, stamp)
            if folder.exists():
                folder.rename(Path(scratch) / 'old')
            new.rename(folder)
    return folder


def _folder_name(split: str, num_images: int, image_size: int, seed: int) -> str:
    if (num_images, image_size, seed) == (NUM_IMAGES[split], IMAGE_SIZE, SEED):
        return split
    return f'{split}-s{image_size}-n{num_images}-seed{seed}'


def _read_stamp(folder: Path) -> dict | None:
    try:
        return json.loads((folder / STAMP).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_split(folder: Path, stamp: dict) -> None:
    """Writes images, annotations and stamp of one split to a new folder."""
    try:
        samples, labels = load_digit_samples(stamp['split'], stamp['seed'])
    except ImportError as error:
        raise ImportError(
            'The digits set is made from scikit-learn\'s digits: "pip install scikit-learn"'
        ) from error
    (folder / 'images').mkdir(parents=True)
    size = stamp['image_size']
    images, annotations = [], []
    for index in range(stamp['num_images']):
        # A generator per image, so that no image depends on how many come before it.
        rng = np.random.default_rng([stamp['seed'], list(NUM_IMAGES).index(stamp['split']), index])
        image, boxes, digits = compose_image(rng, samples, labels, size)
        name = f'{index:05d}.jpg'
        # JPEG: the noise makes lossless files three times as large.
        encoded = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
        (folder / 'images' / name).write_bytes(encoded.tobytes())
        images.append(dict(id=index, file_name=name, width=size, height=size))
        for (x1, y1, x2, y2), digit in zip(boxes.tolist(), digits.tolist(), strict=True):
            width, height = x2 - x1, y2 - y1
            annotations.append(
                dict(
                    id=len(annotations) + 1,  # COCO's evaluation takes 0 for "none"
                    image_id=index,
                    category_id=digit,
                    bbox=[x1, y1, width, height],
                    area=width * height,
                    iscrowd=0,
                )
            )
    categories = [dict(id=digit, name=name) for digit, name in enumerate(CLASSES)]
    contents = dict(images=images, annotations=annotations, categories=categories)
    (folder / ANNOTATIONS).write_text(json.dumps(contents))
    (folder / STAMP).write_text(json.dumps(stamp, indent=2) + '\n')


@DATASETS.register_module()
class DigitsDataset(CocoDataset):
    """Handwritten digits on cluttered images, made on disk at first use.

    Args:
        data_root (str): Folder that holds the splits. Defaults to ``'data/digits'``.
        split (str): ``'train'`` or ``'val'``, which show different handwritten digits, or
            ``'tune'`` or ``'test'``, which divide those of ``'val'`` between them: one to choose
            with and one to report. Defaults to ``'train'``.
        num_images (int, optional): Number of images. Defaults to 1500 for training, 400 for
            validation and 1000 for the last two.
        image_size (int): Side of the square images in pixels. Defaults to 128.
        seed (int): Decides everything random about the set. Defaults to 0.
        **kwargs: As for MMDetection's ``CocoDataset``.
    """

    METAINFO = {
        'classes': CLASSES,
        'palette': [
            (31, 119, 180),
            (255, 127, 14),
            (44, 160, 44),
            (214, 39, 40),
            (148, 103, 189),
            (140, 86, 75),
            (227, 119, 194),
            (127, 127, 127),
            (188, 189, 34),
            (23, 190, 207),
        ],
    }

    def __init__(
        self,
        data_root: str = 'data/digits',
        split: str = 'train',
        num_images: int | None = None,
        image_size: int = IMAGE_SIZE,
        seed: int = SEED,
        **kwargs,
    ) -> None:
        folder = make_digits(data_root, split, num_images, image_size, seed)
        super().__init__(
            data_root=str(folder),
            ann_file=ANNOTATIONS,
            data_prefix=dict(img='images/'),
            **kwargs,
        )
