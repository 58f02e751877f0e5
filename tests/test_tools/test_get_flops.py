"""What `get_flops.py` counts, against numbers worked out by hand."""

import json
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack
from mmdet.models import SingleStageDetector
from mmengine.config import Config
from rich.console import Console
from torch import nn

from diffkd_mm.analysis import flops, models, tables
from diffkd_mm.distillers import DistillationPoint, PointOptions

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'analysis_tools'))

import get_flops  # noqa: E402

SHAPE = (64, 96)
PIXELS = 8 * 12 + 4 * 6 + 2 * 3  # of the tiny detector's three levels


@pytest.fixture
def config(tmp_path):
    """A distillation whose teacher has no checkpoint."""
    cfg = Config(dict(default_scope='mmdet', model=tiny.distiller('missing.pth')))
    path = tmp_path / 'config.py'
    cfg.dump(path)
    return path


def count(config, *options):
    out = config.parent / 'folder' / 'out.json'
    shape = ['--shape', *map(str, SHAPE)]
    get_flops.main([str(config), *shape, '--json', str(out), *options])
    return json.loads(out.read_text())['parts']


@pytest.mark.parametrize('device', ['meta', 'cpu'])
@pytest.mark.parametrize(
    'module, shape, macs, undilated',
    [
        (nn.Conv2d(3, 5, 3, padding=1), (3, 10, 12), 5 * 3 * 9 * 10 * 12, None),
        # 10 + 2·2 − 3 + 1 = 12 rows if the kernel were not spread over five of them
        (nn.Conv2d(3, 5, 3, padding=2, dilation=2), (3, 10, 12), 135 * 10 * 12, 135 * 12 * 14),
        (nn.Conv2d(4, 4, 3, 2, padding=2, dilation=2, groups=4), (4, 8, 8), 36 * 16, 36 * 25),
        (nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 4, 4), 2 * 3 * 4 * 16, None),
        (nn.Linear(7, 3), (5, 7), 5 * 7 * 3, None),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2)), (3, 8, 8), 0, None),
        (DeformConv2dPack(4, 6, 3, padding=1), (4, 8, 8), 4 * (18 + 6) * 9 * 64, None),
        (ModulatedDeformConv2dPack(4, 6, 3, padding=1), (4, 8, 8), 4 * (27 + 6) * 9 * 64, None),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else '',
)
def test_layers(device, module, shape, macs, undilated):
    counter = flops.MacCounter()
    module = deepcopy(module).eval().to(device)
    with counter():
        module(torch.zeros(1, *shape, device=device))
    assert counter.macs() == (macs, undilated or macs)


def test_attention_counts_its_products():
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.zeros(1, 5, 8)
    counter = flops.MacCounter()
    with counter():
        attention(x, x, x)  # which would take a kernel that the counter does not know
    assert counter.macs()[0] == 5 * 8 * 24 + 2 * 5 * 5 * 8 + 5 * 8 * 8


def test_distillation(config, capsys):
    """The parts of DiffKD at 16 → 24 channels on three levels, N = 5."""
    parts = count(config)
    modules = ('student_projection', 'noise_adapter', 'denoiser', 'output_projection')
    assert list(parts) == ['student', 'teacher', 'fpn', *(f'fpn.{x}' for x in modules)]  # no `reg`
    bottlenecks = 2 * (24 * 6 + 9 * 6 * 6 + 6 * 24)
    denoiser = bottlenecks + 24 * 24
    adapter = 24 * 3 + 9 * 3 * 3 + 3 * 24
    macs = PIXELS * (16 * 24 + adapter + 6 * denoiser + 24 * 24) + 3 * 24 * 2
    assert parts['fpn']['macs'] == parts['fpn']['undilated_macs'] == macs
    assert parts['fpn.denoiser']['macs'] == 6 * PIXELS * denoiser
    assert sum(parts[f'fpn.{x}']['macs'] for x in modules) == macs
    assert parts['fpn.denoiser']['runs'] == 3 * 6
    # Weights, biases and two numbers per channel of a norm; the table of 1280 times.
    denoiser += 2 * (6 + 6 + 24) + 24 + 2 * (2 * (6 + 6 + 24) + 24) + 1280 * 24
    adapter += (3 + 3 + 24) + 2 * (3 + 3 + 24) + 24 * 2 + 2
    projections = 16 * 24 + 24 + 24 * 24 + 24 + 2 * 24
    assert parts['fpn.denoiser']['params'] == 3 * denoiser
    assert parts['fpn']['params'] == 3 * (projections + adapter + denoiser)
    for part, channels in (('student', 16), ('teacher', 24)):
        model = tiny.build(tiny.retinanet(channels=channels))
        assert parts[part]['params'] == sum(x.numel() for x in model.parameters())
    assert parts['teacher']['macs'] > parts['student']['macs'] > 0
    printed = capsys.readouterr().out
    assert 'fpn.denoiser (run 18 times)' in printed and f'{macs / 1e9:.4f}' in printed


def test_options_override_the_config(config):
    options = ['model.points.fpn.connector.num_inference_steps=1', 'model.points.fpn.strides=[8]']
    parts = count(config, '--cfg-options', *options)
    assert parts['fpn.denoiser']['runs'] == 2


def test_vectors():
    """A single one, on which batch norm cannot train."""
    connector = dict(
        type='DiffKDConnector',
        student_channels=3,
        teacher_channels=5,
        denoiser=dict(type='VectorDenoiser'),
        noise_adapter=dict(type='VectorNoiseAdapter'),
    )
    point = DistillationPoint(
        PointOptions('logits', 'a', 'b', dict(type='MSELoss'), connector)
    ).eval()
    counts = flops.count_connector(point, [torch.zeros(1, 3)], [torch.zeros(1, 5)])
    assert counts['logits.denoiser'].macs == 6 * 4 * 5 * 20
    assert counts['logits'].macs == 3 * 5 + (2 * 5 * 10 + 5 * 2) + 6 * 4 * 5 * 20 + 5 * 5


def test_points_on_regions_depend_on_the_step(config, capsys):
    cfg = Config.fromfile(config)
    distiller = models.build_with_random_weights(cfg).eval()
    fpn = distiller.distillation.fpn
    fpn.options = replace(fpn.options, regions='roi_head.bbox_roi_extractor')
    counts = flops.count_distillation(distiller, SHAPE)
    assert counts['fpn'].macs is None and counts['fpn'].params > 0
    Console().print(tables.tabulate_counts(counts))
    assert 'per region' in capsys.readouterr().out


def test_bridge_of_a_chain_runs_for_each_branch():
    layer = 'neck.fpn_convs.0.conv'
    point = dict(
        student=layer,
        teacher='neck.fpn_convs.0',
        connector=dict(type='ConvConnector', student_channels=16, teacher_channels=24),
        chain=dict(type='KDiffusionChain'),
        loss=dict(type='MSELoss'),
    )
    student, teacher = tiny.retinanet(), tiny.retinanet(channels=24)
    branches = dict(layers=[layer], num_branches=3)
    distiller = tiny.build_distiller(student, teacher, dict(p=point), branches=branches).eval()
    assert flops.count_distillation(distiller, SHAPE)['p'].macs == 3 * 16 * 24 * 8 * 12


def test_models_that_compute_more_than_shapes_run_on_the_cpu(config, monkeypatch):
    expected = count(config)
    forward = SingleStageDetector._forward

    def value_dependent(self, inputs, *args):
        inputs.sum().item()
        return forward(self, inputs, *args)

    monkeypatch.setattr(SingleStageDetector, '_forward', value_dependent)
    assert count(config) == expected


def test_models_that_need_annotations_are_named(config, monkeypatch):
    def forward(self, inputs, data_samples):
        return data_samples[0].gt_instances

    monkeypatch.setattr(SingleStageDetector, '_forward', forward)
    with pytest.raises(SystemExit, match=r'(?s)config\.py.* 64x96 alone.*gt_instances'):
        count(config)


def test_plain_config_and_default_shape(tmp_path, capsys):
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, init_cfg=dict(type='Pretrained', checkpoint='none')),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=1000, in_channels=512),
    )
    cfg = Config(dict(default_scope='mmpretrain', model=model))
    cfg.data_preprocessor = dict(type='ClsDataPreprocessor')
    cfg.dump(tmp_path / 'config.py')
    get_flops.main([str(tmp_path / 'config.py')])
    printed = capsys.readouterr().out
    assert '224x224' in printed and '11.69' in printed and '1.81' in printed
