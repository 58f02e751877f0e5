"""Predictions for the test split of Cityscapes, whose labels its server keeps."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ..registry import METRICS

# Label ids, which the server takes, of the 19 classes that networks are trained on.
LABEL_IDS = np.array(
    [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], dtype=np.uint8
)


@METRICS.register_module()
class CityscapesTestZip(BaseMetric):
    """Writes predictions into a zip as the Cityscapes server takes them, and measures nothing.

    Every image becomes a PNG of label ids under its own name, which begins with the frame's:
    ``berlin_000000_000019_leftImg8bit.png``. With several processes the main one writes.

    Args:
        path (str): The zip file; one that exists is replaced. Relative paths start at the current
            directory.
        collect_device (str): Device over which processes send their pictures to the main one,
            ``'cpu'`` or ``'gpu'``. Defaults to ``'cpu'``, over files.

    Raises:
        ValueError: If ``path`` is not that of a zip file.
    """

    default_prefix = 'cityscapes_test'

    def __init__(self, path: str, collect_device: str = 'cpu') -> None:
        super().__init__(collect_device=collect_device)
        self.path = Path(path)
        if self.path.suffix != '.zip':
            raise ValueError(f'CityscapesTestZip: path={path!r} must end with .zip.')
        # Now, so that a folder which cannot be written to shows before the images are run.
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Encodes the predictions of a batch.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): With ``pred_sem_seg``, classes of shape (1, H, W), and
                ``img_path``.

        Raises:
            ValueError: If a prediction is no class of Cityscapes.
        """
        for sample in data_samples:
            classes = sample['pred_sem_seg']['data'][0].cpu().numpy()
            if classes.max() >= len(LABEL_IDS):
                raise ValueError(
                    f'class {classes.max()} was predicted for {sample["img_path"]!r}, but '
                    f'Cityscapes has {len(LABEL_IDS)} classes.'
                )
            picture = cv2.imencode('.png', LABEL_IDS[classes])[1].tobytes()
            self.results.append((Path(sample['img_path']).stem + '.png', picture))

    def compute_metrics(self, results: list[tuple[str, bytes]]) -> dict[str, int]:
        """Writes the zip and returns how many pictures are in it, as ``images``."""
        with zipfile.ZipFile(self.path, 'w') as archive:  # PNG is compressed already
            for name, picture in results:
                archive.writestr(name, picture)
        print_log(f'{len(results)} predictions written to {self.path}', logger='current')
        return dict(images=len(results))
