"""Folding batch norms of a frozen model into the convolutions before them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from weakref import ReferenceType, ref

from mmcv.cnn.bricks.wrappers import Conv2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Their subclasses do more with weight or input than the name says, such as standardising it.
_CONVS = (nn.Conv2d, Conv2d)
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


class Flow:
    """Which norms are fed by which convolutions, as seen in one forward pass."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[ReferenceType[Tensor], int, nn.Module]] = {}
        self._calls: Counter[nn.Module] = Counter()
        self._sources: dict[nn.Module, list[nn.Module | None]] = defaultdict(list)

    def note_conv(self, conv: nn.Module, args: tuple, output: Tensor) -> None:
        """Forward hook of convolutions."""
        self._made[id(output)] = ref(output), output._version, conv
        self._calls[conv] += 1

    def note_norm(self, norm: nn.Module, args: tuple) -> None:
        """Forward pre-hook of norms."""
        output, version, conv = self._made.get(id(args[0]), (None, None, None))
        # The number may be that of a tensor that is gone, and the tensor be changed in place.
        same = output is not None and output() is args[0] and args[0]._version == version
        self._sources[norm].append(conv if same else None)

    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Convolutions and norms of which one always feeds the other, and no other norm."""
        found = []
        for norm, (conv, *others) in self._sources.items():
            if conv is not None and all(x is conv for x in others):
                if self._calls[conv] == len(others) + 1:
                    found.append((conv, norm))
        return found


@contextmanager
def watch(model: nn.Module, untouched: Collection[str] = ()) -> Iterator[Flow]:
    """Watches a forward pass for convolutions and norms that could be one.

    Args:
        model (nn.Module): The model, in eval mode.
        untouched (Collection[str]): Paths of modules that stay what they are.

    Yields:
        Flow: What was seen.
    """
    flow = Flow()
    kept = {model.get_submodule(path) for path in untouched}
    with ExitStack() as stack:
        for module in model.modules():
            if module in kept or module._forward_hooks or module._forward_pre_hooks:
                continue
            if type(module) in _CONVS:
                handle = module.register_forward_hook(flow.note_conv)
            elif type(module) in _NORMS and not module.training and module.track_running_stats:
                handle = module.register_forward_pre_hook(flow.note_norm)
            else:
                continue
            stack.callback(handle.remove)
        yield flow


def fold_norms(model: nn.Module, pairs: list[tuple[nn.Module, nn.Module]]) -> Callable[[], None]:
    """Folds norms into convolutions: both are replaced where they stand, the norm by nothing.

    Args:
        model (nn.Module): The model, in eval mode.
        pairs (list): Convolutions and the norms that they feed, see :meth:`Flow.pairs`.

    Returns:
        Callable: Puts everything back.
    """
    new: dict[nn.Module, nn.Module] = {}
    for conv, norm in pairs:
        new[conv], new[norm] = fuse_conv_bn_eval(conv, norm), nn.Identity().eval()
    replaced = []
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in new:
                replaced.append((parent, name, child))
                parent._modules[name] = new[child]

    def undo() -> None:
        for parent, name, child in replaced:
            parent._modules[name] = child

    return undo
