"""The frozen teacher: found by its config, loaded strictly, kept out of everything but ``.to``."""

import logging
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from mmengine.logging import print_log
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from ..checkpoints import convert_published
from ..checkpoints.reading import model_weights, read_checkpoint_file, trained_classes
from ..configs import is_distillation, load_config, zoo_checkpoint
from ..errors import DistillationError, first_line
from ..options import PositiveFloat, check_options
from ..reparam import check_folded
from .scaling import Size, scaled_size
from .student_model import with_preprocessor
from .teacher_speed import TeacherRun

# The name of a teacher that has none, because there is no other.
ONLY = 'teacher'


def label(name: str) -> str:
    """What a teacher of a name is called in messages and tables."""
    return name if name == ONLY else f'{ONLY}.{name}'


def _compare_classes(teacher: list[str] | None, label: str) -> None:
    """Warns if the teacher's classes are not those of the data, as far as both are known."""
    # A runner tells its visualizer what the training data are, and no model. Without a visualizer
    # `get_current_instance` would fail without releasing its lock.
    visualizer = Visualizer.get_current_instance() if Visualizer._instance_dict else None
    data = list((getattr(visualizer, 'dataset_meta', None) or {}).get('classes') or [])
    if not teacher or not data or teacher == data:
        return
    differences = [
        f'class {i} is {a!r} for the teacher and {b!r} in the data'
        for i, (a, b) in enumerate(zip(teacher, data))
        if a != b
    ]
    number = f'{len(teacher)} classes and the data {len(data)}'
    print_log(
        f'{label}: it was trained on other classes than those of the training data: '
        f'{differences[0] if differences else "it has " + number}. Features do not mind; scores '
        'would be compared with those of another class.',
        logger='current',
        level=logging.WARNING,
    )


def _surplus_blocks(expected: Iterable[str], unexpected: Iterable[str]) -> list[str]:
    """Entries of a container, such as ``backbone.layer3.6``, that only the checkpoint has."""

    def numbered(name: str) -> list[str]:
        parts = name.split('.')
        return ['.'.join(parts[: i + 1]) for i, part in enumerate(parts) if part.isdigit()]

    entries = {entry for name in expected for entry in numbered(name)}
    containers = {entry.rpartition('.')[0] for entry in entries}
    found = (entry for name in unexpected for entry in numbered(name))
    return [x for x in found if x not in entries and x.rpartition('.')[0] in containers]


def _check_values(model: nn.Module, checkpoint: str, label: str) -> None:
    """Refuses weights that nothing was learned in, for which the learning rate would be blamed.

    Raises:
        DistillationError: If some are NaN or infinite, or all are zero.
    """
    parameters = dict(model.named_parameters())
    bad = [
        name
        for name, value in model.state_dict().items()
        if value.is_floating_point()
        and (value.isnan().any() or (name in parameters and value.isinf().any()))
    ]
    if bad:
        raise DistillationError(
            f'{label}: {checkpoint!r} holds NaN or infinite numbers in {len(bad)} tensors, e.g. '
            f'{bad[0]}. Take one that was written before its training diverged.'
        )
    if not any(value.any() for value in parameters.values() if value.dim() > 1):
        raise DistillationError(f'{label}: all weights in {checkpoint!r} are zero.')


class FrozenTeacher:
    """A teacher that is built and loaded on demand and frozen ever after.

    It is not a module, so that it stays out of ``state_dict``, optimizer, DDP and the averaged
    copies of EMA; copies of a distiller share it.

    Args:
        config (str | dict): See :func:`load_config`.
        checkpoint (str): Path or URL of its weights, or ``'zoo'`` for those that the metafile of
            the config's package lists. Those that :func:`~diffkd_mm.checkpoints.convert_published`
            knows are converted while they are loaded.
        trust_checkpoint (bool): Allow a checkpoint that can run code. Defaults to False.
        scale (float): By how much the images are larger that it sees than the student's: both sides
            of a batch become the multiples of its ``pad_size_divisor`` nearest to that. Defaults to
            1.
        dtype (str, optional): ``'bfloat16'`` or ``'float16'``: what its convolutions and linear
            layers compute in. Its taps are handed on in float32. Defaults to None: as the student.
        compile (bool): Compile its backbone and neck in the first step, which takes minutes.
            Defaults to False.
        name (str): Its name among several teachers, which is no option. Defaults to ``'teacher'``,
            for the only one.
    """

    def __init__(
        self,
        config: str | dict,
        checkpoint: str,
        trust_checkpoint: bool = False,
        scale: PositiveFloat = 1.0,
        dtype: Literal['bfloat16', 'float16'] | None = None,
        compile: bool = False,
        name: str = ONLY,
    ) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.trust_checkpoint = trust_checkpoint
        self.scale = scale
        self.run = TeacherRun(dtype, compile, label(name))
        self.name = name
        self.model: nn.Module | None = None
        self.classes: list[str] | None = None  # that it was trained on, if its file says so

    @classmethod
    def from_options(cls, options: dict, name: str = ONLY) -> 'FrozenTeacher':
        """Reads a distiller's ``teacher``, or one of several.

        Raises:
            DistillationError: If an option is unknown, missing or has a value it cannot have.
        """
        if not isinstance(options, dict) or not (
            options.get('config') and options.get('checkpoint')
        ):
            raise DistillationError(
                f'{label(name)}={options!r}: it needs a config and a checkpoint.'
            )
        check_options(options, cls, label(name))
        return cls(**options, name=name)

    @property
    def label(self) -> str:
        """What it is called in messages and tables: ``teacher``, or ``teacher.<name>``."""
        return label(self.name)

    def image_size(self, size: Size, model: nn.Module | None = None) -> Size:
        """Height and width, in pixels, of its images where the student's are of a size.

        Args:
            size (tuple[int, int]): Height and width of the student's.
            model (nn.Module, optional): Its model, where it is not built yet.
        """
        model = self.model if model is None else model
        return scaled_size(size, self.scale, model.data_preprocessor)

    def model_config(self) -> dict:
        """The config of the model alone; of a distillation's config, that of its student."""
        cfg = load_config(self.config, self.label)
        model_cfg = dict(cfg.model)
        if is_distillation(model_cfg):
            model_cfg = with_preprocessor(model_cfg['student'], model_cfg.get('data_preprocessor'))
        if 'data_preprocessor' in cfg:
            model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
        if cfg.get('default_scope'):
            model_cfg['_scope_'] = cfg.default_scope
        return model_cfg

    def build_network(self) -> nn.Module:
        """Builds the teacher with random weights.

        Raises:
            DistillationError: If it cannot be built.
        """
        model_cfg = self.model_config()
        try:
            return MMENGINE_MODELS.build(model_cfg)
        except Exception as error:  # any program may be in a config
            raise DistillationError(
                f'{self.label}: the model of {self._name()} cannot be built: '
                f'{type(error).__name__}: {first_line(error)}'
            ) from error

    def build(self, device: torch.device) -> nn.Module:
        """Builds the teacher, loads its weights and moves it to a device.

        Raises:
            DistillationError: If config and checkpoint do not fit.
        """
        model = self.build_network()
        checkpoint = self.checkpoint
        if checkpoint == 'zoo':
            checkpoint = zoo_checkpoint(self.config, self.label)
        try:
            loaded = read_checkpoint_file(checkpoint, self.trust_checkpoint)
            weights = model_weights(loaded, checkpoint)
            check_folded(weights, model, repr(checkpoint))
            if hasattr(model, 'backbone'):  # others, such as timm's, keep their own names
                weights = convert_published(weights, checkpoint, model.backbone)
        except DistillationError as error:
            raise DistillationError(f'{self.label}: {error}') from error
        self._load(model, weights, checkpoint)
        _check_values(model, checkpoint, self.label)
        self.classes = trained_classes(loaded)
        _compare_classes(self.classes, self.label)
        self.model = model.eval().requires_grad_(False).to(device)
        return self.model

    def as_loaded(self) -> nn.Module:
        """The built teacher with the tensors of its file, which is read anew if it has run."""
        if self.run.has_changed(self.model):
            return self.build(next(self.model.parameters()).device)
        return self.model

    def _load(self, model: nn.Module, weights: dict[str, Tensor], checkpoint: str) -> None:
        expected = model.state_dict()
        missing = sorted(k for k in expected if k not in weights and 'num_batches' not in k)
        try:
            result = model.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            reason = str(error).removeprefix(
                f'Error(s) in loading state_dict for {type(model).__name__}:'
            )
            raise DistillationError(
                f'{self.label}: {checkpoint!r} does not fit {self._name()}: '
                f'{reason.strip().splitlines()[0]}'
            ) from error
        # While it loads, a model may translate old names, so ours is not the list; drop indices
        # that it has already, as MMPretrain's Swin does, so neither is its own; or have other names
        # than in its state dict, as MMPretrain's wrapper of timm has.
        missing = [
            k
            for k in result.missing_keys
            if k in missing or (k not in expected and 'num_batches' not in k)
        ]
        if missing:
            raise DistillationError(
                f'{self.label}: {checkpoint!r} does not fit {self._name()}: {len(missing)} of '
                f'{len(expected)} tensors are missing, e.g. {", ".join(missing[:3])}.'
            )
        part = 'backbone.' if hasattr(model, 'backbone') else ''
        surplus = [x for x in result.unexpected_keys if x.startswith(part)]
        if deeper := _surplus_blocks(expected, surplus):
            raise DistillationError(
                f'{self.label}: {checkpoint!r} does not fit {self._name()}: it is of a deeper '
                f'network, with {deeper[0]}.'
            )
        if result.unexpected_keys:
            print_log(
                f'{self.label}: {checkpoint!r} has {len(result.unexpected_keys)} tensors that its '
                f'config does not use, e.g. {", ".join(result.unexpected_keys[:3])}.',
                logger='current',
            )

    def _name(self) -> str:
        return repr(self.config) if isinstance(self.config, str) else 'its config'

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Applies what ``Module._apply`` applies: moves and casts the teacher, if it is built."""
        if self.model is not None:
            self.model._apply(fn)

    def named_parameters(self) -> None:
        """Refuses to be averaged into: what asks for it is a hook of semi-supervised detectors.

        Raises:
            DistillationError: Always.
        """
        raise DistillationError(
            'MeanTeacherHook averages a student into a teacher of its own kind, and the teacher of '
            'a distiller is frozen. Remove the hook; in a semi-supervised detector put the '
            "distiller inside: detector=dict(type='diffkd_mm.Distiller', ...)."
        )

    state_dict = named_parameters

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        return self
