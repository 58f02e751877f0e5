"""The demo's ablations: each differs from the demo in what its name says, and trains a step."""

from pathlib import Path

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

FOLDER = Path(__file__).parents[2] / 'configs' / 'demo'
FGD = dict(student='neck', teacher='neck', loss=dict(type='FGDLoss', channels=64))
# What is changed in the point `fpn`, its connector and its loss.
CONNECTORS = {
    'no_adapter': dict(noise_adapter=None),
    'latent32': dict(latent_channels=32),
    'latent32_pca': dict(latent_channels=32, autoencoder=dict(type='PCAProjection')),
    'latent32_random': dict(latent_channels=32, autoencoder=dict(type='RandomProjection')),
    'start500': dict(timestep_spacing='trailing'),
    **{
        f'start500_nfe{n}': dict(timestep_spacing='trailing', num_inference_steps=n)
        for n in (1, 3, 10)
    },
}
LOSSES = {
    'smooth_l1': 'mmdet.SmoothL1Loss',
    'cosine': 'CosineLoss',
    'kl': 'KLDivLoss',
    'dist': 'DISTLoss',
    'wasserstein': 'WassersteinLoss',
}


def load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


def expected_points(name):
    points = load('retinanet_digits_diffkd').model.points
    points.fpn.connector.update(CONNECTORS.get(name, {}))
    points.fpn.loss.type = LOSSES.get(name, 'MSELoss')
    if name == 'fgd':
        points.fgd = FGD
    return points


def test_all_are_known():
    files = {path.stem for path in (FOLDER / 'ablations').glob('diffkd_*.py')}
    assert files == {f'diffkd_{x}' for x in (*CONNECTORS, *LOSSES, 'fgd', 'warm_start')}


@pytest.mark.parametrize('name', [*CONNECTORS, *LOSSES, 'fgd'])
def test_ablation(name):
    cfg, main = load(f'ablations/diffkd_{name}'), load('retinanet_digits_diffkd')
    main.model.points = expected_points(name)
    assert cfg.to_dict() == main.to_dict()


def test_fgd_alone():
    cfg, both = load('ablations/fgd'), load('ablations/diffkd_fgd')
    assert both.model.points.pop('fpn') and cfg.to_dict() == both.to_dict()


@pytest.mark.parametrize('name', [*(f'diffkd_{x}' for x in (*CONNECTORS, *LOSSES, 'fgd')), 'fgd'])
def test_step(name):
    torch.manual_seed(0)
    cfg = load(f'ablations/{name}')
    model = tiny.build(cfg.model)
    model.init_weights()
    log = model.train().train_step(tiny.batch(2, 96), build_optim_wrapper(model, cfg.optim_wrapper))
    losses = {key for key in log if '.loss_' in key}
    learned = 'latent32' in name and not name.endswith(('pca', 'random'))
    fpn = {'fpn.loss_kd', 'fpn.loss_diff'} | ({'fpn.loss_ae'} if learned else set())
    assert losses == (set() if name == 'fgd' else fpn) | (
        {'fgd.loss_kd'} if name.endswith('fgd') else set()
    )
    assert all(torch.isfinite(value) for value in log.values())
