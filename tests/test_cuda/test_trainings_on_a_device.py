"""Trainings on a device: resumed, in mixed precision, through the launcher, and of the demo."""

import json
import os
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from devices import CUDA, long_on_the_cpu
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools'))

import train as train_tool  # noqa: E402

# With the one that a GradScaler begins with, all of so few steps would be left out.
SMALL_SCALE = dict(init_scale=16.0, growth_interval=2)


def tensors(x, name: str = '') -> dict[str, Tensor]:
    """All floating-point tensors of a checkpoint by their places in it."""
    if isinstance(x, Tensor):
        return {name: x.double().cpu()} if x.is_floating_point() else {}
    items = x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list) else ()
    return {k: v for key, value in items for k, v in tensors(value, f'{name}.{key}').items()}


def training(folder: Path, checkpoint: Path, name: str, amp: str | None) -> Config:
    """Two epochs with a warm start and an EMA."""
    model = tiny.distiller(checkpoint)
    model['points']['fpn']['connector']['standardize'] = 'channel'
    if amp == 'bfloat16':  # which MMCV's focal loss has not, on a GPU
        loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
        model['student']['bbox_head']['loss_cls'] = loss
    cfg = tiny.training(folder, checkpoint, model=model, val_cfg=None, val_dataloader=None)
    cfg.val_evaluator = None
    cfg.work_dir = str(folder / name)
    cfg.custom_hooks = [
        dict(type='diffkd_mm.WarmStartHook', num_iters=3),
        dict(type='EMAHook', momentum=0.1),
    ]
    if amp is not None:
        cfg.optim_wrapper.update(dtype=amp, loss_scale=SMALL_SCALE)
        train_tool.use_amp(cfg)
    return cfg


def train(cfg: Config) -> Runner:
    cfg.experiment_name = cfg.work_dir.replace('/', '_')  # or two of a second share their logs
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


# What is long: float32 is tested in tests/test_tools/test_training.py, and --amp is bfloat16.
@pytest.mark.parametrize(
    ('device', 'amp'),
    [
        pytest.param('cpu', None, marks=pytest.mark.long),
        ('cpu', 'bfloat16'),
        *(pytest.param('cuda', x, marks=CUDA.marks) for x in (None, 'float16', 'bfloat16')),
    ],
    indirect=['device'],
)
def test_resumed_equals_uninterrupted(
    device, amp, tmp_path, teacher_checkpoint, deterministic, monkeypatch, figure
):
    """Weights, their average, the optimizer's and the loss scaler's state, up to rounding."""
    monkeypatch.setattr(train_tool, 'get_device', lambda: device)
    runner = train(training(tmp_path, teacher_checkpoint, 'whole', amp))
    assert next(runner.model.parameters()).device.type == device
    assert next(runner.model.teacher.model.parameters()).device.type == device
    if device == 'cuda' and amp is not None:
        assert type(runner.optim_wrapper).__name__ == 'AmpOptimWrapper'
        assert runner.optim_wrapper.cast_dtype is getattr(torch, amp)
    cfg = training(tmp_path, teacher_checkpoint, 'resumed', amp)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'whole/epoch_1.pth')
    train(cfg)
    start, whole, resumed = (
        torch.load(tmp_path / path, map_location='cpu', weights_only=False)
        for path in ('whole/epoch_1.pth', 'whole/epoch_2.pth', 'resumed/epoch_2.pth')
    )
    parts = {'state_dict', 'ema_state_dict', 'optimizer'}
    start, whole, resumed = (
        tensors({k: v for k, v in x.items() if k in parts}) for x in (start, whole, resumed)
    )
    assert whole.keys() == resumed.keys() and len(whole) > 500
    size = max(x.abs().max() for x in whole.values())
    assert size.isfinite()
    moved = max((whole[k] - start[k]).abs().max() for k in start if k in whole)
    share = max((whole[k] - resumed[k]).abs().max() for k in whole) / moved
    assert figure('difference, of how far weights moved', share.item()) <= 1e-2


@long_on_the_cpu
def test_through_the_launcher(device, tmp_path, teacher_checkpoint, figure):
    """tools/dist_train.sh --amp: NCCL with every GPU, or Gloo with one process; SyncBN on GPUs."""
    number = torch.cuda.device_count() if device == 'cuda' else 1
    norm = dict(type='SyncBN' if device == 'cuda' else 'BN')
    model = tiny.distiller(teacher_checkpoint)
    model['student']['backbone']['norm_cfg'] = norm
    model['points']['fpn']['connector'].update(norm_cfg=norm, standardize='channel')
    cfg = tiny.training(tmp_path, teacher_checkpoint, max_epochs=1, model=model)
    cfg.train_dataloader.batch_size = 2
    cfg.optim_wrapper.loss_scale = SMALL_SCALE
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.custom_imports = dict(imports=['diffkd_mm', 'tiny_hooks'])
    cfg.custom_hooks = [
        dict(type='CompareReplicasHook', out=str(tmp_path)),
        dict(type='diffkd_mm.WarmStartHook', num_iters=2),
    ]
    cfg.randomness = dict(seed=None, diff_rank_seed=True)
    cfg.dump(tmp_path / 'config.py')
    with socket.socket() as listener:
        listener.bind(('', 0))
        port = listener.getsockname()[1]
    paths = [str(ROOT), str(Path(tiny.__file__).parent), os.environ.get('PYTHONPATH', '')]
    environment = dict(
        os.environ,
        PYTHONPATH=os.pathsep.join(filter(None, paths)),
        PYTHON=sys.executable,
        PORT=str(port),
        OMP_NUM_THREADS='1',
    )
    if device == 'cpu':
        environment['CUDA_VISIBLE_DEVICES'] = ''
    done = subprocess.run(
        ['bash', ROOT / 'tools/dist_train.sh', tmp_path / 'config.py', str(number), '--amp'],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    reports = [json.loads((tmp_path / f'rank_{x}.json').read_text()) for x in range(number)]
    assert figure('processes', reports[0]['world_size']) == number
    assert reports[0]['start'] != reports[0]['end']
    assert {x['end'] for x in reports} == {reports[0]['end']}


def test_the_demo_learns(device, tmp_path, figure):
    """A hundred iterations: finite, falling losses. On the CPU eight of small batches."""
    iterations, batch = (100, 16) if device == 'cuda' else (8, 4)
    cfg = Config.fromfile(ROOT / 'configs/demo/retinanet_digits_diffkd.py')
    cfg.work_dir = str(tmp_path / 'work')
    cfg.train_dataloader.update(batch_size=batch, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.update(data_root=str(tmp_path / 'digits'), num_images=4 * batch)
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations)
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4)]
    cfg.default_hooks.logger.interval = 1
    cfg.log_processor.window_size = 1
    cfg.visualizer.name = cfg.work_dir  # one of a test before would be taken, and its folder
    runner = train(cfg)
    assert next(runner.model.parameters()).device.type == device
    (file,) = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    log = [json.loads(line) for line in file.read_text().splitlines()]
    losses = [entry['loss'] for entry in log]
    assert len(losses) == iterations and all(x < float('inf') for x in losses)
    quarter = iterations // 4
    first, last = statistics.mean(losses[:quarter]), statistics.mean(losses[-quarter:])
    assert figure('last loss, to first', last / first) < 1
    figure('median seconds of an iteration', statistics.median(x['time'] for x in log))
