"""Initialising parts of the student with the teacher's tensors."""

from collections.abc import Sequence

from mmengine.logging import print_log
from torch import nn

from ..errors import DistillationError


def inherit_tensors(student: nn.Module, teacher: nn.Module, parts: Sequence[str]) -> None:
    """Copies the teacher's tensors of equal name and shape into parts of the student.

    Args:
        student (nn.Module): The student.
        teacher (nn.Module): The teacher.
        parts (Sequence[str]): Paths of modules, such as ``['neck', 'bbox_head']``.

    Raises:
        DistillationError: If nothing of a part fits.
    """
    source, target = teacher.state_dict(), student.state_dict()
    for part in parts:
        mine = [name for name in target if name.startswith(part + '.')]
        fitting = [
            name for name in mine if name in source and source[name].shape == target[name].shape
        ]
        if not fitting:
            raise DistillationError(
                f'inherit={list(parts)}: no tensor of {part!r} has the same name and '
                f'shape in student ({len(mine)} tensors) and teacher.'
            )
        for name in fitting:
            target[name].copy_(source[name])
        print_log(
            f'{part}: {len(fitting)} of {len(mine)} tensors inherited from the teacher',
            logger='current',
        )
