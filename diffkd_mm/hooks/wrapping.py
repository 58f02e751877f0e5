"""The model that a runner trains, behind the wrapper that several processes put around it."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def unwrapped(runner: Runner) -> nn.Module:
    """The runner's model without DDP or the like around it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
