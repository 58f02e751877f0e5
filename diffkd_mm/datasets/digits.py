"""A small detection set made of real handwritten digits, for the demo and the tests.

Its images show the 8x8 digits of scikit-learn and are drawn by ``digits_drawing.py``. A set is
written once, in COCO format, by whoever first asks for it.
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

from .digits_drawing import compose_image

# Raise it with every change, in the drawing too, that alters a picture or a box: sets on disk carry
# it in their stamp, and those of another version are made anew.
VERSION = 1

CLASSES = tuple(str(digit) for digit in range(10))
# The order decides the pictures, so that new splits go to the end.
NUM_IMAGES = {'train': 1500, 'val': 400, 'tune': 1000, 'test': 1000}
IMAGE_SIZE = 128
SEED = 0
VAL_FRACTION = 0.25  # of scikit-learn's digits, kept for the validation images

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
