"""Models of a config with random weights, and made-up batches for them."""

import inspect
import re

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from torch import nn

from diffkd_mm.configs import is_distillation
from diffkd_mm.connectors import DiffKDConnector
from diffkd_mm.distillers import Distiller
from diffkd_mm.distillers.teacher import FrozenTeacher, label
from diffkd_mm.distillers.teachers import teacher_options
from diffkd_mm.errors import DistillationError
from diffkd_mm.options import part_class


def build_with_random_weights(cfg: Config) -> nn.Module:
    """Builds a config's model, and the teachers of a distiller."""
    if cfg.get('data_preprocessor') and cfg.model.get('data_preprocessor') is None:
        cfg.model.data_preprocessor = cfg.data_preprocessor  # as the runner does
    model = MODELS.build(cfg.model)
    if isinstance(model, Distiller):
        for name, teacher in model.teachers.items():
            model.use_teacher(MODELS.build(teacher.model_config()), name)
    return model


def build_each_model(cfg: Config) -> dict[str, nn.Module]:
    """Builds ``student`` and ``teacher`` of a config, of a plain one ``model``, points unlooked at.

    Several teachers are ``teacher.<name>``. Weights are random.
    """
    configs = dict(model=cfg.to_dict())
    if is_distillation(cfg.model):
        configs = dict(student=cfg.to_dict())
        for name, options in teacher_options(cfg.model.get('teacher') or None).items():
            configs[label(name)] = options['config']
    return {
        name: MODELS.build(FrozenTeacher(config, '').model_config())
        for name, config in configs.items()
    }


def build_distiller(cfg: Config, device: str) -> Distiller:
    """Builds a distiller in training mode, student and teacher with random weights."""
    distiller = build_with_random_weights(cfg)
    if not isinstance(distiller, Distiller):
        raise DistillationError('the config is not that of a distiller.')
    return distiller.to(device).train()  # the teacher takes part in every `.to`


def diffkd_points(cfg: Config) -> list[str]:
    """Names of the points of a distillation that have a DiffKD connector.

    Raises:
        DistillationError: If there is none.
    """
    names = [
        name
        for name, point in (cfg.model.get('points') or {}).items()
        if inspect.isclass(kind := part_class(point.get('connector') or {}))
        and issubclass(kind, DiffKDConnector)
    ]
    if not names:
        raise DistillationError('no point of the config has a DiffKDConnector.')
    return names


def take_images_of_any_size(cfg: Config) -> None:
    """Keeps a student from padding images to the crop of its config."""
    for preprocessor in (
        cfg.get('data_preprocessor'),
        cfg.model.get('student', {}).get('data_preprocessor'),
    ):
        if preprocessor and preprocessor.get('size'):
            preprocessor.update(size=None, size_divisor=1)
        if isinstance(augments := (preprocessor or {}).get('batch_augments'), list):
            augments[:] = [x for x in augments if not x['type'].endswith('BatchFixedSizePad')]


def tell_first_iteration() -> None:
    """Tells models what a runner does before its first iteration: the epoch and the iteration.

    TOOD's head and the data preprocessor of YOLOX ask for them. A training under way goes first.
    """
    hub = MessageHub.get_current_instance()
    for key in ('epoch', 'iter'):
        if hub.get_info(key) is None:
            hub.update_info(key, 0)


def build_beside(cfg: Config, source: Distiller) -> Distiller:
    """Builds a distiller in training mode that shares the frozen teachers of another.

    Args:
        cfg (Config): Its config, whose points may be others, but not the teachers' taps.
        source (Distiller): The other one, with its teachers.
    """
    device = next(source.parameters()).device
    distiller: Distiller = MODELS.build(cfg.model)
    for name, teacher in source.teachers.items():
        distiller.use_teacher(teacher.model.to('cpu'), name)  # where the new student is
        distiller.teachers[name].run = teacher.run
    source.to(device)
    return distiller.to(device).train()


def random_batch(student: nn.Module, batch_size: int, shape: tuple[int, int]) -> dict:
    """A batch as the student's data loader would give it: noise with made-up annotations.

    Args:
        student (nn.Module): A model of MMDetection, MMSegmentation or MMPretrain.
        batch_size (int): Number of images.
        shape (tuple[int, int]): Their height and width in pixels.

    Returns:
        dict: ``inputs`` and ``data_samples``.
    """
    package = next(
        name
        for name in (cls.__module__.split('.')[0] for cls in type(student).__mro__)
        if name in ('mmdet', 'mmseg', 'mmpretrain')
    )
    if package == 'mmdet':
        return _random_detections(student, batch_size, shape)
    # The largest: a region proposal network has a single class.
    num_classes = max(_numbers(student, 'num_classes').values(), default=2)
    inputs = list(torch.randint(256, (batch_size, 3, *shape), dtype=torch.uint8))
    if package == 'mmpretrain':
        from mmpretrain.structures import DataSample

        labels = torch.randint(num_classes, (batch_size,))
        return dict(
            inputs=torch.stack(inputs),
            data_samples=[DataSample().set_gt_label(label) for label in labels],
        )
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    labels = torch.randint(num_classes, (batch_size, 1, *shape))
    samples = [
        SegDataSample(
            gt_sem_seg=PixelData(data=label),
            gt_edge_map=PixelData(data=label % 2),  # of PIDNet
            metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape),
        )
        for label in labels
    ]
    return dict(inputs=inputs, data_samples=samples)


def _numbers(model: nn.Module, attribute: str) -> dict[str, int]:
    """An attribute of the modules where it is a number, by their paths."""
    found = {path: getattr(module, attribute, None) for path, module in model.named_modules()}
    return {path: value for path, value in found.items() if isinstance(value, int)}


def _random_detections(student: nn.Module, batch_size: int, shape: tuple[int, int]) -> dict:
    """Noise with boxes, masks and, where the student's images come with one, a class map."""
    from mmdet.testing import demo_mm_inputs

    numbers = _numbers(student, 'num_classes')
    # Other classes than those of the instances.
    semantic = [n for path, n in numbers.items() if 'semantic' in path]
    instances = [n for path, n in numbers.items() if not re.search('semantic|fusion', path)]
    things = _numbers(student, 'num_things_classes').values() or instances
    num_classes = max(things, default=2)
    batch = demo_mm_inputs(
        batch_size,
        [(3, *shape)] * batch_size,
        num_classes=num_classes + 1,  # its labels start at 1
        with_mask=True,  # which many ask for in a way of their own
        with_semantic=getattr(student.data_preprocessor, 'pad_seg', False),
    )
    for sample in batch['data_samples']:
        sample.gt_instances.labels -= 1
        if semantic and 'gt_sem_seg' in sample:
            sample.gt_sem_seg.sem_seg %= min(semantic)
    return batch
