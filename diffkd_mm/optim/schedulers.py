"""Learning rates that MMEngine's schedulers do not give."""

from mmengine.optim.scheduler import ExponentialLR as _ExponentialLR

from ..registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class ExponentialLR(_ExponentialLR):
    """MMEngine's ``ExponentialLR``, for which ``gamma`` stays a factor per epoch.

    With ``convert_to_iter_based=True`` MMEngine's applies the same ``gamma`` after every iteration.
    Here each iteration takes its share: after any number of epochs, a fraction too, the learning
    rate has been multiplied by ``gamma`` to their power. Of MMEngine's ``StepLR`` with a step of
    2.4 epochs nothing would be left: hardly a multiple of it is a whole iteration.

    Args:
        optimizer (Optimizer | BaseOptimWrapper): The optimizer.
        gamma (float): Factor per epoch; per iteration with ``by_epoch=False``.
        begin (int): First epoch (iteration) of the decay. Defaults to 0.
        end (int): Its last one. Defaults to never.
        by_epoch (bool): What counts, epochs or iterations. Defaults to True.
    """

    @classmethod
    def build_iter_from_epoch(
        cls, *args, gamma: float, epoch_length: int | None = None, **kwargs
    ) -> 'ExponentialLR':
        """Builds the scheduler that acts after every iteration from options that count epochs.

        Args:
            gamma (float): Factor per epoch.
            epoch_length (int): Iterations per epoch.
        """
        gamma = gamma ** (1 / epoch_length)
        return super().build_iter_from_epoch(
            *args, gamma=gamma, epoch_length=epoch_length, **kwargs
        )
