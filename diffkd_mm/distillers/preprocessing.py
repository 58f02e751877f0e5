"""Feeding the teacher the images that it was trained on."""

from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from ..errors import DistillationError
from ..taps import image_channels

# What the data preprocessors of MMDetection and MMSegmentation write where they padded.
_PADDING_NOTES = ('batch_input_shape', 'padding_size', 'img_padding_size')


@dataclass(frozen=True)
class Pixels:
    """What a data preprocessor makes of an image, per channel: (value − mean) / std.

    Args:
        mean (tuple[float, ...]): Means in the order of the channels; 0 where none is subtracted.
            Three equal ones stand for any number.
        std (tuple[float, ...]): Standard deviations, the same; 1 where nothing is divided.
        reversed (bool): Whether the channels' order is reversed before that.
        pad_value (float): What fills the image up afterwards, to the right and below.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    reversed: bool
    pad_value: float

    @classmethod
    def of(cls, preprocessor: nn.Module) -> 'Pixels':
        """Reads the settings of a data preprocessor of OpenMMLab.

        Raises:
            DistillationError: If it is of a kind that keeps them elsewhere.
        """
        normalizes = getattr(preprocessor, '_enable_normalize', None)
        if type(preprocessor) is BaseDataPreprocessor:  # a model without one: only moves the data
            normalizes = False
        if normalizes is None:
            raise DistillationError(
                f'{type(preprocessor).__name__} is not a data preprocessor whose mean, std and '
                'channel order are known here.'
            )
        mean, std = (0.0,), (1.0,)
        if normalizes:
            mean, std = (
                tuple(getattr(preprocessor, x).flatten().tolist()) for x in ('mean', 'std')
            )
        # The packages have different names for these two.
        names = ('_channel_conversion', 'channel_conversion', 'to_rgb')
        return cls(
            mean=mean if len(mean) > 1 else mean * 3,  # one for all channels, of gray images too
            std=std if len(std) > 1 else std * 3,
            reversed=any(getattr(preprocessor, name, False) for name in names),
            pad_value=getattr(preprocessor, 'pad_value', getattr(preprocessor, 'pad_val', 0)),
        )


def check_channels(student: nn.Module, teacher: nn.Module) -> None:
    """Checks that both models take images of as many channels.

    Raises:
        DistillationError: If they do not.
    """
    found = image_channels(student), image_channels(teacher)
    if found[0] != found[1]:
        raise DistillationError(
            f'the student takes images of {found[0]} channels and the teacher of {found[1]}; both '
            'are fed the same images.'
        )


def pixels_of_both(student: nn.Module, teacher: nn.Module) -> tuple[Pixels | None, Pixels | None]:
    """Reads the data preprocessors of student and teacher.

    Returns:
        tuple: What they make of images; None for both if they are of a kind that is not known, but
        have the same settings.

    Raises:
        DistillationError: If one is of a kind that is not known and they differ.
    """
    try:
        return Pixels.of(student), Pixels.of(teacher)
    except DistillationError as error:
        if type(student) is type(teacher) and _settings(student) == _settings(teacher):
            return None, None
        raise DistillationError(
            f'{error} The preprocessing of student ({type(student).__name__}) and teacher '
            f'({type(teacher).__name__}) must then be of the same class with the same settings.'
        ) from error


def _settings(module: nn.Module) -> dict[str, Any]:
    plain = {
        k: v
        for k, v in vars(module).items()
        if k != 'training' and isinstance(v, int | float | str | list | tuple)
    }
    return plain | {name: buffer.tolist() for name, buffer in module.named_buffers()}


def convert_images(
    inputs: Tensor, data_samples: list[Any] | None, seen: Pixels | None, wanted: Pixels | None
) -> Tensor:
    """Turns preprocessed images into what another data preprocessor would have made of them.

    Args:
        inputs (Tensor): Preprocessed images of shape (B, C, H, W).
        data_samples (list, optional): Their data samples, whose ``img_shape`` says where an image
            ends and padding begins.
        seen (Pixels, optional): How they were preprocessed.
        wanted (Pixels, optional): How they should be.

    Returns:
        Tensor: The images, of the same shape; ``inputs`` itself if nothing differs.

    Raises:
        DistillationError: If a preprocessor is for another number of channels.
    """
    if seen == wanted:
        return inputs

    def per_channel(values: tuple[float, ...]) -> Tensor:
        if len(values) != inputs.size(1):
            if len(set(values)) > 1:
                raise DistillationError(
                    f'images of {inputs.size(1)} channels cannot be converted for the teacher by '
                    f'means and stds of {len(values)} channels.'
                )
            values = values[:1]
        return torch.tensor(values, dtype=inputs.dtype, device=inputs.device)[:, None, None]

    images = inputs * per_channel(seen.std) + per_channel(seen.mean)
    if seen.reversed != wanted.reversed:
        images = images.flip(1)
    images = (images - per_channel(wanted.mean)) / per_channel(wanted.std)
    for image, sample in zip(images, data_samples or ()):
        if 'img_shape' in sample:  # images of one size need not say it
            height, width = sample.img_shape[:2]
            image[:, height:] = wanted.pad_value
            image[:, :, width:] = wanted.pad_value
    return images


def with_known_sizes(
    inputs: Tensor, data_samples: list[Any] | None, divisor: int
) -> list[Any] | None:
    """Data samples whose ``img_shape`` may be believed, of images in a batch.

    Transforms of other packages, such as ``torchvision/RandomResizedCrop``, leave there the size of
    the file. It shows by no image filling the batch, where no data preprocessor noted padding.

    Args:
        inputs (Tensor): Images of shape (B, C, H, W).
        data_samples (list, optional): Their data samples.
        divisor (int): What the sizes of a padded batch are multiples of.

    Returns:
        list: The data samples; where they were wrong, copies that say (H, W), without padding.
    """
    samples = [x for x in data_samples or () if 'img_shape' in x]
    if not samples or any(note in x for x in samples for note in _PADDING_NOTES):
        return data_samples
    batch = tuple(inputs.shape[2:])
    largest = (max(sides) for sides in zip(*(x.img_shape[:2] for x in samples)))
    if tuple(-(-side // divisor) * divisor for side in largest) == batch:
        return data_samples
    return [x.new(metainfo={**x.metainfo, 'img_shape': batch}) for x in data_samples]
