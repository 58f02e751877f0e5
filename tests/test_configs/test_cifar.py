"""The configs of Table 9 and of CIFAR-10: the recipe in numbers, and a real step of each."""

import os
from copy import deepcopy
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR100
from mmpretrain.structures import DataSample

import diffkd_mm  # noqa: F401  registers the distiller
from diffkd_mm.taps import probing

CONFIGS = Path(__file__).parents[2] / 'configs'
# Channels of the feature before pooling, 100 classes.
CHANNELS = dict(
    wrn40_1=64,
    wrn40_2=128,
    resnet20=64,
    resnet56=64,
    resnet8x4=256,
    resnet32x4=256,
    resnet50=2048,
    mobilenet_v2=1280,
    shufflenet_v1=960,
    shufflenet_v2=1024,
    vgg13=512,  # a teacher of KDiffusion's pairs
)
LIGHT = ('mobilenet_v2', 'shufflenet_v1', 'shufflenet_v2')  # lr 0.01, and maps of half the size
PAIRS = {
    'cifar100': {
        'wrn40_1': 'wrn40_2',
        'resnet20': 'resnet56',
        'resnet8x4': 'resnet32x4',
        'mobilenet_v2': 'resnet50',
        'shufflenet_v1': 'resnet32x4',
        'shufflenet_v2': 'resnet32x4',
    },
    'cifar10': {
        'resnet8x4': 'resnet32x4',
        'wrn40_1': 'wrn40_2',
        'shufflenet_v1': 'resnet32x4',
    },
}
ALONE = {  # the configs without a teacher by the name of their network
    'cifar100': {name: name for name in CHANNELS},
    'cifar10': {
        **{name: f'{name}_student' for name in PAIRS['cifar10']},
        **{name: f'{name}_teacher' for name in PAIRS['cifar10'].values()},
    },
}
CASES = [(data, *pair) for data, pairs in PAIRS.items() for pair in pairs.items()]
SCHEDULE = {0: 1.0, 149: 1.0, 150: 0.1, 179: 0.1, 180: 0.01, 209: 0.01, 210: 0.001, 239: 0.001}


@cache
def read(path, schedule):
    return Config.fromfile(path)


def load(data, name):
    """A config of its own; files are read once for each length that the environment asks for."""
    path = CONFIGS / data / f'{name}.py'
    return deepcopy(read(path, os.environ.get('CIFAR10_SCHEDULE')))


def points(data, method, student, teacher):
    """The points of a method, written down a second time."""
    resize = dict(resize=True) if student in LIGHT else {}
    feature = dict(student='backbone', teacher='backbone', **resize)
    logits = dict(student='head.fc', teacher='head.fc')
    channels = dict(student_channels=CHANNELS[student], teacher_channels=CHANNELS[teacher])
    classes = dict.fromkeys(channels, 100 if data == 'cifar100' else 10)
    mse = dict(type='MSELoss', loss_weight=1.0)
    if method == 'kd':
        return dict(logits=dict(**logits, loss=dict(type='KLDivLoss', tau=4.0, loss_weight=0.9)))
    if method == 'dist':
        loss = dict(type='DISTLoss', beta=2.0, gamma=2.0, tau=4.0)
        return dict(logits=dict(**logits, loss=loss))
    if method == 'fitnet':
        connector = dict(type='ConvConnector', **channels)
        return dict(feature=dict(**feature, connector=connector, loss=mse))
    return dict(
        feature=dict(**feature, connector=dict(type='DiffKDConnector', **channels), loss=mse),
        logits=dict(
            **logits,
            connector=dict(
                type='DiffKDConnector',
                **classes,
                denoiser=dict(type='VectorDenoiser'),
                noise_adapter=dict(type='VectorNoiseAdapter'),
            ),
            loss=dict(type='KLDivLoss', tau=1.0, loss_weight=1.0),
        ),
    )


LOSSES = dict(
    kd={'logits.loss_kd'},
    dist={'logits.loss_kd'},
    fitnet={'feature.loss_kd'},
    diffkd={f'{point}.loss_{kind}' for point in ('feature', 'logits') for kind in ('kd', 'diff')},
)


def build(cfg):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    return MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))


@cache
def network(data, name):
    """A config's network with random weights, built once for the whole file."""
    return build(load(data, ALONE[data][name]))


def batch():
    samples = [DataSample().set_gt_label(label) for label in (0, 3, 6, 9)]
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    return dict(inputs=images, data_samples=samples)


def step(model, cfg):
    """The losses of one training step, which changes the model."""
    before = next(model.backbone.parameters()).detach().clone()
    log = model.train_step(batch(), build_optim_wrapper(model.train(), cfg.optim_wrapper))
    assert all(torch.isfinite(value) for value in log.values())
    assert not torch.equal(next(model.backbone.parameters()), before)
    return {key for key in log if 'loss' in key}


@pytest.fixture(autouse=True)
def small_probe(monkeypatch):
    """Shapes are compared on a blank image as small as CIFAR's."""
    monkeypatch.setattr(probing, 'PROBE_SIZES', (32,))


def test_all_configs_are_tested():
    for data, pairs in PAIRS.items():
        names = {f'{s}_{t}_{method}' for s, t in pairs.items() for method in LOSSES}
        found = {path.stem for path in (CONFIGS / data).glob('*.py')}
        assert found == names | set(ALONE[data].values())


@pytest.mark.parametrize('pair', ['wrn40_1_wrn40_2', 'resnet8x4_resnet32x4'])
def test_warm_start(pair):
    twin = load('cifar10', f'{pair}_diffkd')
    warm = load('cifar10', f'ablations/{pair}_diffkd_warm_start')
    assert warm.model == twin.model and 'custom_hooks' not in twin
    assert [HOOKS.build(hook).num_iters for hook in warm.custom_hooks] == [twin.train_cfg.max_iters]


@pytest.mark.parametrize('data, student, teacher', CASES)
def test_step(data, student, teacher):
    teacher_model = network(data, teacher)
    frozen = teacher_model.head.fc.weight.clone()
    for method, losses in LOSSES.items():
        cfg = load(data, f'{student}_{teacher}_{method}')
        model = build(cfg)
        model.use_teacher(teacher_model)
        assert step(model, cfg) == {'loss'} | losses
        assert cfg.model.points == points(data, method, student, teacher)
        weight = 0.1 if method == 'kd' else 1.0
        assert cfg.model.student.head.loss == dict(type='CrossEntropyLoss', loss_weight=weight)
    assert torch.equal(teacher_model.head.fc.weight, frozen)


@pytest.mark.parametrize('data, name', [(d, n) for d, names in ALONE.items() for n in names])
def test_step_alone(data, name):
    cfg = load(data, ALONE[data][name])
    model = network(data, name)
    assert model.head.fc.out_features == (100 if data == 'cifar100' else 10)
    assert model.head.fc.in_features == CHANNELS[name]
    model.requires_grad_(True)  # as a teacher it was frozen
    assert step(model, cfg) == {'loss'}


@pytest.mark.parametrize('data, student, teacher', CASES)
def test_methods_differ_from_the_student_alone_in_the_model(data, student, teacher):
    alone = load(data, ALONE[data][student])
    teacher_file = CONFIGS / data / f'{ALONE[data][teacher]}.py'
    for method in LOSSES:
        cfg = load(data, f'{student}_{teacher}_{method}')
        cfg.model.student.head.loss.loss_weight = 1.0  # KD has another, tested above
        assert cfg.model.student == alone.model
        assert Path(cfg.model.teacher.config).samefile(teacher_file)
        for key in ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
            assert cfg[key] == alone[key]
        # A teacher sees the images as it did when it was trained.
        assert cfg.data_preprocessor == Config.fromfile(teacher_file).data_preprocessor


def learning_rates(cfg, steps):
    """The learning rate in each step, an epoch or an iteration."""
    init_default_scope('mmpretrain')
    wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), cfg.optim_wrapper)
    scheduler = PARAM_SCHEDULERS.build(dict(cfg.param_scheduler, optimizer=wrapper))
    rates = []
    for _ in range(steps):
        rates += wrapper.get_lr()['lr']
        wrapper.optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize('name', list(CHANNELS))
def test_strategy_a1(name):
    cfg = load('cifar100', name)
    lr = 0.01 if name in LIGHT else 0.05
    assert cfg.optim_wrapper == dict(
        optimizer=dict(type='SGD', lr=lr, momentum=0.9, weight_decay=5e-4)
    )
    rates = learning_rates(cfg, 240)
    assert {epoch: rates[epoch] for epoch in SCHEDULE} == pytest.approx(
        {epoch: lr * factor for epoch, factor in SCHEDULE.items()}
    )
    assert cfg.param_scheduler.by_epoch and cfg.train_cfg.by_epoch
    assert cfg.train_cfg.max_epochs == 240
    train, val = cfg.train_dataloader, cfg.val_dataloader
    assert train.batch_size == cfg.auto_scale_lr.base_batch_size == 64
    assert (train.dataset.padding, train.dataset.flip_prob) == (4, 0.5)
    assert train.dataset.dataset.split == 'train' and val.dataset.dataset.split == 'test'
    assert train.sampler.shuffle and not val.sampler.shuffle
    assert train.num_workers == val.num_workers == 0
    assert not {'padding', 'flip_prob'} & set(val.dataset)
    assert cfg.test_dataloader == val
    assert cfg.val_evaluator.type == 'Accuracy' and cfg.test_evaluator == cfg.val_evaluator
    mean, std = (torch.tensor(cfg.data_preprocessor[key]) / 255 for key in ('mean', 'std'))
    torch.testing.assert_close(mean, torch.tensor([0.5071, 0.4867, 0.4408]))
    torch.testing.assert_close(std, torch.tensor([0.2675, 0.2565, 0.2761]))
    assert cfg.custom_imports.imports == ['diffkd_mm']


@pytest.mark.parametrize('name', list(ALONE['cifar10']))
def test_length_on_cifar10(name, monkeypatch):
    """A part of A1, with the drops of the learning rate at the same parts; or all of it."""
    monkeypatch.delenv('CIFAR10_SCHEDULE', raising=False)
    short = load('cifar10', ALONE['cifar10'][name])
    monkeypatch.setenv('CIFAR10_SCHEDULE', 'a1')
    full = load('cifar10', ALONE['cifar10'][name])
    assert full.train_cfg.max_iters == 240 * 782
    assert short.train_cfg.max_iters == (1200 if name in PAIRS['cifar10'].values() else 400)
    for cfg in (short, full):
        max_iters, scheduler = cfg.train_cfg.max_iters, cfg.param_scheduler
        assert scheduler.milestones == [max_iters * epoch // 240 for epoch in (150, 180, 210)]
        assert not scheduler.by_epoch and not cfg.train_cfg.by_epoch
        assert max_iters % cfg.train_cfg.val_interval == 0
        assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval
        assert cfg.train_dataloader.sampler.type == 'InfiniteSampler'
        assert cfg.train_dataloader.batch_size == 64
    rates = learning_rates(short, short.train_cfg.max_iters)
    lr = 0.01 if name in LIGHT else 0.05
    for i, milestone in enumerate(short.param_scheduler.milestones):
        assert rates[milestone - 1] == pytest.approx(lr / 10**i)
    assert rates[0] == lr and rates[-1] == pytest.approx(lr / 1000)


@pytest.mark.parametrize('environment', ['cpu', 'a1'])
@pytest.mark.parametrize('student, teacher', PAIRS['cifar10'].items())
def test_the_teachers_checkpoint_is_its_last(student, teacher, environment, monkeypatch):
    monkeypatch.setenv('CIFAR10_SCHEDULE', environment)
    cfg = load('cifar10', f'{student}_{teacher}_diffkd')
    last = load('cifar10', f'{teacher}_teacher').train_cfg.max_iters
    assert cfg.model.teacher.checkpoint == f'work_dirs/cifar10/{teacher}/iter_{last}.pth'


def check_red(dataloader, cfg):
    """Checks what the model sees of red images, and returns the labels of their batch."""
    preprocessor = MODELS.build(dict(cfg.data_preprocessor, type='ClsDataPreprocessor'))
    batch = preprocessor(next(iter(dataloader)), training=True)
    mean, std = (torch.tensor(cfg.data_preprocessor[key]) for key in ('mean', 'std'))
    expected = (torch.tensor([255.0, 0.0, 0.0]) - mean) / std
    # In the centre: the border may be padding.
    torch.testing.assert_close(batch['inputs'][0, :, 16, 16], expected)
    return [sample.gt_label.item() for sample in batch['data_samples']]


def test_images_of_cifar10_are_loaded_as_rgb(tmp_path):
    for split in ('train', 'test'):
        for name in ('cat', 'dog'):
            path = tmp_path / split / name / '0.png'
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), np.tile(np.uint8([0, 0, 255]), (32, 32, 1)))  # BGR
    init_default_scope('mmpretrain')
    cfg = load('cifar10', 'resnet8x4_student')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.dataset.data_root = str(tmp_path)
        built = Runner.build_dataloader(loader, seed=0)
        assert built.dataset.metainfo['classes'] == ('cat', 'dog')
        check_red(built, cfg)


def test_images_of_cifar100_are_rgb(monkeypatch):
    image = np.tile(np.uint8([255, 0, 0]), (32, 32, 1))
    monkeypatch.setattr(
        CIFAR100,
        'load_data_list',
        lambda self: [dict(img=image, gt_label=label) for label in range(100)],
    )
    init_default_scope('mmpretrain')
    cfg = load('cifar100', 'resnet8x4')
    assert len(set(check_red(Runner.build_dataloader(cfg.train_dataloader, seed=0), cfg))) == 64
    labels = check_red(Runner.build_dataloader(cfg.val_dataloader, seed=0), cfg)
    assert labels == list(range(100))


def test_table_has_the_papers_figures():
    """The README and the metafile are written by hand: they must not contradict each other."""
    table = (CONFIGS / 'cifar100/README.md').read_text()
    for model in yaml.safe_load((CONFIGS / 'cifar100/metafile.yml').read_text())['Models']:
        figures = ' ± '.join(f'{x:.2f}' for x in model['Paper Results'])
        assert f'[{figures}]({model["Name"]}.py)' in table
