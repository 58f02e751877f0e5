import subprocess
import sys
import textwrap
from pathlib import Path

import mmengine.utils.package_utils as package_utils
import pytest
from mmengine.config import Config
from mmengine.hub import get_config

import diffkd_mm  # noqa: F401  makes the inheritance work

CONFIGS = Path(__file__).parents[2] / 'configs'
ZOO = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    'mmpretrain::resnet/resnet18_8xb32_in1k.py',
]


@pytest.mark.parametrize('base', ZOO)
def test_users_config_inherits_from_a_package(tmp_path, base):
    config = tmp_path / 'mine.py'
    config.write_text(f"_base_ = '{base}'\nstudent = _base_.model\n")
    cfg = Config.fromfile(config)
    assert cfg.student.type == cfg.model.type


@pytest.mark.parametrize('base', ZOO)
def test_hub_installs_nothing(monkeypatch, base):
    def fail(command):
        raise AssertionError(f'would have run {command}')

    monkeypatch.setattr(package_utils, 'call_command', fail)
    assert 'model' in get_config(base)


def test_users_config_inherits_from_this_project(tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text(
        textwrap.dedent(f"""
        _base_ = '{CONFIGS / 'retinanet_r50_x101_diffkd.py'}'
        model = dict(points=dict(fpn=dict(loss=dict(loss_weight=2.0))))
        """)
    )
    cfg = Config.fromfile(config)
    assert cfg.model.points.fpn.loss == dict(type='MSELoss', loss_weight=2.0)
    assert cfg.model.student.type == 'RetinaNet'


def test_a_distillation_fits_on_a_screen():
    """It says in one piece who teaches whom, where and how."""
    lines = (CONFIGS / 'retinanet_r50_x101_diffkd.py').read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.strip().startswith('#')]
    assert len(code) <= 25
    for word in ('student=', 'teacher=', 'points=', 'connector=', 'loss=', 'optim_wrapper'):
        assert any(word in line for line in code)


def test_works_with_stock_tools(tmp_path):
    """A config imports the package itself, so that MMDetection's own tools can use it."""
    code = f"""
        from mmengine.config import Config
        from mmengine.registry import MODELS
        Config.fromfile({str(CONFIGS / 'retinanet_r50_x101_diffkd.py')!r})
        assert MODELS.get('diffkd_mm.Distiller').__name__ == 'Distiller'
    """
    subprocess.run([sys.executable, '-c', textwrap.dedent(code)], check=True, cwd=tmp_path)
