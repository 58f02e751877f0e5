"""The configs of Table 6: the recipe in numbers, and a real step of each at full size."""

import io
import zipfile
from pathlib import Path

import mmcv
import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

import diffkd_mm  # noqa: F401  registers the distiller
from diffkd_mm.evaluation.cityscapes import LABEL_IDS

CONFIGS = Path(__file__).parents[2] / 'configs'
# Student of each row of the table.
ROWS = {
    'deeplabv3_r18_r101_diffkd': 'deeplabv3_r18',
    'deeplabv3_r18_scratch_r101_diffkd': 'deeplabv3_r18_scratch',
    'pspnet_r18_r101_diffkd': 'pspnet_r18',
    'deeplabv3_mbv2_r101_diffkd': 'deeplabv3_mbv2',
}
STUDENTS = [f'cityscapes/{name}' for name in (*ROWS.values(), 'deeplabv3_r101')]
# Loss and weight of the logits' point.
BASELINES = {
    'baselines/deeplabv3_r18_r101_cwd': dict(type='CWDLoss', tau=4.0, loss_weight=3.0),
    'baselines/deeplabv3_r18_r101_kd': dict(type='KLDivLoss', tau=1.0, loss_weight=1.0),
    'baselines/deeplabv3_r18_r101_dist': dict(type='DISTLoss', loss_weight=1.0),
    'baselines/deeplabv3_r18_r101_fitnet': dict(type='MSELoss', loss_weight=1.0),
    'baselines/deeplabv3_r18_r101_cirkd': dict(type='KLDivLoss', tau=1.0, loss_weight=1.0),
    'baselines/deeplabv3_r18_r101_maskd': dict(type='MasKDLoss', channels=19),
}
# The other rows of Table 6 on the other students: the points of DeepLabV3-R18.
OTHER_STUDENTS = [(name, method) for name in list(ROWS)[1:] for method in ('cwd', 'cirkd', 'maskd')]
AUXILIARY = 'ablations/deeplabv3_r18_r101_diffkd_aux'
CROP = (64, 128)


def load(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def build(cfg):
    """A network at full size with random weights, for images of the small crop."""
    init_default_scope('mmseg')
    model = cfg.get('student', cfg)
    model.backbone.init_cfg = None
    model.data_preprocessor.size = CROP
    return MODELS.build(cfg)


@pytest.fixture(scope='module')
def teacher():
    torch.manual_seed(0)
    return build(load('cityscapes/deeplabv3_r101').model)


def baseline(row, method):
    return f'baselines/{row.removesuffix("_diffkd")}_{method}'


@pytest.mark.parametrize(
    'name',
    [*ROWS, *STUDENTS, *BASELINES, AUXILIARY, *(baseline(*x) for x in OTHER_STUDENTS)],
)
def test_recipe(name):
    cfg = load(name)
    weight_decay = 2e-4 if 'mbv2' in name else 5e-4
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.02, momentum=0.9, weight_decay=weight_decay
    )
    assert cfg.optim_wrapper.clip_grad is None
    (poly,) = cfg.param_scheduler
    assert (poly.type, poly.power, poly.eta_min) == ('PolyLR', 0.9, 1e-4)
    assert (poly.begin, poly.end, poly.by_epoch) == (0, 40_000, False)
    assert cfg.train_cfg.type == 'IterBasedTrainLoop' and cfg.train_cfg.max_iters == 40_000
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16
    assert not cfg.auto_scale_lr.enable
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval == 4000
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert steps == [
        'LoadImageFromFile',
        'LoadAnnotations',
        'RandomChoice',
        'RandomCrop',
        'RandomFlip',
        'PackSegInputs',
    ]
    crop = cfg.train_dataloader.dataset.pipeline[3]
    assert crop.crop_size == (512, 1024) and 'cat_max_ratio' not in crop
    student = cfg.model.get('student', cfg.model)
    assert student.test_cfg.mode == 'whole'
    assert student.data_preprocessor.size == crop.crop_size
    assert cfg.val_dataloader.dataset.pipeline[1].scale == (2048, 1024)
    assert cfg.val_evaluator.iou_metrics == ['mIoU'] and cfg.test_evaluator == cfg.val_evaluator
    assert cfg.test_dataloader == cfg.val_dataloader
    assert cfg.custom_imports.imports == ['diffkd_mm']


@pytest.mark.parametrize('name, student', ROWS.items())
def test_rows_differ_in_the_student_alone(name, student):
    cfg, alone = load(name), load(f'cityscapes/{student}')
    assert cfg.model.pop('student') == alone.model
    assert Path(cfg.model.teacher.config).samefile(CONFIGS / 'cityscapes/deeplabv3_r101.py')
    reference = load('deeplabv3_r18_r101_diffkd')
    assert cfg.model.points == reference.model.points
    assert cfg.model.teacher == reference.model.teacher
    rest = ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'randomness', 'train_cfg')
    assert all(cfg[key] == alone[key] for key in rest)
    pretrained = alone.model.backbone.init_cfg
    assert (pretrained is None) == ('scratch' in name)


@pytest.mark.parametrize('row, method', OTHER_STUDENTS)
def test_baselines_differ_in_the_student_alone(row, method):
    cfg, main = load(baseline(row, method)), load(row)
    reference = load(f'baselines/deeplabv3_r18_r101_{method}')
    if 'mbv2' in row:  # has no auxiliary head
        reference.model.points.pop('auxiliary', None)
    assert cfg.model.points == reference.model.points
    assert cfg.model.student == main.model.student and cfg.model.teacher == main.model.teacher
    if method == 'cirkd':  # the channels of its second point
        head = cfg.model.student.decode_head
        assert head.channels == cfg.model.points.embedding.loss.student_channels


@pytest.mark.parametrize('name', [*ROWS, *BASELINES, AUXILIARY])
def test_step(name, teacher):
    cfg = load(name)
    model = build(cfg.model)
    model.use_teacher(teacher)
    weight = next(model.student.backbone.parameters())
    before = weight.detach().clone()
    frozen = teacher.decode_head.conv_seg.weight.clone()
    wrapper = build_optim_wrapper(model.train(), cfg.optim_wrapper)
    log = model.train_step(tiny.labelled_pixels(CROP), wrapper)
    points = ['logits']
    if name == AUXILIARY or name.endswith(('_dist', '_maskd')):
        points.append('auxiliary')
    if name.endswith('cirkd'):
        points.append('embedding')
    expected = {'decode.loss_ce', *(f'{point}.loss_kd' for point in points)}
    if 'mbv2' not in name:
        expected.add('aux.loss_ce')
    if name not in BASELINES:
        expected.update(f'{point}.loss_diff' for point in points)
    assert {key for key in log if 'loss_' in key} == expected
    assert all(torch.isfinite(value) for value in log.values())
    assert not torch.equal(weight, before)
    assert torch.equal(teacher.decode_head.conv_seg.weight, frozen)
    loss = cfg.model.points.logits.loss
    assert loss == BASELINES.get(name, dict(type='DISTLoss', loss_weight=1.0))
    if 'auxiliary' in points:
        assert cfg.model.points.auxiliary.loss == dict(loss, loss_weight=0.4)
    if name.endswith('cirkd'):
        queues = model.distillation.embedding.loss
        assert queues.pixels.num_pushed.sum() > queues.regions.num_pushed.sum() > 0


@pytest.mark.parametrize('name', [x.removesuffix('_diffkd') for x in ROWS])
def test_tokens_of_maskd_have_their_authors_rate(name):
    """0.1 and a weight decay of 1e-3, for every student's recipe."""
    cfg = load(f'baselines/{name}_maskd')
    tokens = MODELS.build(dict(type='diffkd_mm.MasKDLoss', channels=19))
    model = torch.nn.ModuleDict(dict(loss=tokens, student=torch.nn.Linear(1, 1)))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {
        id(group['params'][0]): (group['lr'], group['weight_decay'])
        for group in wrapper.param_groups
    }
    assert rates.pop(id(tokens.tokens)) == pytest.approx((0.1, 1e-3))
    optimizer = cfg.optim_wrapper.optimizer
    assert set(rates.values()) == {(optimizer.lr, optimizer.weight_decay)}


def test_step_of_the_teacher():
    """Trained alone; the students' own networks step in the test above."""
    cfg = load('cityscapes/deeplabv3_r101')
    model = build(cfg.model)
    log = model.train().train_step(
        tiny.labelled_pixels(CROP), build_optim_wrapper(model, cfg.optim_wrapper)
    )
    assert {key for key in log if 'loss_' in key} == {'decode.loss_ce', 'aux.loss_ce'}
    assert all(torch.isfinite(value) for value in log.values())


def write_city(root, split, size, label=True):
    """One picture in Cityscapes' layout; values and labels grow from left to right."""
    height, width = size
    row = np.linspace(1, 255, width).astype(np.uint8)
    image = np.stack([np.tile(row // k, (height, 1)) for k in (1, 2, 3)], axis=-1)
    stem = f'berlin/berlin_000000_{split}'
    mmcv.imwrite(image, str(root / 'leftImg8bit' / split / f'{stem}_leftImg8bit.png'))
    if label:
        labels = np.tile((np.arange(width) * 19 // width).astype(np.uint8), (height, 1))
        path = root / 'gtFine' / split / f'{stem}_gtFine_labelTrainIds.png'
        mmcv.imwrite(labels, str(path))
    return image


def dataset(cfg, root):
    from mmseg.registry import DATASETS

    init_default_scope('mmseg')
    return DATASETS.build(dict(cfg, data_root=str(root)))


def test_scales(tmp_path):
    """The sixteen scales, and what cv2 makes of them: rounded to the nearest pixel."""
    write_city(tmp_path, 'train', (10, 30))
    cfg = load('cityscapes/deeplabv3_r18').train_dataloader.dataset
    cfg.pipeline = [*cfg.pipeline[:3], cfg.pipeline[-1]]
    data = dataset(cfg, tmp_path)
    np.random.seed(0)
    sizes = {tuple(data[0]['inputs'].shape[1:]) for _ in range(200)}
    assert sizes == {(tenths, 3 * tenths) for tenths in range(5, 21)}


def test_image_smaller_than_the_crop(tmp_path):
    """Filled up below and to the right: images with 0 after the mean, labels with 255; BGR."""
    image = write_city(tmp_path, 'train', (20, 60))
    cfg = load('cityscapes/deeplabv3_r18')
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline[2].transforms = pipeline[2].transforms[5:6]  # scale 1
    pipeline[4].prob = 0.0
    data = dataset(cfg.train_dataloader.dataset, tmp_path)
    init_default_scope('mmseg')
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    out = preprocessor(pseudo_collate([data[0]]), training=True)
    images, sample = out['inputs'], out['data_samples'][0]
    assert images.shape == (1, 3, 512, 1024) and sample.gt_sem_seg.shape == (512, 1024)
    mean = torch.tensor([104.00698793, 116.66876762, 122.67891434])
    expected = torch.from_numpy(image).float() - mean
    torch.testing.assert_close(images[0, :, :20, :60].permute(1, 2, 0), expected)
    assert (images[0, :, 20:] == 0).all() and (images[0, :, :, 60:] == 0).all()
    labels = sample.gt_sem_seg.data[0]
    assert set(labels[:20, :60].unique().tolist()) == set(range(19))
    assert (labels[20:] == 255).all() and (labels[:, 60:] == 255).all()


def test_larger_images_are_cropped(tmp_path):
    write_city(tmp_path, 'train', (600, 1100))
    cfg = load('cityscapes/deeplabv3_r18').train_dataloader.dataset
    cfg.pipeline[2].transforms = cfg.pipeline[2].transforms[5:6]
    data = dataset(cfg, tmp_path)[0]
    assert data['inputs'].shape == (3, 512, 1024)
    assert data['data_samples'].gt_sem_seg.shape == (512, 1024)


def test_test_split(tmp_path, monkeypatch):
    """A zip of label ids at the image's size, without labels on disk."""
    write_city(tmp_path, 'test', (48, 96), label=False)
    path = tmp_path / 'predictions.zip'
    monkeypatch.setenv('CITYSCAPES_TEST_ZIP', str(path))
    cfg = load('deeplabv3_mbv2_r101_diffkd')
    assert cfg.val_evaluator.type == 'IoUMetric'  # validation during training stays
    data = dataset(cfg.test_dataloader.dataset, tmp_path)
    model = build(cfg.model).eval()
    with torch.no_grad():
        samples = model.test_step(pseudo_collate([data[0]]))
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.process(samples)
    evaluator.evaluate(1)
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        written = np.asarray(Image.open(io.BytesIO(archive.read(name))))
    assert name == 'berlin_000000_test_leftImg8bit.png'
    assert written.shape == (48, 96)
    predicted = samples[0].pred_sem_seg.data[0].numpy()
    assert np.array_equal(written, LABEL_IDS[predicted])
