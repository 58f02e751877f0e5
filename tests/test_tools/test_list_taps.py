"""`list_taps.py`, and the short list in the message for a wrong tap."""

import sys
from pathlib import Path

import pytest
import tiny
import torch
from mmengine.config import Config
from torch import nn

from diffkd_mm.configs import load_config
from diffkd_mm.errors import DistillationError
from diffkd_mm.taps import check_tap, list_outputs, worth_tapping

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools' / 'analysis_tools'))

import list_taps  # noqa: E402


def first(model):
    return [str(output) for output in worth_tapping(list_outputs(model))]


def detector(path):
    """A detector of MMDetection's zoo with a small backbone."""
    return tiny.build(tiny.shrink(load_config(f'mmdet::{path}').model))


def test_dense_head():
    assert first(tiny.build(tiny.retinanet())) == [
        'backbone (16, 32, 64 channels at stride 8, 16, 32)',
        'neck (16 channels at stride 8, 16, 32)',
        'bbox_head.retina_cls (10 channels at stride 8, 16, 32)',
        'bbox_head.retina_reg (4 channels at stride 8, 16, 32)',
    ]


def test_head_that_scales_its_predictions():
    """FCOS multiplies what its last convolution gives by a number per level."""
    found = first(detector('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'))
    assert [x.split(' ')[0] for x in found[2:]] == [
        'bbox_head.conv_cls',
        'bbox_head.conv_reg',
        'bbox_head.conv_centerness',
    ]


def test_roi_head():
    found = first(detector('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'))
    assert 'roi_head.bbox_head.fc_cls (81 channels)' in found
    assert 'rpn_head.rpn_cls (3 channels at stride 4, 8, 16, 32, 64)' in found


def test_decoder_of_queries():
    """DETR's head gets (layers, B, N, C): no map, and the channels are the last dimension."""
    cfg = load_config('mmdet::detr/detr_r50_8xb2-150e_coco.py').model
    cfg = tiny.shrink(cfg)
    cfg.encoder.num_layers = cfg.decoder.num_layers = 2
    cfg.num_queries = 10
    assert 'bbox_head.fc_cls (81 channels)' in first(tiny.build(cfg))


def test_classifier():
    assert first(tiny.build(tiny.classifier(), 'mmpretrain')) == [
        'backbone (64 channels at stride 32)',
        'neck (64 channels)',
        'head.fc (10 channels)',
    ]


def test_everything_is_left_as_found():
    model = tiny.build(tiny.retinanet()).train()
    model.backbone.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    list_outputs(model)
    assert model.training and not model.backbone.layer1.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_wrong_tap_is_answered_with_those_worth_tapping():
    with pytest.raises(
        DistillationError,
        match=r"RetinaNet has no module 'fpn'.*Worth tapping: backbone \(16, 32, 64 channels at "
        r'stride 8, 16, 32\); neck .*bbox_head.retina_cls \(10 channels',
    ):
        check_tap(tiny.build(tiny.retinanet()), 'fpn', 'here')


def test_wrong_tap_of_a_model_that_does_not_run(monkeypatch):
    model = tiny.build(tiny.retinanet())
    monkeypatch.setattr(model, 'extract_feat', lambda x: 1 / 0)
    with pytest.raises(DistillationError, match='Top level: data_preprocessor, backbone, neck'):
        check_tap(model, 'fpn', 'here')
    with pytest.raises(DistillationError, match='does not run on a blank.*ZeroDivisionError'):
        list_outputs(model)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    model = tiny.distiller('missing.pth')
    model['points']['fpn']['student'] = 'wrong'  # the tool is there to find the right one
    path = tmp_path / 'config.py'
    Config(dict(default_scope='mmdet', model=model)).dump(path)
    return str(path)


def rows(text):
    return [[cell.strip() for cell in line.strip('│┃').split('│')] for line in text.splitlines()]


def test_lists_student_and_teacher(config, capsys):
    list_taps.main([config, '--depth', '1'])
    text = capsys.readouterr().out
    student, teacher = text.split('teacher: RetinaNet')
    assert 'student: RetinaNet, an image of 128×128' in student
    neck = ['*', 'neck', 'FPN', '16', '8, 16, 32', '1×16×16×16, 1×16×8×8, 1×16×4×4']
    assert neck in rows(student)
    assert [*neck[:3], '24', '8, 16, 32', '1×24×16×16, 1×24×8×8, 1×24×4×4'] in rows(teacher)
    assert 'backbone.layer1' not in text and 'bbox_head.retina_cls' in text


def test_lists_a_plain_config_deeper(config, tmp_path, capsys):
    path = tmp_path / 'plain.py'
    Config(dict(default_scope='mmdet', model=tiny.retinanet())).dump(path)
    list_taps.main([str(path), '--depth', '2'])
    text = capsys.readouterr().out
    assert 'model: RetinaNet' in text and 'teacher' not in text
    assert ['', 'backbone.layer1', 'ResLayer', '8', '4', '1×8×32×32'] in rows(text)
    assert 'backbone.layer1.0' not in text


def test_layer_that_feeds_another_is_not_worth_tapping():
    """Of a model without a backbone, as those of timm: the last layer alone."""

    class Foreign(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.act, self.last = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1)

        def forward(self, x, data_samples=None, mode='tensor'):
            return self.last(self.act(self.first(x)))

    assert first(Foreign()) == ['last (5 channels at stride 1)']
