"""What `py` counts of the ablation of Table 8, beside the paper's row."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

import diffkd_mm  # noqa: F401  lets configs inherit from packages
from diffkd_mm.analysis.flops import count_config, count_connector
from diffkd_mm.distillers import DistillationPoint, PointOptions

ROOT = Path(__file__).parents[2]
MAIN = 'classification/mobilenet_v1_resnet50_diffkd'
ABLATION = 'ablations/mobilenet_v1_resnet50_diffkd'
# Config, channels of the latent, and FLOPs (G) of Table 8.
TABLE_8 = [
    (f'{ABLATION}_no_autoencoder', 2048, 1.41),
    (f'{ABLATION}_latent128', 128, 0.04),
    (f'{ABLATION}_latent256', 256, 0.09),
    (f'{ABLATION}_latent512', 512, 0.21),
    (MAIN, 1024, 0.58),
    (f'{ABLATION}_latent2048', 2048, 1.82),
]
PIXELS = 7 * 7  # of the map before pooling, for an image of 224×224


def point_and_maps(config):
    """The point on the maps, and the maps of student and teacher for an image."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{config}.py').model.points.feature
    point = DistillationPoint(PointOptions('feature', **cfg)).eval().to('meta')
    return point, *([torch.zeros(1, c, 7, 7, device='meta')] for c in (1024, 2048))


@pytest.mark.parametrize('config, channels, paper', TABLE_8)
def test_table_8(config, channels, paper):
    """Student projection, encoder, decoder and two denoiser passes are the paper's figure."""
    counts = count_connector(*point_and_maps(config))
    denoiser = counts['feature.denoiser']
    assert denoiser.runs == 6
    one_pass = PIXELS * channels**2 * (2 * (1 / 4 + 9 / 16 + 1 / 4) + 1)
    assert denoiser.macs == 6 * one_pass
    expected = dict(student_projection=PIXELS * 1024 * channels)
    if 'no_autoencoder' not in config:
        expected['autoencoder.encoder'] = PIXELS * 2048 * channels
        expected['autoencoder.decoder'] = PIXELS * 2048 * channels
    others = {f'feature.{part}': macs for part, macs in expected.items()}
    assert {part: counts[part].macs for part in others} == others
    assert ('feature.autoencoder.encoder' in counts) == ('no_autoencoder' not in config)
    figure = sum(others.values()) + 2 * denoiser.macs / denoiser.runs
    assert figure / 1e9 == pytest.approx(paper, abs=0.03)


def test_the_config_as_a_whole():
    """The tool's own way: both points of MobileNetV1 ← ResNet-50 for an image of 224×224."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{MAIN}.py')
    init_default_scope('mmpretrain')
    counts = count_config(cfg, (224, 224))
    assert [x for x in counts if '.' not in x] == ['student', 'teacher', 'feature', 'logits']
    assert 'logits.denoiser' in counts and 'logits.autoencoder.encoder' not in counts
    assert counts['student'].params == 4_231_976
    assert counts['student'].macs / 1e6 == pytest.approx(569, abs=1)  # in its paper's Table 8
    assert counts['teacher'].macs / 1e9 == pytest.approx(4.09, abs=0.01)
    assert counts['feature.denoiser'].runs == counts['logits.denoiser'].runs == 6
    assert counts['logits.denoiser'].macs == 6 * 4 * 1000 * 4000
