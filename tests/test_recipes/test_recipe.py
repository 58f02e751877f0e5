"""How models are found, how a recipe reads, what is refused, and a dry run."""

import re
from pathlib import Path

import models
import pytest
import tiny
import torch
from mmengine.config import Config

from diffkd_mm.analysis.models import random_batch
from diffkd_mm.configs import load_config
from diffkd_mm.errors import DistillationError
from diffkd_mm.recipes import config_text, describe, find_model, recommend, try_step
from diffkd_mm.recipes.survey import strides
from diffkd_mm.recipes.trial import Trial
from diffkd_mm.taps import Output


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """Files of two detectors."""
    folder = tmp_path_factory.mktemp('models')
    return {x: str(models.write_model(x, folder)) for x in ('retinanet', 'retinanet24')}


@pytest.mark.parametrize(
    ('name', 'config', 'checkpoint'),
    [
        (
            'retinanet_r50_fpn_2x_coco',
            'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py',
            'zoo',
        ),
        (  # as MMDetection 2 spelt it
            'faster_rcnn_r50_fpn_1x_coco.py',
            'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
            'zoo',
        ),
        (  # the name of weights, several of which are of one config
            'vit-base-p16_in21k-pre_3rdparty_in1k-384px',
            'mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k-384px.py',
            'https://.*vit-base-p16_in21k.*pth',
        ),
        (
            'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024',
            'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py',
            'zoo',
        ),
    ],
)
def test_models_are_found_by_name(name, config, checkpoint):
    found = find_model(name, 'student')
    assert found.config == config
    assert re.fullmatch(checkpoint, found.checkpoint)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('retinanet_r50', 'neither a config file nor a name.*Nearest: .*retinanet_r50_fpn'),
        ('beit-base-p16_8xb64_in1k', 'several models: mmpretrain::beit/bench.*Give one of these'),
        ('no/such.py', "teacher: there is no config file 'no/such.py'"),
        ('mmdet::no/such', 'teacher: cannot load the config'),
    ],
)
def test_models_that_are_not_found(name, message):
    with pytest.raises(DistillationError, match=message):
        find_model(name, 'teacher')


def test_strides_of_sizes_that_are_rounded_up():
    shapes = [(1, 8, n, n) for n in (38, 19, 10, 5, 3, 1)]
    assert strides(Output('neck', 'SSDNeck', shapes, 300, True)) == [8, 16, 32, 64, 128, 300]


def test_what_is_written_reads_as_the_readme_says(written, tmp_path):
    recipe = recommend(written['retinanet'], written['retinanet24'], checkpoint='teacher.pth')
    lines = describe(recipe).splitlines()
    assert lines[0].endswith('(RetinaNet with RetinaHead)')
    assert lines[1].endswith('weights: teacher.pth')
    assert 'neck ← neck (strides 8, 16, 32; channels 16 ← 24)' in lines[3]
    assert "the paper's for detectors" in lines[3]
    assert [line.split(':')[0] for line in lines[3:]] == ['fpn', 'reg', *['training'] * 3]
    path = tmp_path / 'other' / 'config.py'
    path.parent.mkdir()
    path.write_text(config_text(recipe, path.parent))
    cfg = load_config(str(path))
    assert cfg.model.student == Config.fromfile(written['retinanet']).model
    assert Path(cfg.model.teacher.config).resolve() == Path(written['retinanet24']).resolve()
    assert cfg.model.teacher.checkpoint == 'teacher.pth'
    assert cfg.model.points.fpn == dict(
        student='neck',
        teacher='neck',
        connector=dict(type='DiffKDConnector'),
        loss=dict(type='MSELoss', loss_weight=5.0),
    )
    assert cfg.custom_imports.imports == ['diffkd_mm']
    assert cfg.optim_wrapper.clip_grad.max_norm == 35
    assert cfg.optim_wrapper.optimizer.lr == 1e-4
    assert [x.get('end') for x in cfg.param_scheduler] == [1000, None]
    assert cfg.randomness == dict(seed=None, diff_rank_seed=True)


def test_what_a_student_has_is_kept(written, tmp_path):
    """Its own imports, clipping, seed and warm-up."""
    path = tmp_path / 'student.py'
    path.write_text(
        f"_base_ = '{written['retinanet']}'\n"
        "custom_imports = dict(imports=['math'], allow_failed_imports=False)\n"
        'optim_wrapper = dict(clip_grad=dict(max_norm=1))\n'
        'randomness = dict(seed=3)\n'
        "param_scheduler = [dict(type='ConstantLR')]\n"
    )
    recipe = recommend(str(path), written['retinanet24'], checkpoint='teacher.pth')
    cfg = Config.fromstring(config_text(recipe, '/tmp'), '.py')
    assert cfg.custom_imports.imports == ['math', 'diffkd_mm']
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=1)
    assert cfg.randomness == dict(seed=3, diff_rank_seed=True)
    assert cfg.param_scheduler == [dict(type='ConstantLR')]


def test_what_cannot_be_done_is_said(written):
    student, teacher = written['retinanet'], written['retinanet24']
    with pytest.raises(DistillationError, match='no weights are listed.*--teacher-checkpoint'):
        config_text(recommend(student, teacher))
    with pytest.raises(DistillationError, match='can be compared by kd: class scores: only those'):
        recommend(student, teacher, 'kd')
    with pytest.raises(DistillationError, match="method 'no': there are diffkd"):
        recommend(student, teacher, 'no')


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (dict(type='NoNet'), 'student: the model of .* cannot be built'),
        (dict(type='diffkd_mm.Distiller', student={}, points={}), 'is a distillation already'),
        (dict(type='ToyModel'), 'ToyModel is no model of MMDetection, MMSegmentation or'),
    ],
)
def test_students_that_are_none(written, tmp_path, model, message):
    import toy  # noqa: F401  registers ToyModel

    path = tmp_path / 'student.py'
    Config(dict(model=model, default_scope='mmengine')).dump(path)
    with pytest.raises(DistillationError, match=message):
        recommend(str(path), written['retinanet24'])


def _distillation(written, folder, checkpoint):
    recipe = recommend(written['retinanet'], written['retinanet24'], checkpoint=str(checkpoint))
    path = folder / 'config.py'
    path.write_text(config_text(recipe, folder))
    return load_config(str(path))


def test_dry_run_with_the_teachers_weights(written, tmp_path, teacher_checkpoint):
    trial = try_step(_distillation(written, tmp_path, teacher_checkpoint), (64, 64), batch_size=1)
    assert trial.random == [] and trial.own > 0 and trial.seconds > 0 and trial.peak_bytes > 0
    assert list(trial.losses) == ['fpn.loss_kd', 'fpn.loss_diff', 'reg.loss_kd']
    text = str(trial)
    assert 'one step of 1 images of noise, 64×64' in text
    assert f'fpn.loss_kd: {trial.losses["fpn.loss_kd"]:.4g}' in text


def test_dry_run_without_weights(written, tmp_path, monkeypatch):
    from mmengine.model import BaseModule

    monkeypatch.delattr(BaseModule, '_dump_init_info')  # logs lines for every parameter
    cfg = _distillation(written, tmp_path, 'missing.pth')
    trial = try_step(cfg, (40, 64))
    assert trial.shape == (64, 64)  # padded to a multiple of 32
    assert len(trial.random) == 1 and "no checkpoint 'missing.pth'" in str(trial)
    trial = try_step(cfg, (64, 64), read_weights=False)
    assert 'as asked for: the sizes of the losses say nothing yet' in str(trial)


def test_dry_run_of_a_segmentor_takes_images_of_the_size_asked_for(tmp_path):
    """Its config has a crop to which images are padded otherwise."""
    pair = [str(models.write_model(x, tmp_path)) for x in ('fcn', 'pspnet')]
    recipe = recommend(*pair, checkpoint='teacher.pth')
    path = tmp_path / 'config.py'
    path.write_text(config_text(recipe, tmp_path))
    shapes = []
    for shape in ((32, 48), None):
        cfg = load_config(str(path))
        cfg.model.student.data_preprocessor.update(size=(64, 64))
        shapes.append(try_step(cfg, shape, batch_size=2, read_weights=False).shape)
    assert shapes == [(32, 48), (256, 256)]


def test_dry_run_of_a_student_that_asks_for_more(written, tmp_path):
    """A single class, images of a fixed size, and the iteration that only a runner knows."""
    cfg = _distillation(written, tmp_path, 'missing.pth')
    cfg.model.student.bbox_head.num_classes = 1
    cfg.model.student.data_preprocessor.batch_augments = [
        dict(type='BatchFixedSizePad', size=(128, 128)),
        dict(type='BatchSyncRandomResize', random_size_range=(96, 128), interval=10),
    ]
    assert try_step(cfg, (64, 64), batch_size=1, read_weights=False).shape == (64, 64)


def test_dry_run_of_a_student_whose_first_weights_matter(written, tmp_path):
    """Sparse R-CNN's boxes have no size unless they are initialised."""
    student = str(models.write_model('sparse', tmp_path))
    recipe = recommend(student, written['retinanet24'], 'fitnet', 'missing.pth')
    path = tmp_path / 'config.py'
    path.write_text(config_text(recipe, tmp_path))
    cfg = load_config(str(path))
    cfg.model.student.backbone.init_cfg = dict(type='Pretrained', checkpoint='missing.pth')
    assert len(try_step(cfg, (64, 64), batch_size=1, read_weights=False).random) == 1
    random = try_step(cfg, (64, 64), batch_size=1).random
    assert [reason.split(' has ')[0] for reason in random] == ['the student', 'the teacher']


def test_annotations_are_those_that_a_student_asks_for():
    student = tiny.build(tiny.retinanet())
    plain = random_batch(student, 2, (64, 64))['data_samples']
    assert all('masks' in x.gt_instances and 'gt_sem_seg' not in x for x in plain)
    student.data_preprocessor.pad_seg = True
    student.semantic_head, student.fusion_head = torch.nn.Module(), torch.nn.Module()
    student.semantic_head.num_classes, student.fusion_head.num_classes = 3, 50
    for sample in random_batch(student, 2, (64, 64))['data_samples']:
        assert sample.gt_instances.labels.max() < 10
        assert len(sample.gt_instances.masks) == len(sample.gt_instances)
        assert sample.gt_sem_seg.sem_seg.unique().tolist() == [0, 1, 2]


def test_dry_run_of_a_student_that_needs_other_annotations(written, tmp_path, monkeypatch):
    from mmdet.models import RetinaNet

    def loss(self, inputs, data_samples):
        return data_samples[0].gt_sem_seg

    cfg = _distillation(written, tmp_path, 'missing.pth')
    monkeypatch.setattr(RetinaNet, 'loss', loss)
    message = (
        'the step failed on 1 images of noise, 64×64: AttributeError: .*gt_sem_seg.*larger images'
    )
    with pytest.raises(DistillationError, match=message):
        try_step(cfg, (64, 64), batch_size=1, read_weights=False)


def test_dry_run_of_another_config():
    with pytest.raises(DistillationError, match='is not that of a distillation'):
        try_step(Config(dict(model=tiny.retinanet(), default_scope='mmdet')))


@pytest.mark.parametrize(
    ('value', 'advice'),
    [
        (48.0, 'fpn.loss_kd is 24 times the losses of the student with its weight of 5.*balance'),
        (0.001, 'fpn.loss_kd hardly counts beside .* with its weight of 5.*balance'),
        (2.0, ''),
    ],
)
def test_advice(value, advice):
    losses = {'fpn.loss_kd': value, 'fpn.loss_diff': 1000.0}
    trial = Trial(1.0, 1, (8, 8), 2, own=2.0, losses=losses, random=[], weights=dict(fpn=5.0))
    assert re.fullmatch(f'{advice}.*' if advice else '', '\n'.join(trial.advice()))
    reasoned = trial._replace(reasons=dict(fpn="weight 5 is the paper's")).advice()
    assert all("with its weight of 5 (weight 5 is the paper's): " in line for line in reasoned)
