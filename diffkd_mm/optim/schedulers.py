"""Learning rates that MMEngine's schedulers do not give."""

from math import floor

from mmengine.optim.scheduler import StepLR as _StepLR

from ..registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class StepLR(_StepLR):
    """MMEngine's ``StepLR``, for which ``step_size`` may be a fraction.

    The learning rate is ``gamma ** floor(step / step_size)`` times the first. MMEngine's falls only
    where ``step`` is a multiple of ``step_size``, and of 2.4 epochs of 1668 iterations hardly a
    multiple is a whole iteration.

    Args:
        optimizer (Optimizer | BaseOptimWrapper): The optimizer.
        step_size (float): Length of a step in epochs, in iterations with ``by_epoch=False``.
        gamma (float): Factor of each step. Defaults to 0.1.
        begin (int): First epoch (iteration), from which steps are counted. Defaults to 0.
        end (int): The last one. Defaults to never.
        by_epoch (bool): What counts, epochs or iterations. Defaults to True.
        **kwargs: As for MMEngine's ``StepLR``; with ``convert_to_iter_based=True`` a config that
            counts epochs has its steps after whole iterations.
    """

    def _get_value(self) -> list[float]:
        before, now = (
            floor(step / self.step_size + 1e-9)  # a multiple may come out a trifle smaller
            for step in (max(self.last_step - 1, 0), self.last_step)
        )
        factor = self.gamma ** (now - before)
        return [group[self.param_name] * factor for group in self.optimizer.param_groups]
