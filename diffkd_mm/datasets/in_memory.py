"""Small images held as one tensor, on the GPU if there is one, and augmented a batch at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.dist import get_rank
from mmengine.logging import MessageHub, print_log
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ..registry import DATASETS


@DATASETS.register_module()
class InMemoryDataset(Dataset):
    """Holds all images of a classification dataset, so that no training waits for its loader.

    The inner dataset's pipeline runs once per image, at the start, and so holds nothing random:
    it loads and packs. The random crop and flip of CIFAR are done here, for a whole batch at once,
    with offsets and flips drawn per image: as MMPretrain's ``RandomCrop(padding=...)`` and
    ``RandomFlip`` do it, before the data preprocessor normalises, so that what is padded with is
    black.

    A batch is cut out in the training process itself, hence ``num_workers=0`` in the dataloader;
    ``collate_fn=dict(type='default_collate')`` makes it one tensor. Samplers are the usual ones.
    What is random depends on seed, iteration and rank alone, all three as MMEngine's runner has
    them: a resumed training draws what an uninterrupted one would.

    Args:
        dataset (dict): Config of the inner dataset, whose samples ``PackInputs`` packs: images of
            one size as ``uint8``, with a label each.
        padding (int): Pixels p of black on each side, after which a crop of the image's size is
            cut out at one of (2p + 1)² places. Defaults to 0, no crop.
        flip_prob (float): Probability of a horizontal flip. Defaults to 0.0.
        device (str, optional): Where the images are held. Defaults to None: MMEngine's device of
            this process.

    Raises:
        ValueError: If the images differ in size.
    """

    def __init__(
        self, dataset: dict, padding: int = 0, flip_prob: float = 0.0, device: str | None = None
    ) -> None:
        self.padding = padding
        self.flip_prob = flip_prob
        self._iteration: int | None = None  # of the next batch
        source = DATASETS.build(dataset)
        self.metainfo: dict[str, Any] = source.metainfo
        first = source[0]
        self._data_sample = type(first['data_samples'])
        # On the CPU, from where the data preprocessor moves all labels of a batch in one go.
        self.labels = torch.empty(len(source), dtype=torch.long)
        images = first['inputs'].new_empty(len(source), *first['inputs'].shape)
        for i in range(len(source)):
            sample = source[i]
            if sample['inputs'].shape != first['inputs'].shape:
                raise ValueError(
                    f'InMemoryDataset: image {i} has shape {tuple(sample["inputs"].shape)}, the '
                    f'first one {tuple(first["inputs"].shape)}. Resize them in the pipeline.'
                )
            images[i] = sample['inputs']
            self.labels[i] = sample['data_samples'].gt_label
        self.images = images.to(device or get_device())
        print_log(
            f'{len(images)} images held on {self.images.device}: {images.nbytes / 1e6:.0f} MB',
            logger='current',
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample, augmented; the dataloader asks for a batch by :meth:`__getitems__`."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The samples of a batch.

        Args:
            indices (Sequence[int]): Indices of B images.

        Returns:
            list[dict]: ``inputs``, the image (3, H, W), and ``data_samples`` with its label.

        Raises:
            RuntimeError: If a worker of the dataloader asks.
        """
        if get_worker_info() is not None:
            raise RuntimeError(
                'InMemoryDataset: the images are in the memory of the training process; set '
                'num_workers=0 in the dataloader.'
            )
        images = self.augment(self.images[torch.as_tensor(indices, device=self.images.device)])
        return [
            dict(inputs=image, data_samples=self._data_sample().set_gt_label(label))
            for image, label in zip(images, self.labels[indices])
        ]

    def augment(self, images: Tensor) -> Tensor:
        """Crops and flips.

        Args:
            images (Tensor): Images of shape (B, 3, H, W).

        Returns:
            Tensor: Images of the same shape.
        """
        height, width = images.shape[2:]
        random = self._random_generator()  # on the CPU, so that every device gets the same
        top, left = torch.randint(2 * self.padding + 1, (2, len(images)), generator=random)
        flipped = torch.rand(len(images), generator=random) < self.flip_prob
        if self.padding:
            padded = F.pad(images, [self.padding] * 4)
            # A view of shape (B, 3, 2p + 1, 2p + 1, H, W): all crops of every image.
            crops = padded.unfold(2, height, 1).unfold(3, width, 1)
            batch = torch.arange(len(images), device=images.device)
            images = crops[batch, :, top.to(images.device), left.to(images.device)]
        if self.flip_prob:
            flipped = flipped.to(images.device)[:, None, None, None]
            images = torch.where(flipped, images.flip(3), images)
        return images

    def _random_generator(self) -> torch.Generator:
        """The random numbers of the next batch, told apart from all others of the training."""
        hub = MessageHub.get_current_instance()
        if self._iteration is None:
            self._iteration = hub.get_info('iter', 0)  # where a resumed training goes on
        numbers = np.random.SeedSequence([hub.get_info('seed', 0), self._iteration, get_rank()])
        self._iteration += 1
        return torch.Generator().manual_seed(int(numbers.generate_state(1)[0]))
