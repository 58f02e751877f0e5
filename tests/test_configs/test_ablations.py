"""Ablations of the denoising's start, of the loss weight, and with another method beside DiffKD."""

import re
from pathlib import Path

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

import diffkd_mm  # noqa: F401  registers the distiller

CONFIGS = Path(__file__).parents[2] / 'configs'
MAIN, DETECTOR, SEGMENTOR = (
    'classification/mobilenet_v1_resnet50_diffkd',
    'retinanet_r50_x101_diffkd',
    'deeplabv3_r18_r101_diffkd',
)
START = dict(timestep_spacing='trailing')
# The config that is changed, and what is changed in the connectors of which points.
CONNECTORS = {
    'mobilenet_v1_resnet50_diffkd_start500': (MAIN, ('feature', 'logits'), START),
    **{
        f'mobilenet_v1_resnet50_diffkd_start500_nfe{n}': (
            MAIN,
            ('feature', 'logits'),
            dict(START, num_inference_steps=n),
        )
        for n in (1, 3, 10, 20)
    },
    'retinanet_r50_x101_diffkd_start500': (DETECTOR, ('fpn',), START),
    'deeplabv3_r18_r101_diffkd_start500': (SEGMENTOR, ('logits',), START),
    'faster_rcnn_r50_r101_diffkd_whole_weight': (
        'faster_rcnn_r50_r101_diffkd',
        ('fpn',),
        dict(loss_diff_weight=5.0),
    ),
}
# Config, point that is added, and the baseline that has the same point.
COMBINED = {
    'retinanet_r50_x101_diffkd_fgd': (DETECTOR, 'fgd', 'retinanet_r50_x101_fgd', 'fpn'),
    'deeplabv3_r18_r101_diffkd_cirkd': (
        SEGMENTOR,
        'embedding',
        'deeplabv3_r18_r101_cirkd',
        'embedding',
    ),
}


def load(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


@pytest.mark.parametrize('name', CONNECTORS)
def test_differs_in_the_connectors_alone(name):
    base, points, change = CONNECTORS[name]
    cfg, expected = load(f'ablations/{name}'), load(base)
    for point in points:
        expected.model.points[point].connector.update(change)
    assert cfg.to_dict() == expected.to_dict()


def test_the_whole_weight_is_that_of_the_distance():
    fpn = load('ablations/faster_rcnn_r50_r101_diffkd_whole_weight').model.points.fpn
    assert fpn.connector.loss_diff_weight == fpn.loss.loss_weight


@pytest.mark.parametrize('name', COMBINED)
def test_combined_with_a_baseline(name):
    base, point, baseline, its_point = COMBINED[name]
    cfg, expected = load(f'ablations/{name}'), load(base)
    added = cfg.model.points.pop(point)
    assert added == load(f'baselines/{baseline}').model.points[its_point]
    assert cfg.to_dict() == expected.to_dict()


def test_all_are_in_the_table():
    readme = (CONFIGS / 'ablations' / 'README.md').read_text()
    names = set()
    for start, numbers in re.findall(r'`(\w+?)(?:\{([\d,]+)\})?\.py`', readme):
        names |= {start + number for number in numbers.split(',')}
    assert {*CONNECTORS, *COMBINED} <= names


def test_step_of_diffkd_with_cirkd():
    cfg = load('camvid/ablations/deeplabv3_camvid_diffkd_cirkd')
    teacher = load('camvid/deeplabv3_camvid_teacher').model
    loss, head = cfg.model.points.embedding.loss, cfg.model.student.decode_head
    assert loss.student_channels == head.channels and loss.num_classes == head.num_classes
    assert loss.teacher_channels == teacher.decode_head.channels
    cfg.model.teacher.checkpoint = 'none'
    model = tiny.build(cfg.model, 'mmseg')
    model.use_teacher(tiny.build(teacher, 'mmseg').eval())
    data = tiny.labelled_pixels((112, 160), torch.randint(11, (1, 112, 160)))
    log = model.train().train_step(data, build_optim_wrapper(model, cfg.optim_wrapper))
    assert {x for x in log if x.endswith('loss_kd')} == {'logits.loss_kd', 'embedding.loss_kd'}
    assert log['embedding.loss_kd'] > 0 and all(torch.isfinite(x) for x in log.values())
