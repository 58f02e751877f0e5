"""The configs of Tables 2 and 3: the recipe in numbers, and a real step of each at full size."""

import functools
import gc
import re
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import mmcv
import mmpretrain
import numpy as np
import pytest
import tiny
import torch
import yaml
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner

from diffkd_mm.checkpoints import convert_published
from diffkd_mm.checkpoints.reading import model_weights, read_checkpoint_file
from diffkd_mm.configs import zoo_checkpoint
from diffkd_mm.distillers import FrozenTeacher
from diffkd_mm.errors import DistillationError
from diffkd_mm.optim import RMSpropTF

CONFIGS = Path(__file__).parents[2] / 'configs'
FOLDER = CONFIGS / 'classification'
ZOO = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
TABLE_1 = dict(
    b1=dict(epochs=100, batch=256, type='SGD', lr=0.1, weight_decay=1e-4),
    b2=dict(epochs=450, batch=768, type='diffkd_mm.RMSpropTF', lr=0.048, weight_decay=1e-5),
    b3=dict(epochs=300, batch=1024, type='AdamW', lr=5e-4, weight_decay=5e-2),
)


class Row(NamedTuple):
    """A row of Table 2 or 3: its student and teacher, and channels of student, teacher, latent."""

    student: str
    teacher: str
    channels: tuple[int, int, int]


R34, R50 = 'resnet34_8xb32_in1k', 'resnet50_8xb32_in1k'
R50SB, SWIN_L = 'resnet50_8xb256-rsb-a1-600e_in1k', 'swin-large_16xb64_in1k'
ROWS = {
    'resnet18_resnet34_diffkd': Row('resnet18_b1', R34, (512, 512, 1024)),
    'mobilenet_v1_resnet50_diffkd': Row('mobilenet_v1_b1', R50, (1024, 2048, 1024)),
    'resnet34_resnet50sb_diffkd': Row('resnet34_b2', R50SB, (512, 2048, 1024)),
    'mobilenet_v2_resnet50sb_diffkd': Row('mobilenet_v2_b2', R50SB, (1280, 2048, 1024)),
    'efficientnet_b0_resnet50sb_diffkd': Row('efficientnet_b0_b2', R50SB, (1280, 2048, 1024)),
    'resnet50_swin_l_diffkd': Row('resnet50_b2', SWIN_L, (2048, 1536, 768)),
    'swin_t_swin_l_diffkd': Row('swin_t_b3', SWIN_L, (768, 1536, 768)),
}
TWINS = {f'{name}_dist': name for name in list(ROWS)[:2]}
STUDENTS = [row.student for row in ROWS.values()]
MAIN = 'mobilenet_v1_resnet50_diffkd'
# What of the connectors an ablation changes: latent channels, evaluations, noise adapter.
ABLATIONS = {
    **{f'{MAIN}_latent{c}': dict(latent_channels=c) for c in (128, 256, 512, 2048)},
    f'{MAIN}_no_autoencoder': dict(latent_channels=None),
    **{f'{MAIN}_nfe{n}': dict(num_inference_steps=n) for n in (1, 3, 10, 20)},
    f'{MAIN}_no_adapter': dict(noise_adapter=None),
    'resnet18_resnet34_diffkd_no_adapter': dict(noise_adapter=None),
    'mobilenet_v2_resnet50sb_diffkd_no_adapter': dict(noise_adapter=None),
}
TABLE_7 = {
    'mobilenet_v1_resnet50_feature_diffkd': {'feature.loss_kd', 'feature.loss_diff'}
    | {'feature.loss_ae'},
    'mobilenet_v1_resnet50_logits_diffkd': {'logits.loss_kd', 'logits.loss_diff'},
    'mobilenet_v1_resnet50_feature_plain': {'feature.loss_kd'},
    'mobilenet_v1_resnet50_logits_plain': {'logits.loss_kd'},
}
DISTILLED = {
    *TABLE_7['mobilenet_v1_resnet50_feature_diffkd'],
    *TABLE_7['mobilenet_v1_resnet50_logits_diffkd'],
}


@functools.cache
def read(path):
    return Config.fromfile(path)


def load(name):
    folders = (FOLDER, FOLDER / 'students', CONFIGS / 'ablations', CONFIGS / 'baselines')
    return deepcopy(read(next(x / f'{name}.py' for x in folders if (x / f'{name}.py').is_file())))


def build(cfg):
    """The model with the data preprocessor of the config, as the runner builds it."""
    options = dict(cfg.model, data_preprocessor=cfg.data_preprocessor)
    return tiny.build(options, scope='mmpretrain')


@pytest.fixture(scope='module')
def teachers():
    """Teachers at full size with random weights by their config, the last one alone."""
    built = {}

    def teacher(cfg):
        if cfg.config not in built:
            built.clear()
            gc.collect()
            init_default_scope('mmpretrain')
            built[cfg.config] = tiny.build(FrozenTeacher(**cfg).model_config(), 'mmpretrain')
        return built[cfg.config]

    return teacher


def batch(size, num_classes=1000, batch_size=2):
    from mmpretrain.structures import DataSample

    return dict(
        inputs=[torch.randint(256, (3, size, size), dtype=torch.uint8) for _ in range(batch_size)],
        data_samples=[
            DataSample().set_gt_label(i * (num_classes // batch_size)) for i in range(batch_size)
        ],
    )


def inputs_of(module):
    """A list to which the module's inputs are added."""
    seen = []
    module.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    return seen


@pytest.mark.parametrize('name', [*STUDENTS, *ROWS, *TWINS])
def test_strategy(name):
    cfg = load(name)
    student = ROWS[TWINS.get(name, name)].student if name not in STUDENTS else name
    strategy = student[-2:]
    expected = dict(TABLE_1[strategy])
    assert cfg.train_cfg.max_epochs == expected.pop('epochs')
    total = expected.pop('batch')
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == total
    assert not cfg.auto_scale_lr.enable and cfg.train_dataloader.drop_last
    optimizer = cfg.optim_wrapper.optimizer
    assert {key: optimizer[key] for key in expected} == expected
    if strategy == 'b1':
        assert optimizer.momentum == 0.9 and optimizer.nesterov
    if strategy == 'b2':
        assert (optimizer.alpha, optimizer.eps, optimizer.momentum) == (0.9, 1e-3, 0.9)
    model = cfg.model.get('student', cfg.model)
    assert model.head.loss.type == ('CrossEntropyLoss' if strategy == 'b1' else 'LabelSmoothLoss')
    assert model.head.loss.get('label_smooth_val') == (None if strategy == 'b1' else 0.1)
    assert model.get('train_cfg') is None  # where MMPretrain's students mix images
    pipeline = cfg.train_dataloader.dataset.pipeline
    added = dict(b1=[], b2=['RandAugment', 'RandomErasing'])
    added['b3'] = ['ColorJitter', *added['b2']]
    assert [step.type for step in pipeline] == [
        'LoadImageFromFile',
        'RandomResizedCrop',
        'RandomFlip',
        *added[strategy],
        'PackInputs',
    ]
    assert (pipeline[1].scale, pipeline[1].backend) == (224, 'pillow')
    interpolation = 'bicubic' if strategy == 'b3' else 'bilinear'
    assert pipeline[1].get('interpolation', 'bilinear') == interpolation
    for step in pipeline:
        if step.type == 'RandAugment':
            assert (step.num_policies, step.magnitude_level, step.magnitude_std) == (2, 9, 0.5)
            assert step.policies == 'timm_increasing'
            assert step.hparams.interpolation == interpolation
        if step.type == 'ColorJitter':
            assert (step.brightness, step.contrast, step.saturation) == (0.4, 0.4, 0.4)
        if step.type == 'RandomErasing':
            assert (step.erase_prob, step.mode) == (0.2 if strategy == 'b2' else 0.25, 'rand')
    augments = cfg.data_preprocessor.get('batch_augments', {}).get('augments', [])
    mixing = [('Mixup', 0.8), ('CutMix', 1.0)] if strategy == 'b3' else []
    assert [(x.type, x.alpha) for x in augments] == mixing
    hooks = [(hook.type, hook.momentum) for hook in cfg.get('custom_hooks', [])]
    assert hooks == ([('EMAHook', 1e-4)] if strategy == 'b2' else [])
    assert cfg.randomness.diff_rank_seed and cfg.custom_imports.imports == ['diffkd_mm']
    assert cfg.optim_wrapper.get('clip_grad') == (dict(max_norm=5.0) if strategy == 'b3' else None)


@pytest.mark.parametrize('strategy', TABLE_1)
def test_learning_rates(strategy):
    """Of the first group, after fractions of epochs."""
    cfg = load(next(name for name in STUDENTS if name.endswith(strategy)))
    epoch, lr = 20, TABLE_1[strategy]['lr']
    wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), cfg.optim_wrapper)
    schedulers = cfg.param_scheduler
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    schedulers = [
        PARAM_SCHEDULERS.build(
            dict(dict(end=cfg.train_cfg.max_epochs), **scheduler),  # the runner's default
            default_args=dict(optimizer=wrapper, epoch_length=epoch),
        )
        for scheduler in schedulers
    ]
    rates = []
    for i in range(epoch * cfg.train_cfg.max_epochs):
        rates.append(wrapper.param_groups[0]['lr'])
        for scheduler in schedulers:
            if not scheduler.by_epoch or (i + 1) % epoch == 0:
                scheduler.step()
    at = {
        'b1': {0: 1, 29.95: 1, 30: 0.1, 59.95: 0.1, 60: 0.01, 90: 0.001, 99.95: 0.001},
        # After 3 epochs of warm-up.
        'b2': {0: 1e-6 / 0.048, 3: 1, 5.35: 1, 5.4: 0.97, 7.75: 0.97, 27: 0.97**10, 447: 0.97**185},
        'b3': {0: 1e-3, 20: 1, 160: (1 + 0.01) / 2},
    }[strategy]
    found = {epochs: rates[round(epochs * epoch)] / lr for epochs in at}
    assert found == pytest.approx(at, rel=1e-3 if strategy == 'b3' else 1e-6)
    warm_up = {'b1': 0, 'b2': 3, 'b3': 20}[strategy]
    assert all(x < y for x, y in zip(rates[: max(warm_up * epoch - 1, 0)], rates[1:]))
    if strategy == 'b3':  # falls in every iteration
        assert all(x > y for x, y in zip(rates[warm_up * epoch :], rates[warm_up * epoch + 1 :]))


def test_ema_averages_the_student_and_its_buffers(teacher_checkpoint):
    """Of a distiller, as it does in training; its teacher is none of its parts."""
    cfg = load('resnet34_b2')
    (hook,) = cfg.custom_hooks
    model = tiny.build(tiny.distiller(teacher_checkpoint))
    average = ExponentialMovingAverage(
        model, momentum=hook.momentum, update_buffers=hook.update_buffers
    )
    norms = [m.student.backbone.bn1 for m in (model, average.module)]
    with torch.no_grad():
        norms[0].weight.fill_(1.0)
        norms[0].running_mean.fill_(0.0)
        average.update_parameters(model)  # takes the first values as they are
        norms[0].weight.fill_(3.0)
        norms[0].running_mean.fill_(2.0)
    average.update_parameters(model)
    torch.testing.assert_close(norms[1].weight, torch.full_like(norms[1].weight, 1.0002))
    torch.testing.assert_close(
        norms[1].running_mean, torch.full_like(norms[1].running_mean, 0.0002)
    )


@pytest.mark.parametrize('name', ['resnet18_b1', 'mobilenet_v2_b2', 'swin_t_b3'])
def test_no_weight_decay_of_biases_and_norms(name):
    cfg = load(name)
    model = build(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decay = {id(g['params'][0]): g['weight_decay'] for g in wrapper.param_groups}
    for path, parameter in model.named_parameters():
        exempt = parameter.dim() == 1 or 'relative_position_bias_table' in path
        assert decay[id(parameter)] == (0 if exempt else TABLE_1[name[-2:]]['weight_decay']), path


@pytest.mark.parametrize('name, row', ROWS.items())
def test_rows(name, row):
    """Student, points and teacher; all else is as for the student alone."""
    cfg, alone = load(name), load(row.student)
    model = cfg.model
    for shared in ('feature', 'logits', 'teacher'):  # parts of the model that several configs have
        cfg.pop(shared, None)
    assert model.student == alone.model and set(cfg) == set(alone)
    assert all(cfg[key] == alone[key] for key in cfg if key != 'model')
    assert Path(model.teacher.config).stem == row.teacher
    feature, logits = model.points.feature, model.points.logits
    assert list(model.points) == ['feature', 'logits']
    assert {point.student for point in (feature, logits)} == {'backbone', 'head.fc'}
    assert (feature.teacher, logits.teacher) == (feature.student, logits.student)
    student, teacher, latent = row.channels
    assert feature.connector == dict(
        type='DiffKDConnector',
        student_channels=student,
        teacher_channels=teacher,
        latent_channels=latent,
    )
    assert feature.loss == dict(type='MSELoss', loss_weight=1.0)
    assert logits.loss == dict(type='KLDivLoss', tau=1.0, loss_weight=1.0)
    assert logits.connector.denoiser.type == 'VectorDenoiser'
    assert logits.connector.noise_adapter.type == 'VectorNoiseAdapter'
    assert 'latent_channels' not in logits.connector


@pytest.mark.parametrize('name, main', TWINS.items())
def test_twins_differ_in_the_loss_of_the_logits(name, main):
    cfg, expected = load(name), load(main)
    assert cfg.model.points.logits.loss.pop('type') == 'DISTLoss'
    expected.model.points.logits.loss.pop('type')
    assert cfg.to_dict() == expected.to_dict()


@pytest.mark.parametrize('name, change', ABLATIONS.items())
def test_ablations_differ_in_one_thing(name, change):
    cfg = load(name)
    main = load(next(x for x in ROWS if name.startswith(x)))
    points = [main.model.points.feature]
    if 'latent_channels' not in change:
        points.append(main.model.points.logits)
    for point in points:
        point.connector.update(change)
    assert cfg.to_dict() == main.to_dict()


BASELINES = [(row, method) for row in ROWS for method in ('kd', 'dist')]
BASELINES.append(('resnet18_resnet34_diffkd', 'mse'))
BASELINE_POINTS = dict(
    kd=dict(logits=('head.fc', dict(type='KLDivLoss', tau=4.0, loss_weight=1.0))),
    dist=dict(logits=('head.fc', dict(type='DISTLoss', loss_weight=2.0))),
    mse=dict(feature=('backbone', dict(type='MSELoss', loss_weight=1.0))),
)


def load_baseline(row, method):
    return load(row.removesuffix('diffkd') + method)


@pytest.mark.parametrize('row, method', BASELINES)
def test_baselines_differ_in_the_points(row, method):
    cfg, main = load_baseline(row, method), load(row)
    points, _ = cfg.model.pop('points'), main.model.pop('points')
    ((name, (tap, loss)),) = BASELINE_POINTS[method].items()
    assert list(points) == [name] and points[name].loss == loss
    assert points[name].student == points[name].teacher == tap
    connector = points[name].get('connector')
    if method == 'mse':
        assert connector == dict(type='ConvConnector', student_channels=512, teacher_channels=512)
    else:
        assert connector is None
    # The labels' share is KD's alone.
    weight = 0.9 if method == 'kd' else main.model.student.head.loss.get('loss_weight', 1.0)
    assert cfg.model.student.head.loss.get('loss_weight', 1.0) == weight
    for x in (cfg, main):
        x.model.student.head.loss.pop('loss_weight', None)
    assert {k: cfg[k] for k in main} == main.to_dict()


@pytest.mark.parametrize('row, method', [*BASELINES[:2], BASELINES[-1], BASELINES[-3]])
def test_step_of_baselines(row, method):
    """Small networks here, losses and optimizer of the config; a row of each strategy."""
    cfg = load_baseline(row, method)
    cfg.data_preprocessor.num_classes = 4
    cfg.model.student = small(loss=cfg.model.student.head.loss)
    for point in cfg.model.points.values():
        if 'connector' in point:
            point.connector.update(student_channels=64, teacher_channels=64)
    model = build(cfg)
    model.use_teacher(small_teacher())
    data = batch(32, num_classes=4, batch_size=4)
    log = model.train().train_step(data, build_optim_wrapper(model, cfg.optim_wrapper))
    (point,) = BASELINE_POINTS[method]
    assert {key for key in log if 'loss' in key} == {'loss', f'{point}.loss_kd'}
    assert all(torch.isfinite(value) for value in log.values())


def zoo_accuracy(teacher):
    """Top-1 accuracy and weights of the entries of a config in MMPretrain's metafiles."""
    for metafile in ZOO.glob('*/metafile.yml'):
        for model in yaml.safe_load(metafile.read_text(encoding='utf-8')).get('Models', []):
            if Path(model['Config']).stem == teacher:
                return model['Results'][0]['Metrics']['Top 1 Accuracy'], model['Weights']
    raise KeyError(teacher)


@pytest.mark.parametrize('name', ROWS)
def test_teachers_are_those_of_the_table(name):
    """80.1 and 86.3 in the paper; for Table 2 torchvision's files, named as torchvision does."""
    torchvision = pytest.importorskip('torchvision').models
    teacher = load(name).model.teacher
    accuracy, weights = zoo_accuracy(ROWS[name].teacher)
    of_torchvision = {
        R34: (torchvision.ResNet34_Weights, 73.31),
        R50: (torchvision.ResNet50_Weights, 76.13),
    }
    if teacher.checkpoint == 'zoo':
        assert accuracy == {R50SB: 80.12, SWIN_L: 86.24}[ROWS[name].teacher]
        assert zoo_checkpoint(teacher.config) == weights
    else:
        published, top1 = of_torchvision[ROWS[name].teacher]
        assert teacher.checkpoint == published.IMAGENET1K_V1.url
        metrics = published.IMAGENET1K_V1.meta['_metrics']['ImageNet-1K']
        assert metrics['acc@1'] == pytest.approx(top1, abs=0.01)


def test_a_file_of_torchvision_is_a_teacher(tmp_path, teachers):
    """Every tensor finds its place, and the logits are torchvision's."""
    torchvision = pytest.importorskip('torchvision')
    theirs = torchvision.models.resnet34().eval()
    torch.save(theirs.state_dict(), tmp_path / 'resnet34.pth')
    path = str(tmp_path / 'resnet34.pth')
    weights = model_weights(read_checkpoint_file(path), path)
    ours = teachers(load('resnet18_resnet34_diffkd').model.teacher).eval()
    ours.load_state_dict(convert_published(weights, 'resnet34.pth'))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


# In the order of their teachers, of which one is held at a time.
STEPS = sorted([*ROWS, *TWINS, *ABLATIONS, *TABLE_7], key=lambda x: load(x).model.teacher.config)


@pytest.mark.parametrize('name', STEPS)
def test_step(name, teachers):
    """The losses of the recipe; teacher and student see the same images, mixed or not."""
    torch.manual_seed(0)
    np.random.seed(0)
    cfg = load(name)
    model = build(cfg)
    teacher = teachers(cfg.model.teacher)
    model.use_teacher(teacher)
    weight = next(model.student.backbone.parameters())
    before, frozen = weight.detach().clone(), teacher.head.fc.weight.clone()
    wrapper = build_optim_wrapper(model.train(), cfg.optim_wrapper)
    assert name.startswith(('resnet34', 'mobilenet_v2', 'efficientnet', 'resnet50')) == isinstance(
        wrapper.optimizer, RMSpropTF
    )
    data = batch(224 if 'swin' in name else 64)
    seen, teachers_seen = inputs_of(model.student.backbone), inputs_of(teacher.backbone)
    log = model.train_step(data, wrapper)
    expected = TABLE_7.get(name, DISTILLED)
    if 'no_autoencoder' in name:
        expected = expected - {'feature.loss_ae'}
    # MMPretrain's own loss has the name that MMEngine gives to the sum; the log has the own one.
    assert {key for key in log if 'loss' in key} == expected | {'loss'}
    assert 5 < log['loss'] < 9  # ln 1000 = 6.9
    noise_weights = {key for key in log if 'noise_weight' in key}
    assert bool(noise_weights) == (not name.endswith(('no_adapter', 'plain')))
    assert all(torch.isfinite(value) for value in log.values())
    assert not torch.equal(weight, before) and torch.equal(teacher.head.fc.weight, frozen)
    # The teacher's first run is repeated, to see that folding its norms changes nothing.
    assert len(seen) == 1 and all(images is seen[0] for images in teachers_seen)
    plain = model.data_preprocessor(dict(inputs=data['inputs']), training=False)['inputs']
    assert torch.equal(seen[0], plain) == (name != 'swin_t_swin_l_diffkd')
    teacher.backbone._forward_pre_hooks.clear()


@pytest.mark.parametrize('name', STUDENTS)
def test_step_of_the_students(name):
    torch.manual_seed(0)
    cfg = load(name)
    model = build(cfg)
    weight = next(model.backbone.parameters())
    before = weight.detach().clone()
    wrapper = build_optim_wrapper(model.train(), cfg.optim_wrapper)
    log = model.train_step(batch(224 if 'swin' in name else 64), wrapper)
    assert torch.isfinite(log['loss']) and not torch.equal(weight, before)


def small(num_classes=4, **head):
    """Config of a ResNet-18 of an eighth of its width."""
    return dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=64, **head),
    )


def small_config(name):
    """A row's config for small networks of 4 classes."""
    cfg = load(name)
    cfg.data_preprocessor.num_classes = 4
    cfg.model.student = small(loss=cfg.model.student.head.loss)
    points = cfg.model.points
    points.feature.connector.update(student_channels=64, teacher_channels=64, latent_channels=32)
    points.logits.connector.update(student_channels=4, teacher_channels=4)
    return cfg


def small_teacher(num_classes=4, **preprocessor):
    preprocessor = dict(load('resnet18_b1').data_preprocessor, **preprocessor)
    return tiny.build(dict(small(num_classes), data_preprocessor=preprocessor), scope='mmpretrain')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Four classes of four pictures."""
    root = tmp_path_factory.mktemp('images')
    generator = np.random.default_rng(0)
    for i in range(16):
        picture = generator.integers(256, size=(40, 48, 3), dtype=np.uint8)
        mmcv.imwrite(picture, str(root / f'class{i % 4}' / f'{i}.png'))
    return root


def test_training_with_the_runner(images, tmp_path, monkeypatch):
    """Strategy B2's data, optimizer, schedule and EMA in MMEngine's runner; two epochs."""
    cfg = small_config('resnet34_resnet50sb_diffkd')
    torch.save(small_teacher().state_dict(), tmp_path / 'teacher.pth')
    teacher = dict(small(), data_preprocessor=load('resnet18_b1').data_preprocessor)
    cfg.model.teacher = dict(
        config=dict(model=teacher, default_scope='mmpretrain'),
        checkpoint=str(tmp_path / 'teacher.pth'),
    )
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(batch_size=8, num_workers=0)
        pipeline = loader.dataset.pipeline
        loader.dataset = dict(type='CustomDataset', data_root=str(images), pipeline=pipeline)
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.train_cfg.max_epochs, cfg.val_evaluator.topk = 2, 1
    cfg.param_scheduler[0].end = cfg.param_scheduler[1].begin = 1
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'work_dir'), 'imagenet_b2'
    monkeypatch.setattr(Runner, '_log_env', lambda *args: None)  # takes seconds
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 4 and type(runner.optim_wrapper.optimizer) is RMSpropTF
    rates = runner.message_hub.get_scalar('train/lr').data[0]
    # Warm-up in the first epoch, of two iterations; the first step comes 2.4 epochs later.
    assert rates == pytest.approx([1e-6, 0.048, 0.048, 0.048])
    checkpoint = torch.load(tmp_path / 'work_dir' / 'epoch_2.pth', weights_only=False)
    assert 'ema_state_dict' in checkpoint
    alone = tiny.build(cfg.model.student, scope='mmpretrain')
    found = alone.load_state_dict(checkpoint['state_dict'], strict=False)
    assert not found.missing_keys
    assert all(key.startswith('distillation.') for key in found.unexpected_keys)


def test_pipelines_make_images_of_the_right_kind(images):
    """Erased pixels and borders are filled around the mean; nothing leaves 0 to 255."""
    init_default_scope('mmpretrain')
    for name in ('resnet34_b2', 'swin_t_b3'):
        pipeline = load(name).train_dataloader.dataset.pipeline
        for step in pipeline:
            if step.type == 'RandomErasing':
                step.update(erase_prob=1.0, min_area_ratio=0.9, max_area_ratio=1.0)
        data = DATASETS.build(dict(type='CustomDataset', data_root=str(images), pipeline=pipeline))
        inputs = torch.stack([data[i]['inputs'] for i in range(16)]).float()
        assert inputs.shape == (16, 3, 224, 224)
        # In the order BGR, as images are loaded.
        torch.testing.assert_close(
            inputs.mean(dim=(0, 2, 3)), torch.tensor([103.5, 116.3, 123.7]), atol=8, rtol=0
        )


# Bad input


def test_other_classes_are_named_before_the_first_step():
    model = build(small_config('resnet18_resnet34_diffkd'))
    message = r"'logits'.*teacher has 7 channels.*teacher_channels=4.*teacher_channels=7"
    with pytest.raises(DistillationError, match=message):
        model.use_teacher(small_teacher(num_classes=7))
    cfg = small_config('resnet18_resnet34_diffkd')
    cfg.model.points.logits.connector = None
    with pytest.raises(DistillationError, match="'logits'.*4 channels in the student and 7"):
        build(cfg).use_teacher(small_teacher(num_classes=7))


def test_teacher_with_another_normalization():
    """It sees the images as its own preprocessor would have made them, after the mixing too."""
    cfg = small_config('swin_t_swin_l_diffkd')
    model = build(cfg)
    teacher = small_teacher(mean=[0.0] * 3, std=[255.0] * 3, to_rgb=False)
    model.use_teacher(teacher)
    seen, teachers_seen = inputs_of(model.student.backbone), inputs_of(teacher.backbone)
    data = batch(32, num_classes=4, batch_size=4)
    tiny.train_step(model, data)
    preprocessor = model.data_preprocessor
    pixels = seen[0] * preprocessor.std + preprocessor.mean
    torch.testing.assert_close(teachers_seen[0], pixels.flip(1) / 255, atol=1e-5, rtol=0)
    assert teachers_seen[0].min() >= -1e-5 and teachers_seen[0].max() <= 1 + 1e-5


def test_batch_of_one_is_refused():
    """Of logits there is then a single value per channel, which BN cannot train on."""
    model = build(small_config('resnet18_resnet34_diffkd'))
    model.use_teacher(small_teacher())
    with pytest.raises(DistillationError, match=r"'logits'.*\(1, 4\).*larger batch.*drop_last"):
        tiny.train_step(model.train(), batch(64, num_classes=4, batch_size=1))


# What is written by hand


def test_tables_have_the_papers_figures():
    readme = (FOLDER / 'README.md').read_text().splitlines()
    models = yaml.safe_load((FOLDER / 'metafile.yml').read_text())['Models']
    assert [model['Name'] for model in models[::2][:2]] == list(ROWS)[:2]
    for model in models:
        name, figures = model['Name'], ' / '.join(str(x) for x in model['Paper Results'])
        (row,) = [row for row in readme if f']({name}.py)' in row]
        cells = [cell.strip() for cell in row.strip('|').split('|')]
        assert cells[-2] == figures and cells[-1] == ''
        cfg = load(name)
        assert model['Metadata']['Epochs'] == cfg.train_cfg.max_epochs
        assert model['Metadata']['Student'] == ROWS[TWINS.get(name, name)].student
        assert figures.split(' / ')[0] in (FOLDER / f'{name}.py').read_text().splitlines()[0]


def test_every_ablation_is_in_the_table():
    readme = (CONFIGS / 'ablations' / 'README.md').read_text()
    names = set()
    for start, numbers, end in re.findall(r'`(\w+?)(?:\{([\d,]+)\})?(\w*)\.py`', readme):
        names |= {f'{start}{number}{end}' for number in numbers.split(',')}
    assert {*ABLATIONS, *TABLE_7} <= names
