"""Hooks of the OpenMMLab packages that read, write or average a model's states by name."""

from types import SimpleNamespace

import mmengine
import pytest
import tiny
import torch
import torch.distributed as dist
from mmdet.engine.hooks import SyncNormHook, YOLOXModeSwitchHook
from mmengine.hooks import EMAHook, SyncBuffersHook
from mmengine.model import MMDistributedDataParallel
from mmpretrain.engine.hooks import DenseCLHook, PreciseBNHook
from torch import nn

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


@pytest.fixture
def trained():
    """A distiller with its teacher."""
    model = distiller()
    model.use_teacher(tiny.build(tiny.retinanet(channels=24)))
    return model.train()


@pytest.mark.parametrize('update_buffers', [False, True])
@pytest.mark.parametrize('ema', ['ExponentialMovingAverage', 'mmdet.ExpMomentumEMA'])
def test_averaged_weights_survive_a_checkpoint(trained, ema, update_buffers):
    """EMAHook saves the average in place of the weights; resumed, both are as they were."""
    options = dict(ema_type=ema, update_buffers=update_buffers)
    runner = SimpleNamespace(model=trained, iter=0, epoch=0, _resume=True)
    hook = EMAHook(**options)
    hook.before_run(runner)
    hook.after_train_iter(runner, 0)
    for parameter in trained.parameters():
        parameter.data.add_(1)
    hook.after_train_iter(runner, 1)
    weights, averaged = trained.state_dict(), hook.ema_model.module.state_dict()
    checkpoint = dict(state_dict={k: v.clone() for k, v in weights.items()})
    hook.before_save_checkpoint(runner, checkpoint)
    name = 'backbone.conv1.weight'
    assert torch.equal(checkpoint['state_dict'][name], averaged[name])
    assert not torch.equal(averaged[name], weights[name])
    other = EMAHook(**options)
    other.before_run(resumed := SimpleNamespace(model=distiller(), _resume=True))
    other.after_load_checkpoint(resumed, checkpoint)
    for key, value in other.ema_model.module.state_dict().items():
        assert torch.equal(value, averaged[key]), key
    assert all(torch.equal(checkpoint['state_dict'][k], v) for k, v in weights.items())


def test_precise_norms_are_the_students(trained, monkeypatch):
    """PreciseBNHook runs the student; the connectors' norms, which then do not run, stay."""
    before = {n: m.running_mean.clone() for n, m in norms(trained).items()}
    monkeypatch.setattr(mmengine.dist, 'get_dist_info', lambda: (1, 1))  # no progress bar

    class Loader(list):
        batch_size = 2

    loop = SimpleNamespace(dataloader=Loader(tiny.batch() for _ in range(2)))
    runner = SimpleNamespace(model=trained, train_loop=loop, logger='silent')
    with torch.no_grad():
        PreciseBNHook(num_samples=4)._perform_precise_bn(runner)
    for name, module in norms(trained).items():
        changed = not torch.allclose(module.running_mean, before[name])
        assert changed == name.startswith('student.'), name


def test_hooks_that_switch_something_in_the_model(trained):
    """YOLOX's finds the head by its name; DenseCL's sets an attribute of the model itself."""
    loader = SimpleNamespace(dataset=SimpleNamespace(update_skip_type_keys=lambda keys: None))
    runner = SimpleNamespace(
        model=trained,
        epoch=9,
        max_epochs=10,
        iter=0,
        train_dataloader=loader,
        logger=SimpleNamespace(info=lambda line: None),
    )
    YOLOXModeSwitchHook(num_last_epochs=1).before_train_epoch(runner)
    assert trained.student.bbox_head.use_l1
    trained.student.loss_lambda = 0.5
    hook = DenseCLHook(start_iters=10)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert trained.student.loss_lambda == 0 and 'loss_lambda' not in trained.__dict__


def test_replaced_parts_are_the_students(trained):
    head = nn.Identity()
    trained.bbox_head = head
    assert trained.student.bbox_head is head
    assert 'bbox_head' not in dict(trained.named_children())
    trained.dataset_meta = dict(classes=('a',))  # the student has none of its own
    assert trained.__dict__['dataset_meta'] and not hasattr(trained.student, 'dataset_meta')
