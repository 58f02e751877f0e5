"""Pictures of tools/compare.py: curves, and --against, the metric over the values of an option."""

import matplotlib.figure
import pytest
from mmengine.config import Config

import diffkd_mm  # noqa: F401  registers the connector
from diffkd_mm.experiments.runs import option_of

WEIGHT = 'model.points.fpn.loss.loss_weight'


@pytest.fixture
def axis(monkeypatch):
    """The axis of a picture that was saved."""
    saved = {}
    save = matplotlib.figure.Figure.savefig

    def remember(figure, path, **kwargs):
        saved[path.name] = figure.axes[0]
        save(figure, path, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, 'savefig', remember)
    return lambda name='against.png': saved[name]


def test_curves_are_means_in_the_range_of_the_seeds(study, axis):
    study('student diffkd', '--seeds', '0', '1')
    drawn = axis('curves.png')
    lines = {line.get_label(): line.get_xydata().tolist() for line in drawn.lines}
    # At 2 a point less than at 4; diffkd's 60 less its distance from the best weight, 5.
    assert lines == dict(student=[[2, 39.5], [4, 40.5]], diffkd=[[2, 54.5], [4, 55.5]])
    bands = [collection.get_paths()[0].vertices for collection in drawn.collections]
    assert [(band[:, 1].min(), band[:, 1].max()) for band in bands] == [(39, 41), (54, 56)]
    assert drawn.get_xlabel() == 'iteration' and drawn.get_ylabel() == 'mIoU (%)'
    assert 'range' in drawn.get_title()


def test_lines_of_a_grid_and_levels_of_the_others(study, tmp_path, axis):
    grid = ('--grid', f'{WEIGHT}=5,0.5,15', '--seeds', '0', '1', '--against', WEIGHT)
    study('student fitnet diffkd', *grid)
    assert (tmp_path / 'out/against.png').read_bytes()[:4] == b'\x89PNG'
    lines = {line.get_label(): list(line.get_ydata()) for line in axis().lines}
    # The trainer's 50 (best at 0.5) and 60 (at 5) less the distance; seeds add 0 and 2, or 0 and 1.
    assert lines['fitnet'] == [51.0, 46.5, 36.5] and lines['diffkd'] == [56.0, 60.5, 50.5]
    assert lines['student'] == [40.25] * 2 or lines['student'] == [40.5] * 2
    assert [x.get_text() for x in axis().get_xticklabels()] == ['0.5', '5', '15']
    assert axis().get_xlabel() == 'loss_weight' and axis().get_ylabel() == 'mIoU (%)'
    seeds = [list(line.get_ydata()) for line in axis().lines if len(line.get_ydata()) == 2]
    assert [50.0, 52.0] in seeds


def test_configs_of_one_value_each_are_one_line(study, tmp_path, axis):
    for weight in (15, 2):
        text = (
            (tmp_path / 'diffkd.py')
            .read_text()
            .replace('loss=dict()', f'loss=dict(loss_weight={weight})')
        )
        (tmp_path / f'weight{weight}.py').write_text(text)
    study('weight15 student weight2', '--against', WEIGHT)
    assert [x.get_text() for x in axis().get_xticklabels()] == ['2', '15']
    (line,) = [x for x in axis().lines if x.get_linestyle() == '-']
    assert len(line.get_xdata()) == 2


def test_mistakes_show_before_anything_is_trained(study, tmp_path):
    with pytest.raises(SystemExit, match='--against model.x.y: no config has this option'):
        study('student diffkd', '--against', 'model.x.y')
    text = (tmp_path / 'diffkd.py').read_text().replace('loss=dict()', 'loss=dict(loss_weight=2)')
    for name in ('one', 'other'):
        (tmp_path / f'{name}.py').write_text(text)
    with pytest.raises(SystemExit, match='one and other both have 2; compare'):
        study('one other', '--against', WEIGHT)
    assert not list(tmp_path.rglob('starts'))


def test_an_option_that_is_left_out_has_its_default():
    connector = dict(type='DiffKDConnector', initial_timestep=300)
    cfg = Config(dict(model=dict(points=dict(fpn=dict(connector=connector)))))
    key = 'model.points.fpn.connector'
    assert option_of(cfg, f'{key}.num_inference_steps') == 5
    assert option_of(cfg, f'{key}.initial_timestep') == 300
    assert option_of(cfg, f'{key}.no_such_option') is None
    assert option_of(cfg, 'model.points.cls.connector.num_inference_steps') is None
