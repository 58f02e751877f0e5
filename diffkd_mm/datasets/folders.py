"""Images in a folder per class, of which some training images are kept for tuning."""

from mmpretrain.datasets import CustomDataset

from ..registry import DATASETS

SPLITS = ('train', 'tune', 'test')


@DATASETS.register_module()
class SplitFolders(CustomDataset):
    """MMPretrain's ``CustomDataset`` on ``train/<class>/`` and ``test/<class>/``, in three splits.

    Every tenth training image of a class, by the order of the names, is in ``'tune'``, the others
    are in ``'train'``: options can be chosen on images that neither train nor are reported.

    Args:
        data_root (str): Folder that holds ``train`` and ``test``.
        split (str): ``'train'``, ``'tune'`` or ``'test'``. Defaults to ``'train'``.
        **kwargs: As for ``CustomDataset``.

    Raises:
        ValueError: If the split is unknown.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        if split not in SPLITS:
            raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
        self.split = split
        folder = 'test' if split == 'test' else 'train'
        super().__init__(data_root=data_root, data_prefix=folder, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The samples of the split: ``img_path`` and ``gt_label`` of each."""
        samples = super().load_data_list()
        if self.split == 'test':
            return samples
        seen: dict[int, int] = {}
        chosen = []
        for sample in samples:
            index = seen[sample['gt_label']] = seen.get(sample['gt_label'], -1) + 1
            if (index % 10 == 0) == (self.split == 'tune'):
                chosen.append(sample)
        return chosen
