"""Another image size for a teacher than for its student."""

import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]  # height and width in pixels


def scaled_size(size: Size, scale: float, preprocessor: nn.Module) -> Size:
    """The size of a batch's images for a teacher.

    Args:
        size (tuple[int, int]): Height and width of the student's, with their padding.
        scale (float): By how much the teacher's are larger.
        preprocessor (nn.Module): The teacher's, which says what its sizes are multiples of.

    Returns:
        tuple[int, int]: The nearest multiples of that. Both are those of the whole images, so that
        padding takes the same share of them and positions on feature maps stay the same.
    """
    if scale == 1:
        return size
    divisor = divisor_of(preprocessor)
    return tuple(max(1, round(x * scale / divisor)) * divisor for x in size)


def divisor_of(preprocessor: nn.Module) -> int:
    """What the sizes of the images that a data preprocessor pads are multiples of."""
    names = ('pad_size_divisor', 'size_divisor')  # MMSegmentation's is the second
    return next((x for name in names if (x := getattr(preprocessor, name, None))), 1)


def resize_batch(
    images: Tensor, data_samples: list | None, size: Size, pad_value: float, divisor: int = 1
) -> tuple[Tensor, list | None]:
    """Resizes images as if that had happened before they were padded to a batch.

    Args:
        images (Tensor): Images of shape (B, C, H, W), padded to the right and below.
        data_samples (list, optional): Their data samples, whose ``img_shape`` says where an image
            ends and padding begins.
        size (tuple[int, int]): Height and width to come to.
        pad_value (float): What fills the images up.
        divisor (int): What a padded image's sizes are multiples of. Defaults to 1.

    Returns:
        tuple: The images, and copies of the data samples with the sizes that these have now; their
        annotations are those of before.
    """
    old = tuple(images.shape[2:])
    factors = size[0] / old[0], size[1] / old[1]
    samples = data_samples or [None] * len(images)
    contents = [old if x is None else tuple(x.get('img_shape', old)[:2]) for x in samples]
    news = [tuple(max(1, round(x * f)) for x, f in zip(content, factors)) for content in contents]
    if all(content == old for content in contents):
        resized = _resize(images, size)
    else:
        resized = images.new_full((*images.shape[:2], *size), pad_value)
        for image, target, content, new in zip(images, resized, contents, news):
            part = image[None, :, : content[0], : content[1]]
            target[:, : new[0], : new[1]] = _resize(part, new)[0]
    if data_samples is None:
        return resized, None
    return resized, [
        sample.new(metainfo=_scale_sizes(sample.metainfo, factors, new, size, divisor))
        for sample, new in zip(data_samples, news)
    ]


def scale_regions(
    regions: dict[str, list[Tensor]], old: Size, new: Size
) -> dict[str, list[Tensor]]:
    """Regions, tensors (n, 5) of batch index and x1, y1, x2, y2, in images of another size."""
    if new == old:
        return regions
    width, height = new[1] / old[1], new[0] / old[0]
    factors = [1, width, height, width, height]
    return {path: [x * x.new_tensor(factors) for x in calls] for path, calls in regions.items()}


def _resize(images: Tensor, size: Size) -> Tensor:
    smaller = size[0] < images.size(2) or size[1] < images.size(3)
    return F.interpolate(images, size, mode='bilinear', align_corners=False, antialias=smaller)


def _scale_sizes(
    metainfo: dict, factors: tuple[float, float], new: Size, size: Size, divisor: int
) -> dict:
    """What a data sample says of sizes, of an image that has a new one in a batch of another."""
    scaled = dict(metainfo)
    padding = (0, size[1] - new[1], 0, size[0] - new[0])  # left, right, above, below
    known = dict(
        img_shape=new, batch_input_shape=size, padding_size=padding, img_padding_size=padding
    )
    scaled.update({key: value for key, value in known.items() if key in metainfo})
    if 'pad_shape' in metainfo:
        sides = zip(metainfo['pad_shape'], factors)
        scaled['pad_shape'] = tuple(-(-round(x * f) // divisor) * divisor for x, f in sides)
    if 'scale_factor' in metainfo:
        width, height = metainfo['scale_factor'][:2]
        scaled['scale_factor'] = (width * factors[1], height * factors[0])
    return scaled
