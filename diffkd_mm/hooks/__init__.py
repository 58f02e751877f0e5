"""Hooks beside training."""

from .checkpoint import CheckpointHook
from .folding import FoldBranchesHook, RefuseUnfoldedHook
from .pictures import PicturesHook
from .teacher_metric import TeacherMetricHook
from .unconverted import UnconvertedCheckpointHook
from .waiting import DataWaitHook
from .warm_start import WarmStartHook

__all__ = [
    'CheckpointHook',
    'DataWaitHook',
    'FoldBranchesHook',
    'PicturesHook',
    'RefuseUnfoldedHook',
    'TeacherMetricHook',
    'UnconvertedCheckpointHook',
    'WarmStartHook',
]
