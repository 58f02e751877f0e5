"""The OpenMMLab packages' own ways to load a model, with a distillation's config and checkpoint."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config, ConfigDict
from mmpretrain.apis import ImageClassificationInferencer, get_model
from mmseg.apis import init_model

from diffkd_mm.checkpoints.student_config import student_config
from diffkd_mm.errors import DistillationError

IMAGE = np.zeros((64, 64, 3), np.uint8)


def saved(folder, cfg):
    """Files of a config and of weights as a training of it writes them."""
    cfg.dump(folder / 'config.py')
    model = tiny.build(cfg.model, cfg.default_scope)
    for parameter in model.student.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    meta = dict(dataset_meta=dict(classes=tuple('abcdefghij')), cfg=cfg.pretty_text)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'epoch.pth')
    return str(folder / 'config.py'), str(folder / 'epoch.pth'), model.student


def detection(folder):
    cfg = tiny.training(folder, folder / 'gone.pth')
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    cfg.test_dataloader.dataset.pipeline[-1].meta_keys = keys
    cfg.custom_hooks = [dict(type='diffkd_mm.WarmStartHook', num_iters=1)]
    cfg.visualizer = dict(type='DetLocalVisualizer', name='visualizer')
    return saved(folder, cfg)


def loads(model, student):
    state = model.state_dict()
    return all(torch.equal(state[name], value) for name, value in student.state_dict().items())


@pytest.mark.parametrize('options', [None, dict(default_scope='mmdet')], ids=['plain', 'options'])
def test_init_detector(tmp_path, options):
    config, checkpoint, student = detection(tmp_path)
    model = init_detector(config, checkpoint, device='cpu', cfg_options=options)
    assert loads(model, student) and model.dataset_meta['classes'][1] == 'b'
    assert len(inference_detector(model, IMAGE).pred_instances) > 0


@pytest.mark.parametrize('by_config', [True, False])
def test_det_inferencer(tmp_path, by_config):
    config, checkpoint, student = detection(tmp_path)
    inferencer = DetInferencer(config if by_config else None, checkpoint, device='cpu')
    assert loads(inferencer.model, student)
    assert len(inferencer(IMAGE, no_save_vis=True)['predictions'][0]['scores']) > 0


def export(checkpoint, out, monkeypatch):
    tool = Path(__file__).parents[2] / 'tools/model_converters/export_student.py'
    monkeypatch.setattr(
        sys, 'argv', ['export_student.py', str(checkpoint), str(out), '--keep-name']
    )
    runpy.run_path(str(tool), run_name='__main__')
    return torch.load(out, weights_only=True)['meta']


def test_exported_student_needs_no_other_file(tmp_path, monkeypatch):
    """Its config is the student's, without the distillation and without this package."""
    _, checkpoint, student = detection(tmp_path)
    meta = export(checkpoint, tmp_path / 'student.pth', monkeypatch)
    assert 'Distiller' not in meta['cfg'] and 'gone.pth' not in meta['cfg']
    inferencer = DetInferencer(weights=str(tmp_path / 'student.pth'), device='cpu')
    assert type(inferencer.model) is type(student) and loads(inferencer.model, student)
    assert len(inferencer(IMAGE, no_save_vis=True)['predictions'][0]['scores']) > 0


def test_package_is_imported_where_the_student_needs_it(tmp_path):
    cfg = distillation(dict(type='diffkd_mm.MobileNet'), 'mmpretrain', 'head.fc')
    cfg.custom_imports.imports = ['diffkd_mm', 'mine']
    cfg.data_preprocessor = dict(mean=[1.0], std=(1.0, -2.5e-3))
    written = student_config(dict(meta=dict(cfg=cfg.pretty_text)))
    assert written.custom_imports.imports == ['diffkd_mm', 'mine']
    assert written.model == dict(
        type='diffkd_mm.MobileNet', data_preprocessor=cfg.data_preprocessor
    )


def test_config_of_a_student_in_branches_has_none():
    """Of a distiller without points: the file's weights are folded."""
    model = dict(type='diffkd_mm.Distiller', student=dict(type='A'), branches=dict(layers=['a']))
    written = student_config(dict(meta=dict(cfg=Config(dict(model=model)).pretty_text)))
    assert written.model == dict(type='A')


@pytest.mark.parametrize(
    'text',
    ['model = open("{}", "w")', 'model = dict(type=[open("{}", "w")])', 'import os', 'model', None],
)
def test_a_checkpoints_config_runs_no_code(tmp_path, monkeypatch, text):
    path = tmp_path / 'ran'
    meta = dict(cfg=text and text.format(path))
    torch.save(dict(state_dict=dict(a=torch.ones(1)), meta=meta), tmp_path / 'epoch.pth')
    exported = export(tmp_path / 'epoch.pth', tmp_path / 'student.pth', monkeypatch)
    assert 'cfg' not in exported and not path.exists()


def distillation(student, scope, point):
    return Config(
        dict(
            default_scope=scope,
            custom_imports=dict(imports=['diffkd_mm'], allow_failed_imports=False),
            model=dict(
                type='diffkd_mm.Distiller',
                student=student,
                teacher=dict(config='gone.py', checkpoint='gone.pth'),
                points=dict(logits=dict(student=point, teacher=point, loss=dict(type='KLDivLoss'))),
            ),
        )
    )


def test_init_model_of_mmseg(tmp_path):
    segmentor = tiny.segmentor(num_classes=10)
    init_cfg = dict(type='Pretrained', checkpoint='open-mmlab://resnet18_v1c')
    segmentor['backbone']['init_cfg'] = init_cfg
    cfg = distillation(segmentor, 'mmseg', 'decode_head.conv_seg')
    config, checkpoint, student = saved(tmp_path, cfg)
    model = init_model(config, checkpoint, device='cpu')
    assert loads(model, student)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 10, 8, 8)


def test_get_model_of_mmpretrain(tmp_path):
    cfg = distillation(tiny.classifier(), 'mmpretrain', 'head.fc')
    cfg.test_dataloader = dict(
        dataset=dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
    )
    config, checkpoint, student = saved(tmp_path, cfg)
    model = get_model(config, pretrained=checkpoint, device='cpu')
    assert loads(model, student)
    inferencer = ImageClassificationInferencer(model, classes=list('abcdefghij'))
    assert inferencer(IMAGE)[0]['pred_class'] in 'abcdefghij'


def test_only_a_distillers_config_shows_its_students():
    students = ConfigDict(type='diffkd_mm.Distiller', student=dict(backbone=dict(depth=18)))
    assert students.backbone.depth == 18 and 'backbone' not in students
    assert not hasattr(students, 'no_such_option')
    assert not hasattr(ConfigDict(type='SoftTeacher', student=dict(backbone=1)), 'backbone')


@pytest.mark.parametrize('option', ['pretrained', 'train_cfg'])
def test_options_of_the_student_belong_into_it(option):

    with pytest.raises(DistillationError, match='are options of the student'):
        tiny.build(
            dict(type='diffkd_mm.Distiller', student=tiny.retinanet(), **{option: dict(a=1)})
        )
