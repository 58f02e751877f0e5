"""tools/analysis_tools/visualize_features.py, within this process."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import torch

from diffkd_mm.pictures import draw_saliency

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools/analysis_tools'))

import visualize_features as tool  # noqa: E402


@pytest.fixture(scope='module')
def trained(tmp_path_factory, teacher_checkpoint):
    """A config and a checkpoint of it."""
    root = tmp_path_factory.mktemp('visualized')
    cfg = tiny.training(root, teacher_checkpoint)
    cfg.test_dataloader = cfg.val_dataloader
    cfg.dump(root / 'config.py')
    torch.save(dict(state_dict=tiny.build(cfg.model).state_dict()), root / 'iter_1.pth')
    return [str(root / 'config.py'), str(root / 'iter_1.pth')]


@pytest.fixture
def draw(trained, tmp_path, monkeypatch, capsys):
    """Runs the tool; gives what it printed and what it drew."""
    drawn = []

    def keep(images, features):
        drawn.append((images, features))
        return draw_saliency(images, features)

    monkeypatch.setattr('diffkd_mm.pictures.features.draw_saliency', keep)

    def call(*options):
        drawn.clear()
        tool.main([*trained, '--out', str(tmp_path / 'new/x.png'), *map(str, options)])
        assert (tmp_path / 'new/x.png').read_bytes()[:4] == b'\x89PNG'
        return capsys.readouterr().out, *drawn

    return call


def test_test_images(draw):
    printed, (images, features) = draw('--num-images', 3, '--level', 1)
    assert 'point fpn, level 1' in printed and len(images) == 3
    assert {k: tuple(x.shape) for k, x in features.items()} == {
        'student': (3, 16, 4, 4),
        'refined student': (3, 24, 4, 4),
        'teacher': (3, 24, 4, 4),
    }


def test_a_point_without_a_connector(draw):
    _, (_, features) = draw('--point', 'reg')
    assert list(features) == ['student', 'teacher']


@pytest.mark.parametrize('turned', [True, False])
def test_image_files(draw, tmp_path, turned):
    """Drawn in their own colours, whatever order of the channels the student wants."""
    files = []
    for name in ('a.png', 'b.png'):
        image = np.random.default_rng(len(files)).integers(256, size=(64, 64, 3), dtype=np.uint8)
        files.append(tmp_path / name)
        cv2.imwrite(str(files[-1]), image[..., ::-1])
    _, (images, features) = draw(
        *('--images', *files, '--cfg-options'),
        f'model.student.data_preprocessor.bgr_to_rgb={turned}',
    )
    np.testing.assert_array_equal(images[1], image)
    assert len(features['teacher']) == 2


def test_noise_weights(draw, monkeypatch):
    seen = []
    figure = tool.draw_noise_weights
    monkeypatch.setattr(tool, 'draw_noise_weights', lambda x: seen.append(x) or figure(x))
    printed, *_ = draw('--noise-weight')
    assert 'γ of all levels' in printed
    assert {k: len(x) for k, x in seen[0].items()} == {f'level {i}': 4 for i in range(3)}
    assert all((0 < x).all() and (x < 1).all() for x in seen[0].values())


@pytest.mark.parametrize(
    'options, answer',
    [
        (['--point', 'x'], "no point 'x' to look at.*fpn, reg"),
        (['--level', '3'], '--level 3: point fpn has 3 levels, 0 the first'),
        (['--point', 'reg', '--noise-weight'], 'point reg has no noise adapter'),
        (['--images', 'no.png'], 'no.png: cannot be loaded as an image'),
    ],
)
def test_mistakes_are_one_sentence(draw, options, answer):
    with pytest.raises(SystemExit, match=answer):
        draw(*options)
