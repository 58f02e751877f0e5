"""Distillers with the weights of their checkpoints, and data for them."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import islice
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint

from ..checkpoints.reading import read_all_safely
from ..checkpoints.storage import checkpoint_number, numbered_checkpoints
from ..distillers import Distiller
from ..errors import DistillationError, first_line


def build_trained(cfg: Config, name: str, device: str, trust: bool = False) -> Distiller:
    """Builds a config's distiller, whose weights :func:`load_weights` then loads.

    Args:
        cfg (Config): The config.
        name (str): What to call it in a message.
        device (str): The device.
        trust (bool): Whether checkpoints that could run code are read. Defaults to False.

    Raises:
        DistillationError: If the model is none that distils, or has no points.
    """
    if not trust:
        read_all_safely()
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model).to(device)
    if not isinstance(model, Distiller):
        raise DistillationError(f'{name} distils nothing: its model is a {type(model).__name__}.')
    return model


def load_weights(model: Distiller, checkpoint: str | Path) -> dict:
    """Loads the weights of student and connectors, and the teacher if it is not there yet.

    Returns:
        dict: The checkpoint's ``meta``.

    Raises:
        DistillationError: If the checkpoint cannot be read or has no connectors where the model
            has some.
    """
    device = next(model.parameters()).device
    loaded = load_checkpoint(model, str(checkpoint), map_location=device)
    state = loaded.get('state_dict', loaded)
    if any(key.startswith('distillation.') for key in model.state_dict()) and not any(
        key.startswith('distillation.') for key in state
    ):
        raise DistillationError(f'{checkpoint} has no connectors: it is a plain student.')
    model.build_teacher()
    return loaded.get('meta') or {}


def find_checkpoints(paths: Sequence[Path]) -> list[Path]:
    """Checkpoints; of work dirs, all that are in them, in the order of the training.

    Raises:
        DistillationError: If there is none in a folder.
    """
    found = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        numbered = numbered_checkpoints(path)
        if not numbered:
            raise DistillationError(f'{path}: no iter_*.pth or epoch_*.pth in this folder.')
        found += sorted(numbered, key=checkpoint_number)
    return found


class Batches:
    """The first batches of a split's data loader, in this process: each time the same images.

    A last, smaller batch is left out unless it is the first: a connector's batch statistics would
    be others.

    Args:
        cfg (Config): The config.
        split (str): ``'train'``, ``'val'`` or ``'test'``.
        images (int): How many images at least, if the data set has so many.
        batch_size (int, optional): Images of a batch. Defaults to the loader's.

    Raises:
        DistillationError: If the config has no such loader.
    """

    def __init__(self, cfg: Config, split: str, images: int, batch_size: int | None = None) -> None:
        loader = deepcopy(cfg.get(f'{split}_dataloader'))
        if not loader:
            raise DistillationError(f'the config has no {split}_dataloader; name another split.')
        size = batch_size or loader.get('batch_size') or 1
        loader.update(batch_size=size, num_workers=0, persistent_workers=False)
        if split == 'train':  # an endless sampler would go on where it was left, or not at all
            loader.sampler = dict(type='DefaultSampler', shuffle=True, seed=0)
        self.loader = Runner.build_dataloader(loader)
        whole = max(len(self.loader.dataset) // size, 1)
        self.number = min(-(-images // size), whole, len(self.loader))

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[dict]:
        return islice(self.loader, self.number)


def load_files(cfg: Config, files: Sequence[Path]) -> dict:
    """A batch of image files, as the config's test pipeline loads and resizes them.

    Raises:
        DistillationError: If a file is not there or is no image.
    """
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    pipeline = [
        deepcopy(step)
        for step in dataset.get('pipeline') or ()
        if 'Annotations' not in step['type']
    ]
    if not pipeline:
        raise DistillationError('the config has no test_dataloader with a pipeline to load files.')
    load = Compose(pipeline)
    items = []
    for index, file in enumerate(files):
        try:
            items.append(load(dict(img_path=str(file), img_id=index)))
        except Exception as error:
            raise DistillationError(
                f'{file}: cannot be loaded as an image: {first_line(error)}'
            ) from error
    return pseudo_collate(items)
