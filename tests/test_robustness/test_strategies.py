"""MMEngine's FlexibleRunner: the strategies that a distiller trains with, and the others."""

from types import SimpleNamespace

import pytest
import tiny
import torch
import toy
from mmengine.model import MMFullyShardedDataParallel, MMSeparateDistributedDataParallel
from mmengine.runner import FlexibleRunner, Runner

from diffkd_mm.errors import DistillationError
from diffkd_mm.hooks import CheckpointHook

WRAPPER = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)


def training(folder, teacher_checkpoint, name: str, **options):
    cfg = tiny.training(folder, teacher_checkpoint)
    cfg.work_dir, cfg.experiment_name = str(folder / name), f'{folder.name}_{name}'
    cfg.train_dataloader.batch_size = 2
    cfg.update(options, env_cfg=dict(dist_cfg=dict(backend='gloo')))
    return cfg


def weights(folder, name: str):
    """Under the names of the student; MMEngine's DDPStrategy leaves the wrapper's in front."""
    weights = torch.load(folder / name / 'epoch_2.pth', weights_only=False)['state_dict']
    return {name.removeprefix('module.'): value for name, value in weights.items()}


def test_one_process_trains_as_with_the_plain_runner(tmp_path, teacher_checkpoint):
    """And writes the same student."""
    Runner.from_cfg(training(tmp_path, teacher_checkpoint, 'plain')).train()
    FlexibleRunner.from_cfg(training(tmp_path, teacher_checkpoint, 'flexible')).train()
    assert toy.differences(weights(tmp_path, 'plain'), weights(tmp_path, 'flexible')) == []


@pytest.mark.long
def test_two_processes_with_ddp(tmp_path, teacher_checkpoint):
    options = dict(launcher='pytorch')
    plain = training(tmp_path, teacher_checkpoint, 'plain', model_wrapper_cfg=WRAPPER, **options)
    strategy = dict(type='DDPStrategy', model_wrapper=WRAPPER)
    other = training(tmp_path, teacher_checkpoint, 'flexible', strategy=strategy, **options)
    toy.in_two_processes(tmp_path / 'a', lambda: Runner.from_cfg(plain).train())
    toy.in_two_processes(tmp_path / 'b', lambda: FlexibleRunner.from_cfg(other).train())
    assert toy.differences(weights(tmp_path, 'plain'), weights(tmp_path, 'flexible')) == []


@pytest.mark.long
def test_fsdp_is_refused_before_the_first_step(tmp_path, teacher_checkpoint):
    wrapper = dict(type='MMFullyShardedDataParallel', use_orig_params=True, device_id='cpu')
    strategy = dict(type='FSDPStrategy', state_dict_cfg='full', model_wrapper=wrapper)
    cfg = training(tmp_path, teacher_checkpoint, 'fsdp', strategy=strategy, launcher='pytorch')

    def train() -> None:
        with pytest.raises(DistillationError, match='strategy=FSDPStrategy: it cuts'):
            FlexibleRunner.from_cfg(cfg).train()

    toy.in_two_processes(tmp_path, train)
    plain = training(
        tmp_path, teacher_checkpoint, 'fsdp', model_wrapper_cfg=wrapper, launcher='pytorch'
    )

    def train_with_the_plain_runner() -> None:
        with pytest.raises(DistillationError, match='=MMFullyShardedDataParallel: it wraps'):
            Runner.from_cfg(plain).train()

    toy.in_two_processes(tmp_path, train_with_the_plain_runner)
    assert not list((tmp_path / 'fsdp').glob('*.pth'))


@pytest.mark.parametrize('name', ['FSDPStrategy', 'DeepSpeedStrategy', 'ColossalAIStrategy'])
def test_only_distillers_are_refused(name, teacher_checkpoint):
    strategy = type(name, (), {})()
    rest = dict(strategy=strategy, _resume=False, _load_from=None)
    CheckpointHook().before_run(SimpleNamespace(model=tiny.build(tiny.retinanet()), **rest))
    model = tiny.build(tiny.distiller(teacher_checkpoint))
    distiller = SimpleNamespace(model=model, **rest)
    with pytest.raises(DistillationError, match=f'strategy={name}: .* use DDPStrategy'):
        CheckpointHook().before_run(distiller)


@pytest.mark.parametrize(
    ('wrapper', 'name'),
    [
        (MMFullyShardedDataParallel, '_fsdp_wrapped_module'),
        (MMSeparateDistributedDataParallel, 'module'),
    ],
)
def test_wrappers_of_the_parts_are_refused(wrapper, name, teacher_checkpoint):
    """Before an epoch is lost: FSDP fails at the checkpoint only."""

    def wrapped(model: torch.nn.Module) -> SimpleNamespace:
        outer = wrapper.__new__(wrapper)  # to build one takes processes
        torch.nn.Module.__init__(outer)
        outer._modules[name] = model
        return SimpleNamespace(model=outer, _resume=False, _load_from=None)

    CheckpointHook().before_run(wrapped(tiny.build(tiny.retinanet())))
    distiller = wrapped(tiny.build(tiny.distiller(teacher_checkpoint)))
    with pytest.raises(DistillationError, match=f'{wrapper.__name__}: .* MMDistributedDataPar'):
        CheckpointHook().before_run(distiller)
