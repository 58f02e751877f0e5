"""RMSProp as TensorFlow computes it, for which the strategies of mobile networks are tuned."""

from collections.abc import Callable, Iterable

import torch
from torch.optim import Optimizer

from ..registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class RMSpropTF(Optimizer):
    """RMSProp in TensorFlow's form (``tf.compat.v1.train.RMSPropOptimizer``).

    With gradient g, average of squares v (at first 1) and momentum buffer m (at first 0):

    .. code-block:: text

        v ← α·v + (1 − α)·g²
        m ← μ·m + lr·g / √(v + ε)
        θ ← θ − m

    :class:`torch.optim.RMSprop` starts v at 0, so that its first steps are of lr/√(1 − α) however
    small the gradient is; it adds ε to the root, which makes another number of an ε that is not
    tiny (the strategies' is 1e-3); and it multiplies all of m with the current lr, where here each
    gradient keeps the one it came with.

    Args:
        params (Iterable): Parameters, or groups of them.
        lr (float): Learning rate. Defaults to 1e-2.
        alpha (float): Decay α of the average of squares. Defaults to 0.9.
        eps (float): ε inside the root. Defaults to 1e-10, TensorFlow's.
        momentum (float): Momentum μ. Defaults to 0.0.
        weight_decay (float): Factor of the parameters that is added to their gradients (L2).
            Defaults to 0.0.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        alpha: float = 0.9,
        eps: float = 1e-10,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        options = dict(lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay)
        for name, value in options.items():
            below_one = name in ('alpha', 'momentum')
            if value < 0 or (below_one and value >= 1):
                allowed = 'in [0, 1)' if below_one else 'at least 0'
                raise ValueError(f'RMSpropTF: {name}={value} must be {allowed}.')
        super().__init__(params, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Updates all parameters that have a gradient.

        Args:
            closure (Callable, optional): Computes the loss and its gradients anew.

        Returns:
            float, optional: What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state['square_avg'] = torch.ones_like(parameter)
            state['momentum_buffer'] = torch.zeros_like(parameter)
        square_avg, momentum_buffer = state['square_avg'], state['momentum_buffer']
        grad = parameter.grad
        if group['weight_decay'] != 0:
            grad = grad.add(parameter, alpha=group['weight_decay'])
        square_avg.lerp_(grad.square(), 1 - group['alpha'])
        root = square_avg.add(group['eps']).sqrt_()
        momentum_buffer.mul_(group['momentum']).addcdiv_(grad, root, value=group['lr'])
        parameter.sub_(momentum_buffer)
