"""The arms of the study: what they compare and add to the loss, and what they evaluate on."""

from pathlib import Path

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample

import diffkd_mm  # noqa: F401  registers the distiller

FOLDER = Path(__file__).parents[2] / 'configs' / 'study'
DIGITS = {
    'student': set(),
    'fitnet': {'fpn.loss_kd'},
    'deep_projector': {'fpn.loss_kd'},
    'diffkd': {'fpn.loss_kd', 'fpn.loss_diff'},
    'pkd': {'pkd.loss_kd'},
}
BCCD = DIGITS
FORMS = {
    'aligned': {'fpn.loss_kd', 'fpn.loss_diff', 'fpn.loss_align'},
    'balance': {'fpn.loss_kd', 'fpn.loss_diff'},
    'guidance': {'fpn.loss_kd', 'fpn.loss_diff', 'fpn.loss_guidance'},
    'guided': {'fpn.loss_kd', 'fpn.loss_guide'},
    'one_pass': {'fpn.loss_kd'},
    'scheduled_noise': {'fpn.loss_kd', 'fpn.loss_diff'},
}
CIFAR10 = {
    'student': set(),
    'fitnet': {'feature.loss_kd'},
    'plain': {'feature.loss_kd', 'logits.loss_kd'},
    'deep_projector': {'feature.loss_kd', 'logits.loss_kd'},
    'diffkd': {
        f'{point}.{loss}' for point in ('feature', 'logits') for loss in ('loss_kd', 'loss_diff')
    },
    'kd': {'kd.loss_kd'},
    'dist': {'dist.loss_kd'},
    'guided': {'guided.loss_kd', 'guided.loss_guide'},
}


CAMVID = {
    'student': set(),
    'fitnet': {'logits.loss_kd'},
    'deep_projector': {'logits.loss_kd'},
    'diffkd': {'logits.loss_kd', 'logits.loss_diff'},
    'kd': {'logits.loss_kd'},
    'dist': {'logits.loss_kd'},
}


def load(path):
    return Config.fromfile(FOLDER / f'{path}.py')


def losses_of(cfg, data, scope):
    """Names of the distillation losses of a step with a teacher of random weights."""
    if cfg.model.type != 'diffkd_mm.Distiller':
        return set()
    options = {k: v for k, v in cfg.model.items() if k not in ('type', 'teacher')}
    teacher = Config.fromfile(cfg.model.teacher.config)
    if scope == 'mmpretrain':
        teacher.model.backbone.depth = 8  # to save time
    if scope == 'mmseg':
        teacher.model.backbone.init_cfg = None  # ImageNet's weights
    extra = {'data_preprocessor': cfg.data_preprocessor} if scope == 'mmpretrain' else {}
    model = tiny.build_distiller(
        teacher={**teacher.model, **extra}, scope=scope, **{**options, **extra}
    )
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    return {x for x in losses if x.startswith(tuple(f'{point}.loss' for point in cfg.model.points))}


def test_all_configs_are_tested():
    for folder, arms in (('digits', DIGITS), ('digits/forms', FORMS), ('bccd', BCCD)):
        names = {path.stem for path in (FOLDER / folder).glob('*.py')}
        assert names == {f'retinanet_{folder.partition("/")[0]}_{arm}' for arm in arms}
    names = {path.stem for path in (FOLDER / 'camvid').glob('*.py')}
    arms = {f'deeplabv3_camvid_{arm}' for arm in CAMVID}
    assert names == arms | {'deeplabv3_mbv2_camvid_teacher'}
    names = {path.stem for path in (FOLDER / 'cifar10').glob('*.py')}
    pairs = {f'{net}_resnet56_{arm}' for net in ('resnet8', 'resnet20') for arm in CIFAR10}
    pairs = {name.replace('resnet56_student', 'student') for name in pairs}
    assert names == pairs | {'resnet56_teacher'}


@pytest.mark.parametrize('arm', [*DIGITS, *(f'forms/{form}' for form in FORMS)])
def test_digits(arm):
    folder, _, name = arm.rpartition('/')
    cfg = load(f'digits/{folder}/retinanet_digits_{name}')
    assert losses_of(cfg, tiny.batch(2, 96), 'mmdet') == {**DIGITS, **FORMS}[name]
    assert cfg.train_dataloader.dataset.split == 'train'
    assert cfg.val_dataloader.dataset.split == 'tune'
    assert cfg.test_dataloader.dataset.split == 'test'
    assert cfg.train_cfg.val_interval == cfg.train_cfg.max_iters == 600


@pytest.mark.parametrize('arm', BCCD)
def test_bccd(arm):
    cfg = load(f'bccd/retinanet_bccd_{arm}')
    assert losses_of(cfg, tiny.batch(2, 128, num_classes=3), 'mmdet') == BCCD[arm]
    train, tune, test = (
        x.dataset for x in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    )
    assert train.ann_file == tune.ann_file != test.ann_file
    assert sorted([*train.indices, *tune.indices]) == list(range(205)) and len(tune.indices) == 40


@pytest.mark.parametrize('arm', CAMVID)
def test_camvid(arm):
    cfg = load(f'camvid/deeplabv3_camvid_{arm}')
    data = tiny.labelled_pixels((48, 64), torch.randint(11, (1, 48, 64)))
    assert losses_of(cfg, data, 'mmseg') == CAMVID[arm]
    train, tune, test = (
        x.dataset for x in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    )
    assert tune.data_prefix.img_path == train.data_prefix.img_path != test.data_prefix.img_path
    assert sorted([*train.indices, *tune.indices]) == list(range(367)) and len(tune.indices) == 67
    assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == 3000


def test_the_teacher_of_camvid_takes_a_step():
    cfg = load('camvid/deeplabv3_mbv2_camvid_teacher')
    cfg.model.backbone.init_cfg = None
    data = tiny.labelled_pixels((48, 64), torch.randint(11, (1, 48, 64)))
    data['data_samples'][0].gt_sem_seg.data[0, 0] = 255  # ignored
    model = tiny.build(cfg.model, 'mmseg').train()
    log = model.train_step(data, build_optim_wrapper(model, cfg.optim_wrapper))
    assert torch.isfinite(log['decode.loss_ce'])
    rates = {group['lr'] for group in build_optim_wrapper(model, cfg.optim_wrapper).param_groups}
    assert rates == {1e-3, 3e-4}


@pytest.mark.parametrize('arm', CIFAR10)
def test_cifar10(arm):
    name = 'student' if arm == 'student' else f'resnet56_{arm}'
    images = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8)
    data = dict(inputs=list(images), data_samples=[DataSample().set_gt_label(1) for _ in images])
    cfg = load(f'cifar10/resnet8_{name}')
    assert losses_of(cfg, data, 'mmpretrain') == CIFAR10[arm]
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    assert [x.dataset.dataset.split for x in loaders] == ['train', 'tune', 'test']
    assert cfg.train_cfg.max_iters == 20 * 351
    larger = load(f'cifar10/resnet20_{name}').model
    assert larger.get('student', larger).backbone.depth == 20


def test_deep_projector_is_diffkds_connector_without_the_diffusion():
    paths = ('digits/retinanet_digits', 'bccd/retinanet_bccd', 'cifar10/resnet8_resnet56')
    for path in (*paths, 'camvid/deeplabv3_camvid'):
        diffkd, projector = (load(f'{path}_{arm}').model for arm in ('diffkd', 'deep_projector'))
        for points, kind in ((diffkd.points, 'DiffKD'), (projector.points, 'DeepProjector')):
            types = {point.connector.pop('type') for point in points.values()}
            assert types == {f'{kind}Connector'}
        for point in diffkd.points.values():
            point.connector.pop('noise_adapter', None)
        assert projector == diffkd


def test_lengths_are_in_the_environment(monkeypatch):
    monkeypatch.setenv('DIGITS_ITERS', '2400')
    cfg = load('digits/retinanet_digits_diffkd')
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == 2400
    monkeypatch.setenv('BCCD_ITERS', '300')
    cfg = load('bccd/retinanet_bccd_diffkd')
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == 300
    monkeypatch.setenv('CAMVID_ITERS', '1000')
    cfg = load('camvid/deeplabv3_camvid_diffkd')
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == 1000
    monkeypatch.setenv('CIFAR10_EPOCHS', '10')
    cfg = load('cifar10/resnet8_resnet56_diffkd')
    assert cfg.train_cfg.max_iters == 10 * 351
    assert cfg.param_scheduler[1].milestones == [2193, 2632, 3071]
    assert load('cifar10/resnet56_teacher').train_cfg.max_iters == 60 * 351
