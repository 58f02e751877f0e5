"""Folding a student's branches when training ends."""

from io import BytesIO
from pathlib import Path

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..checkpoints.storage import AtomicBackend
from ..errors import DistillationError
from ..registry import HOOKS
from ..reparam import check_folded, fold_state_dict, is_unfolded
from .wrapping import unwrapped


@HOOKS.register_module()
class FoldBranchesHook(Hook):
    """Writes the folded student as ``student.pth`` into the work dir when training ends.

    The weights are those that the last validation saw: with an EMA, the averaged ones. The file
    loads into the student's own config; checkpoints keep their branches, so that they resume.

    Args:
        filename (str): Name of the file. Defaults to ``'student.pth'``.
    """

    priority = 'VERY_LOW'

    def __init__(self, filename: str = 'student.pth') -> None:
        self.filename = filename

    def before_train(self, runner: Runner) -> None:
        """Looks for branches.

        Raises:
            DistillationError: If the model has none.
        """
        if not is_unfolded(runner.model.state_dict()):
            raise DistillationError(
                'FoldBranchesHook: no layer of the student is in branches; remove the hook.'
            )

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Writes the file.

        Args:
            runner (Runner): The runner, whose model has branches.
        """
        model = unwrapped(runner)
        # A checkpoint's own weights, in which EMA hooks put the average.
        checkpoint = dict(state_dict=model.state_dict())
        runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        weights = {
            name: x
            for name, x in checkpoint['state_dict'].items()
            if not name.startswith('distillation.')
        }
        meta = dict(dataset_meta=getattr(runner.train_dataloader.dataset, 'metainfo', {}))
        path = Path(runner.work_dir) / self.filename
        file = BytesIO()
        torch.save(dict(meta=meta, state_dict=fold_state_dict(weights)), file)
        AtomicBackend().put(file.getvalue(), path)
        runner.logger.info(f'Folded student: {path}')


class RefuseUnfoldedHook(Hook):
    """Refuses a checkpoint in branches for a model that has none, before it is loaded.

    For the tools: MMEngine would warn of missing tensors and go on with random ones.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Looks at the names of the checkpoint's tensors.

        Raises:
            DistillationError: If the model lacks branches that the checkpoint has.
        """
        model = unwrapped(runner)
        weights = checkpoint.get('state_dict', checkpoint)
        check_folded(weights, model, 'the checkpoint')
