"""A student's checkpoint with the names of another project stops training before it begins."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..checkpoints import refuse_cirkd
from ..registry import HOOKS


@HOOKS.register_module()
class UnconvertedCheckpointHook(Hook):
    """Refuses a file of CIRKD that ``load_from`` or a test program gives to a student.

    None of its names would fit, and MMEngine would go on with random weights after a warning.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Looks at the names.

        Raises:
            DistillationError: If they are CIRKD's; it names the converter.
        """
        weights = checkpoint.get('state_dict', checkpoint)
        refuse_cirkd({name.removeprefix('module.') for name in weights}, 'the checkpoint')
