"""The frozen teacher's forward pass at the least cost: norms, memory layout and dtype."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmcv.cnn.bricks import wrappers
from mmengine.logging import print_log
from torch import Tensor, nn

from ..compat import OutOfMemoryError, is_autocast_enabled
from ..errors import DistillationError
from ..taps import Record, Tap, run_to_taps
from .compilation import Compilation
from .norm_folding import fold_norms, watch

Records = dict[Tap, Record]

# Whose weights autocast casts, and nothing else happens to.
_CASTS = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.Linear,
    nn.modules.linear.NonDynamicallyQuantizableLinear,  # of attention
    wrappers.Conv2d,
    wrappers.ConvTranspose2d,
    wrappers.Linear,
)
# By how much of its largest value a tap may change where only the order of rounding does.
_TOLERANCE = dict(cpu=1e-4)
_COARSE = 1e-2  # on other devices: GPUs multiply in TF32


class TeacherRun:
    """Runs a frozen model up to its taps, and with its first images makes it faster.

    Batch norms are folded into the convolutions that feed them, and on the CPU the weights are laid
    out channels last, unless there are grouped convolutions. Then the taps are compared with those
    of the model as it was; if they differ by more than rounding does, the change is taken back.
    So what cannot be folded (a convolution with two readers, a head that reads its norms) is not.

    With a dtype, weights of convolutions and linear layers are cast, once, and the model runs under
    autocast to this dtype. What is handed on is float32 again.

    With ``compile``, backbone and neck are compiled in the end, unless taps change by it.

    Args:
        dtype (str, optional): ``'bfloat16'`` or ``'float16'``. Defaults to None: as it is.
        compile (bool): Whether to compile. Defaults to False.
        label (str): What messages call the model. Defaults to ``'teacher'``.

    Attributes:
        untouched (Collection[str]): Paths of modules that stay what they are: those that are
            tapped, and those that are called from elsewhere.
    """

    def __init__(
        self, dtype: str | None = None, compile: bool = False, label: str = 'teacher'
    ) -> None:
        self.label = label
        self.dtype = None if dtype is None else getattr(torch, dtype)
        self.compile = compile
        self.untouched: Collection[str] = ()
        self._changed: nn.Module | None = None
        self._reordered = False  # whether taps may be channels last

    def has_changed(self, model: nn.Module) -> bool:
        """Whether the model's weights are not those that were loaded any more."""
        return model is self._changed

    def __call__(
        self,
        model: nn.Module,
        taps: Sequence[Tap],
        images: Tensor,
        data_samples: list | None = None,
        regions: dict[str, list[Tensor]] | None = None,
    ) -> Records:
        """Runs the model, see :func:`~diffkd_mm.taps.run_to_taps`.

        Args:
            model (nn.Module): The model, in eval mode. It is changed by the first run.
            taps (Sequence[Tap]): What is tapped.
            images (Tensor): Preprocessed images of shape (B, 3, H, W).
            data_samples (list, optional): Data samples of the images.
            regions (dict, optional): The regions that taps ask for.

        Returns:
            dict: Per tap the tensors of all calls in order.

        Raises:
            DistillationError: If the model does not run in the dtype.
        """

        def run() -> Records:
            return run_to_taps(model, taps, images, data_samples, regions)

        device = images.device.type
        if model is not self._changed and device != 'meta':
            exact = self._quicken(model, run, device)
            if not _has_values(exact):
                return self._hand_on(exact)  # the next images decide
            self._changed = model
            if self.dtype is not None:
                self._cast(model, run, exact, device)
            if self.compile:
                self._compile(model, run, exact, device)
            elif self.dtype is None and not is_autocast_enabled(device):
                return self._hand_on(exact)
        with self._autocast(device):
            return self._hand_on(run())

    def _autocast(self, device: str) -> torch.autocast | nullcontext:
        if self.dtype is None or device == 'meta':
            return nullcontext()
        return torch.autocast(device, self.dtype)

    def _quicken(self, model: nn.Module, run: Callable[[], Records], device: str) -> Records:
        """Changes the model as far as its taps stay the same, and returns what they gave."""
        with torch.autocast(device, enabled=False):
            with watch(model, self.untouched) as flow:
                expected = run()
            if not _has_values(expected):
                return expected
            changes: list[Callable[[], None]] = []
            if pairs := flow.pairs():
                changes.append(fold_norms(model, pairs))
            if device == 'cpu' and _gains_from_channels_last(model):
                changes.append(_lay_out(model))
            found = expected
            while changes:
                try:
                    found = run()
                    difference = tap_difference(found, expected)
                except Exception:  # whatever it was, it is the change's fault
                    difference = float('nan')
                if difference <= _TOLERANCE.get(device, _COARSE):
                    break
                changes.pop()()
                found = expected
        self._reordered = len(changes) > bool(pairs)
        if pairs and changes:
            print_log(
                f'{self.label}: {len(pairs)} batch norms are folded into convolutions; its taps '
                f'differ by {difference:.0e} of their largest value',
                logger='current',
            )
        return found

    def _cast(
        self, model: nn.Module, run: Callable[[], Records], exact: Records, device: str
    ) -> None:
        """Casts the weights and checks that the model runs with them.

        Raises:
            DistillationError: If it does not, or not to finite numbers.
        """
        name = str(self.dtype).removeprefix('torch.')
        for module in model.modules():
            if type(module) in _CASTS:
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(self.dtype)
        try:
            with self._autocast(device):
                difference = tap_difference(run(), exact)
        except OutOfMemoryError:
            raise
        except Exception as error:
            raise DistillationError(
                f"{self.label}: it does not run with dtype='{name}' on this device. Leave dtype "
                f'out. ({type(error).__name__}: {error})'
            ) from error
        if not difference < float('inf'):
            raise DistillationError(
                f"{self.label}: with dtype='{name}' its taps are not finite. Use 'bfloat16', or "
                'leave dtype out.'
            )
        print_log(
            f'{self.label}: in {name} its taps differ by {difference:.0e} of their largest value',
            logger='current',
        )
        if (device, self.dtype) == ('cpu', torch.float16):
            self._warn(
                "float16 is slow on most processors; 'bfloat16' is not on those with AVX512-BF16 "
                'or AMX.'
            )

    def _compile(
        self, model: nn.Module, run: Callable[[], Records], exact: Records, device: str
    ) -> None:
        """Compiles the model if its taps then are as near to the exact ones as before."""
        with self._autocast(device):
            before = tap_difference(run(), exact)
            compilation = Compilation(model, self.untouched, self.label)
            if not (paths := compilation.paths()):
                self._warn(
                    'compile=True finds nothing to compile: no part of a backbone or neck '
                    'that has several layers and no tap inside.'
                )
                return
            print_log(
                f'{self.label}: compiling {", ".join(paths)}, which can take minutes, now and for '
                'a new kind of input, such as the first batch of a single image',
                logger='current',
            )
            difference = tap_difference(run(), exact)
        # In half precision both are rounded, each in its way.
        if not difference <= max(_TOLERANCE.get(device, _COARSE), 2 * before):
            compilation.undo()
            self._warn(
                f'compile=True changes its taps by {difference:.0e} of their largest '
                'value, so it runs as it was.'
            )
            return
        self._reordered = True
        print_log(
            f'{self.label}: {", ".join(compilation.paths()) or "nothing"} is compiled; its taps '
            f'differ by {difference:.0e} of their largest value',
            logger='current',
        )

    def _warn(self, message: str) -> None:
        print_log(f'{self.label}: {message}', logger='current', level=logging.WARNING)

    def _hand_on(self, records: Records) -> Records:
        """What was tapped, in float32 and in the order of its dimensions, as losses expect it."""
        for record in records.values():
            for i, (tensor, version) in enumerate(record):
                if tensor._version != version:
                    continue  # overwritten, for which it is going to be refused
                changed = tensor.float() if tensor.dtype == self.dtype else tensor
                if self._reordered:
                    changed = changed.contiguous()
                if changed is not tensor:
                    record[i] = changed, changed._version
        return records


def _has_values(records: Records) -> bool:
    """Whether there is anything to compare: RoI heads may have met no region."""
    return any(x.numel() for record in records.values() for x, _ in record)


def _gains_from_channels_last(model: nn.Module) -> bool:
    """Whether there are convolutions, and none with groups, which loses."""
    convs = [x for x in model.modules() if isinstance(x, nn.Conv2d)]
    return bool(convs) and all(x.groups in (1, x.in_channels) for x in convs)


def _lay_out(model: nn.Module) -> Callable[[], None]:
    """Lays the weights of convolutions out channels last; returns what takes it back.

    Operators of MMCV read maps in the order of their dimensions, whatever their layout, so theirs
    are brought into this order.
    """
    operators = [x for x in model.modules() if type(x).__module__.startswith('mmcv.ops.')]
    within = {id(x) for operator in operators for x in operator.modules()}
    convs = [x for x in model.modules() if isinstance(x, nn.Conv2d) and id(x) not in within]
    hooks = [x.register_forward_pre_hook(_in_order) for x in operators]

    def lay_out(memory_format: torch.memory_format) -> None:
        for conv in convs:
            conv.to(memory_format=memory_format)

    def take_back() -> None:
        lay_out(torch.contiguous_format)
        for hook in hooks:
            hook.remove()

    lay_out(torch.channels_last)
    return take_back


def _in_order(module: nn.Module, inputs: tuple) -> tuple:
    """A hook: tensors in the order of their dimensions."""
    return tuple(x.contiguous() if isinstance(x, Tensor) else x for x in inputs)


def tap_difference(found: Mapping[Any, Record], expected: Mapping[Any, Record]) -> float:
    """How far what was tapped in one run is from that of another.

    Args:
        found (Mapping): Records of the one.
        expected (Mapping): Records of the other, under the same keys.

    Returns:
        float: The largest difference of a tensor as a share of its largest value; NaN is passed on.
    """
    differences = [
        (x.double() - y.double()).abs().max() / y.double().abs().max().clamp(min=1e-30)
        for tap, record in expected.items()
        for (x, _), (y, _) in zip(found[tap], record, strict=True)
        if y.numel()
    ]
    return torch.stack(differences).max().item() if differences else 0.0
