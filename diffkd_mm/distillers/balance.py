"""Weights that carry over: a point's loss as a multiple of the student's own."""

from collections.abc import Sequence
from typing import Literal

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import DistillationError
from ..options import PositiveFloat, PositiveInt
from ..registry import MODELS

# What a loss is multiplied by for its gradients, of which float16 would lose the small ones: the
# first that overflows nothing.
_SCALES = (2.0**16, 2.0**8, 1.0)


@MODELS.register_module()
class LossBalance(nn.Module):
    """Finds the factor of a point's ``loss_kd`` that makes it a multiple of the student's losses.

    With means over the first iterations, factor · ``loss_kd`` = ratio · sum of the student's own
    losses; or the same of the norms of their gradients at the student's tap. While it measures,
    every iteration gets the factor of the means so far; then the factor stays. Whatever multiplies
    ``loss_kd`` already, such as a ``loss_weight``, cancels.

    What was measured is averaged over all processes and kept in buffers, so that a resumed training
    has the same factor; one that starts from another's checkpoint by ``load_from`` measures anew.
    Not in the paper, which adjusts weights by hand "to keep a similar amount of loss value" between
    detectors (appendix B.3).

    Args:
        ratio (float): What ``loss_kd``, or its gradient, shall be of the student's.
        iters (int): Iterations to measure for. Defaults to 50.
        by (str): ``'loss'``; or ``'gradient'``, which takes two more backward passes as deep as the
            tap in each of these iterations. Defaults to ``'loss'``.
    """

    def __init__(
        self,
        ratio: PositiveFloat,
        iters: PositiveInt = 50,
        by: Literal['loss', 'gradient'] = 'loss',
    ) -> None:
        super().__init__()
        self.ratio = ratio
        self.iters = iters
        self.by = by
        self.register_buffer('measured', torch.tensor(0))  # iterations
        self.register_buffer('sums', torch.zeros(2))  # over them: the student's, the point's
        self._fixed = False  # spares the look at the buffer, for which a GPU would be waited

    def reset(self) -> None:
        """Forgets what was measured: the next iterations measure anew."""
        self.measured.zero_()
        self.sums.zero_()
        self._fixed = False

    @property
    def factor(self) -> Tensor:
        """What ``loss_kd`` is multiplied by: a number, 1 before anything was measured."""
        own, distilled = self.sums
        return torch.where(distilled > 0, self.ratio * own / distilled, 1.0)

    def forward(self, own: Tensor, loss_kd: Tensor, taps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Scales ``loss_kd``; in the first iterations of a training it measures before.

        Args:
            own (Tensor): Sum of the student's own losses.
            loss_kd (Tensor): The point's loss.
            taps (Sequence[Tensor]): The student's tensors at the tap.

        Returns:
            dict[str, Tensor]: The scaled ``loss_kd``, and its factor as ``balance``.

        Raises:
            DistillationError: If gradients are asked for and none reaches the tap, or they cannot
                be had behind reentrant activation checkpointing.
        """
        if self.training and not self._fixed:
            self._fixed = bool(self.measured >= self.iters)
            if not self._fixed:
                self._measure(own, loss_kd, taps)
        factor = self.factor
        return dict(loss_kd=factor * loss_kd, balance=factor)

    def _measure(self, own: Tensor, loss_kd: Tensor, taps: Sequence[Tensor]) -> None:
        sizes = (own, loss_kd) if self.by == 'loss' else _gradient_norms(own, loss_kd, taps)
        sizes = torch.stack([size.detach().to(self.sums) for size in sizes])
        all_reduce(sizes, 'mean')
        # Else nothing was distilled, as where no region was sampled, or float16 had no room for it.
        if sizes[1] > 0 and sizes.isfinite().all():
            self.sums += sizes
            self.measured += 1
            if self.measured == self.iters:
                print_log(f'Balance: loss_kd is multiplied by {self.factor:.4g}', logger='current')


def _gradient_norms(own: Tensor, loss_kd: Tensor, taps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Norms of both losses' gradients at those levels of the tap that are distilled."""
    taps = [x for x in taps if x.requires_grad]
    if not taps:
        raise DistillationError(
            "balance has by='gradient', and all layers before the student's tap are frozen: no "
            "gradient reaches it. Set by='loss'."
        )
    try:
        (of_own, own_scale), (of_kd, kd_scale) = (_gradients(loss, taps) for loss in (own, loss_kd))
    except RuntimeError as error:
        if 'checkpoint' not in str(error).lower():
            raise
        raise DistillationError(
            "balance has by='gradient', and there is activation checkpointing behind the student's "
            'tap, in its reentrant form, which gives gradients to a full backward pass only. Set '
            "by='loss', or with_cp=False in the student."
        ) from error
    of_own = [x for x, y in zip(of_own, of_kd) if x is not None and y is not None]
    if not of_own:
        raise DistillationError(
            "balance has by='gradient', and the student's own losses do not depend on the tap. Set "
            "by='loss'."
        )
    return _norm(of_own) / own_scale, _norm([x for x in of_kd if x is not None]) / kd_scale


def _gradients(loss: Tensor, taps: Sequence[Tensor]) -> tuple[Sequence[Tensor | None], float]:
    """Gradients of a multiple of a loss, None where it does not depend on a tap, and the factor."""
    for scale in _SCALES:
        found = torch.autograd.grad(scale * loss, taps, retain_graph=True, allow_unused=True)
        if all(x.isfinite().all() for x in found if x is not None):
            break
    return found, scale


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all elements of all tensors."""
    return torch.stack([x.float().norm() for x in tensors]).norm()
