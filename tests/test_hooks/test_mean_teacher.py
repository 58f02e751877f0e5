"""Semi-supervised detectors: the distiller is the detector that they wrap."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from mmdet.engine.hooks import MeanTeacherHook

from diffkd_mm.errors import DistillationError
from diffkd_mm.hooks import CheckpointHook


def semi_supervised(detector):
    preprocessor = tiny.retinanet()['data_preprocessor']
    return dict(
        type='SemiBaseDetector',
        _scope_='mmdet',
        detector=detector,
        data_preprocessor=dict(type='MultiBranchDataPreprocessor', data_preprocessor=preprocessor),
        semi_train_cfg=dict(cls_pseudo_thr=0.0, min_pseudo_bbox_wh=(0.01, 0.01)),
        semi_test_cfg=dict(predict_on='teacher'),
    )


@pytest.fixture
def model(teacher_checkpoint):
    points = dict(fpn=tiny.FPN_POINT)
    model = tiny.build(semi_supervised(tiny.distiller(teacher_checkpoint, points=points)))
    model.init_weights()
    return model.train()


def branches(model):
    """Labelled images, and unlabelled ones as both networks see them."""
    inputs, samples = {}, {}
    for name in ('sup', 'unsup_teacher', 'unsup_student'):
        data = model.student.data_preprocessor(tiny.batch(), True)
        for sample in data['data_samples']:
            sample.set_metainfo(dict(homography_matrix=np.eye(3, dtype=np.float32)))
        inputs[name], samples[name] = data['inputs'], data['data_samples']
    return inputs, samples


def test_the_wrapped_detector_is_distilled(model):
    losses = model(*branches(model), mode='loss')
    assert {'sup_loss_cls', 'sup_fpn.loss_kd', 'unsup_fpn.loss_kd'} <= set(losses)
    total, _ = model.parse_losses(losses)
    total.backward()
    assert model.student.backbone.conv1.weight.grad.any()
    assert all(p.grad is None for p in model.teacher.parameters())


def test_its_copy_is_averaged_and_needs_no_teacher(model):
    runner = SimpleNamespace(model=model, iter=0)
    hook = MeanTeacherHook(momentum=0.25)
    hook.before_train(runner)
    name = 'backbone.conv1.weight'
    before = model.teacher.state_dict()[name].clone()
    model.student.backbone.conv1.weight.data.add_(4)
    hook.after_train_iter(runner, 0)
    torch.testing.assert_close(model.teacher.state_dict()[name], before + 1)
    assert model.teacher.teacher.model is None and model.student.teacher.model is not None


def test_a_detectors_checkpoint_starts_both(model):
    weights = tiny.build(tiny.retinanet()).state_dict()
    result = model.load_state_dict(deepcopy(weights), strict=False)
    assert not result.unexpected_keys
    assert all('.distillation.' in key for key in result.missing_keys)
    for name in ('student', 'teacher'):
        loaded = getattr(model, name).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in weights.items())


def test_a_distillations_checkpoint_starts_both(model, teacher_checkpoint):
    """Names of its connectors, such as student_projection, are not taken for the detectors'."""
    distiller = tiny.build(tiny.distiller(teacher_checkpoint, points=dict(fpn=tiny.FPN_POINT)))
    checkpoint = dict(state_dict=distiller.state_dict())
    assert any('.student_projection.' in name for name in checkpoint['state_dict'])
    hook = CheckpointHook()
    hook.after_load_checkpoint(SimpleNamespace(model=model, _resume=False), checkpoint)
    model.load_state_dict(checkpoint['state_dict'], strict=False)
    weight = distiller.student.backbone.conv1.weight
    for name in ('student', 'teacher'):
        assert torch.equal(getattr(model, name).backbone.conv1.weight, weight)


def test_a_distiller_keeps_the_connectors_of_its_checkpoint(teacher_checkpoint):
    distiller = tiny.build(tiny.distiller(teacher_checkpoint, points=dict(fpn=tiny.FPN_POINT)))
    checkpoint = dict(state_dict=distiller.state_dict())
    names = set(checkpoint['state_dict'])
    runner = SimpleNamespace(model=distiller, _resume=False)
    CheckpointHook().after_load_checkpoint(runner, checkpoint)
    assert set(checkpoint['state_dict']) == names


@pytest.mark.parametrize('skip_buffer', [True, False])
def test_the_hook_alone_is_refused(teacher_checkpoint, skip_buffer):
    runner = SimpleNamespace(model=tiny.build(tiny.distiller(teacher_checkpoint)), iter=0)
    with pytest.raises(DistillationError, match='MeanTeacherHook averages.*Remove the hook'):
        MeanTeacherHook(skip_buffer=skip_buffer).before_train(runner)


def test_around_it_a_distiller_is_refused(teacher_checkpoint):
    inside_out = dict(type='diffkd_mm.Distiller', student=semi_supervised(tiny.retinanet()))
    with pytest.raises(DistillationError, match='student is a SemiBaseDetector.*Put the distiller'):
        tiny.build(inside_out)
    with pytest.raises(DistillationError, match='teacher is a SemiBaseDetector.*Give the config'):
        points = dict(fpn=tiny.FPN_POINT)
        tiny.build_distiller(tiny.retinanet(), semi_supervised(tiny.retinanet()), points)
