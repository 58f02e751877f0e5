"""What of the student a point's losses train, looked up once in the graph of the first step."""

import logging
from collections.abc import Iterable, Mapping, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from .point import DistillationPoint


def reached_tensors(losses: Iterable[Tensor]) -> tuple[set[int], bool]:
    """The leaves that a backward pass from the losses would reach, without running one.

    Args:
        losses (Iterable[Tensor]): What the backward pass would start from.

    Returns:
        tuple: The ``id`` of every leaf, and whether the graph has parts that are only made when
        activations are recomputed (reentrant checkpointing), whose leaves are not among them.
    """
    nodes = [loss.grad_fn for loss in losses]
    seen, leaves, hides_some = set(), set(), False
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, 'variable'):
            leaves.add(id(node.variable))
        hides_some |= 'CheckpointFunction' in node.name()
        nodes.extend(following for following, _ in node.next_functions)
    return leaves, hides_some


class ReachLog:
    """Logs, once per point, how many of the student's parameters its losses reach."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def look(
        self,
        student: nn.Module,
        point: DistillationPoint,
        tensors: Sequence[Tensor],
        losses: Mapping[str, Tensor],
    ) -> None:
        """Logs it in the first step with gradients, and warns where there are none.

        Args:
            student (nn.Module): The student.
            point (DistillationPoint): The point.
            tensors (Sequence[Tensor]): All tensors of its student tap, from a training step.
            losses (Mapping[str, Tensor]): What the point made of them.
        """
        if point.options.name not in self._logged and torch.is_grad_enabled():
            self._logged.add(point.options.name)
            _log_reach(student, point, tensors, losses)


def _log_reach(
    student: nn.Module,
    point: DistillationPoint,
    tensors: Sequence[Tensor],
    losses: Mapping[str, Tensor],
) -> None:
    trained = [id(p) for p in student.parameters() if p.requires_grad]
    leaves, hides_some = reached_tensors(losses.values())
    number = sum(parameter in leaves for parameter in trained)
    name, tap = point.options.name, point.options.student
    print_log(
        f'point {name!r}: its losses reach {"at least " if hides_some else ""}{number} of the '
        f"student's {len(trained)} trainable parameters",
        logger='current',
    )
    indices = point.levels['student']
    levels = range(len(tensors)) if indices is None else indices
    frozen = [level for level in levels if not tensors[level].requires_grad]
    if frozen:
        print_log(
            f'point {name!r}: level {", ".join(map(str, frozen))} of the student tap {tap!r} needs '
            'no gradient, since all layers before it are frozen (frozen_stages, requires_grad) or '
            'run without gradients; the student learns nothing from it. Tap a later module or '
            'level, or unfreeze them.',
            logger='current',
            level=logging.WARNING,
        )
    elif not number and not hides_some:
        print_log(
            f'point {name!r}: the student learns nothing from it: between the student tap {tap!r} '
            'and the losses the gradient is cut off, by detach or no_grad in connector or loss.',
            logger='current',
            level=logging.WARNING,
        )
