"""Drawing the demo's images: digits, partly covering each other, on a cluttered background.

Digits of 8x8 are enlarged to objects of 20 to 56 pixels and pasted onto coloured, textured and
noisy images with clutter that is drawn with the same pen but is no digit. A change here that alters
a picture or a box asks for another ``VERSION`` in ``digits.py``.
"""

import cv2
import numpy as np

MIN_SIDE, MAX_SIDE = 20, 56  # pixels, of the square an 8x8 digit is enlarged to
MAX_OBJECTS = 5
MAX_COVERED = 0.35  # the part of a box that a later digit may lie over


def compose_image(
    rng: np.random.Generator, samples: np.ndarray, labels: np.ndarray, image_size: int = 128
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
