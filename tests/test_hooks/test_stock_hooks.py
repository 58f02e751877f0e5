"""Hooks of the OpenMMLab packages that read, write or average a model's states by name."""

from types import SimpleNamespace

import mmengine
import pytest
import tiny
import torch
import torch.distributed as dist
from mmdet.engine.hooks import MeanTeacherHook, SyncNormHook, YOLOXModeSwitchHook
from mmengine.hooks import EMAHook, SyncBuffersHook
from mmengine.model import MMDistributedDataParallel
from mmpretrain.engine.hooks import DenseCLHook, PreciseBNHook
from torch import nn

from diffkd_mm.errors import DistillationError

CONNECTOR_WITH_NORM = dict(
    type='DiffKDConnector', student_channels=16, teacher_channels=24, latent_channels=8
)


def distiller():
    model = tiny.build(
        dict(
            type='diffkd_mm.Distiller',
            student=tiny.retinanet(),
            teacher=dict(config='none', checkpoint='none'),
            points=dict(fpn=dict(tiny.FPN_POINT, connector=CONNECTOR_WITH_NORM)),
        )
    )
    return model.train()


def norms(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}


def _sync_norms(rank, folder):
    """One of two processes whose running means are 1 and 3."""
    dist.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    torch.manual_seed(0)
    results = {}
    for hook in (SyncNormHook, SyncBuffersHook):
        model = MMDistributedDataParallel(distiller(), broadcast_buffers=False)
        for module in norms(model).values():
            module.running_mean.fill_(1.0 + 2 * rank)
        hook().before_val_epoch(SimpleNamespace(model=model))
        results[hook.__name__] = {n: m.running_mean for n, m in norms(model).items()}
    torch.save(results, folder / f'rank_{rank}.pth')
    dist.destroy_process_group()


def test_norms_of_two_processes_are_synchronized(tmp_path):
    """SyncNormHook, of YOLOX's configs, saves by the names of modules."""
    torch.multiprocessing.spawn(_sync_norms, (tmp_path,), nprocs=2)
    for rank in range(2):
        for hook, means in torch.load(tmp_path / f'rank_{rank}.pth').items():
            assert any('.student.backbone.' in n for n in means)
            assert any('.distillation.fpn.' in n for n in means)
            assert all((mean == 2).all() for mean in means.values()), hook
