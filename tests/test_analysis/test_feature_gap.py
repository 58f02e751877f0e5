"""The gap of a distiller's features, and the tool."""

import csv
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import tiny
import torch

from diffkd_mm.analysis.feature_gap import STAGES, measure_gaps, recorded_stages
from diffkd_mm.analysis.trained import Batches, find_checkpoints
from diffkd_mm.errors import DistillationError
from diffkd_mm.taps.probing import left_as_found

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools/analysis_tools'))


@pytest.fixture(scope='module')
def distiller():
    """Two points on a neck of 16 channels: DiffKD to 24, and FitNet to a layer of 10 classes."""
    points = dict(
        fpn=tiny.FPN_POINT,
        cls=dict(
            student='bbox_head.retina_cls',
            teacher='bbox_head.retina_cls',
            connector=dict(type='ConvConnector'),
            loss=dict(type='MSELoss'),
        ),
        reg=tiny.REG_POINT,
    )
    return tiny.build_distiller(tiny.retinanet(), tiny.retinanet(channels=24), points)


def gaps_of(model, *args):
    with left_as_found(model):
        return measure_gaps(model, [tiny.batch(), tiny.batch()], *args)


def test_every_level_and_stage_has_its_gap(distiller):
    gaps = gaps_of(distiller)
    assert list(gaps) == [
        (point, level, stage)
        for point, stages in dict(
            fpn=[*STAGES], cls=['student', 'refined'], reg=['student']
        ).items()
        for level in range(3)
        for stage in stages
    ]
    assert gaps['fpn', 0, 'student'].error is None and gaps['fpn', 0, 'refined'].error > 0
    assert gaps['reg', 0, 'student'].error > 0


def test_one_point_alone(distiller):
    assert {point for point, *_ in gaps_of(distiller, 'cls')} == {'cls'}
    with pytest.raises(DistillationError, match="no point 'fnp'.*fpn, cls, reg"):
        gaps_of(distiller, 'fnp')


def test_stages_are_those_of_the_connector(distiller):
    connector = deepcopy(distiller.distillation['fpn'].connector)
    students = [torch.randn(2, 16, 8, 8) for _ in range(3)]
    teachers = [torch.randn(2, 24, 8, 8) for _ in range(3)]
    with torch.no_grad(), recorded_stages(connector) as stages:
        refined, _, _ = connector(students, teachers)
    assert stages['student'] == students and stages['teacher'] == teachers
    for i, level in enumerate(connector.levels):
        with torch.no_grad():
            projected = level.student_projection(students[i])
            torch.testing.assert_close(stages['projected'][i], projected)
            torch.testing.assert_close(level.output_projection(stages['denoised'][i]), refined[i])
        assert not torch.equal(stages['noised'][i], projected)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in connector.modules())


def test_a_student_that_is_its_teacher_has_no_gap():
    model = tiny.build_distiller(
        tiny.retinanet(),
        tiny.retinanet(),
        dict(fpn=dict(student='neck', teacher='neck', loss=dict(type='MSELoss'))),
    )
    model.teacher.model.load_state_dict(model.student.state_dict())
    assert all(gap.error < 1e-9 for gap in gaps_of(model).values())


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory, teacher_checkpoint):
    """A config, and a work dir with two checkpoints as a training of it would write them."""
    root = tmp_path_factory.mktemp('gap')
    cfg = tiny.training(root, teacher_checkpoint)
    cfg.dump(root / 'config.py')
    state = tiny.build(cfg.model).state_dict()
    (root / 'work').mkdir()
    for step in (10, 2):
        torch.save(dict(meta=dict(iter=step), state_dict=state), root / f'work/iter_{step}.pth')
    return root / 'work'


def test_the_tool_writes_table_and_pictures(work_dir, tmp_path, capsys, monkeypatch):
    import feature_gap

    monkeypatch.setattr('diffkd_mm.progress.EVERY', 0)

    config = work_dir.parent / 'config.py'
    feature_gap.main([str(config), str(work_dir), '--images', '4', '--out', str(tmp_path / 'out')])
    printed = capsys.readouterr().out
    assert (
        '1 of 2 batches measured, eta 0:0' in printed
        and 'measured (2 of 2)' in printed
        and 'different widths' in printed
    )
    with (tmp_path / 'out/gap.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['step'] for row in rows] == ['2'] * 18 + ['10'] * 18  # 15 of fpn, 3 of reg
    assert rows[0]['stage'] == 'student' and rows[0]['snr_db'] == '' and float(rows[0]['cka']) > 0
    assert rows[4]['stage'] == 'refined' and float(rows[4]['snr_db']) < 10
    # The same weights, noise and images: the same figures.
    assert [{**row, 'step': '', 'checkpoint': ''} for row in rows[:18]] == [
        {**row, 'step': '', 'checkpoint': ''} for row in rows[18:]
    ]
    table = (tmp_path / 'out/gap.md').read_text()
    assert table in printed and '| iter_10 | 10 | fpn | 0 | student | – |' in table
    assert (tmp_path / 'out/gap.png').read_bytes()[:4] == b'\x89PNG'
    assert len((tmp_path / 'out/spectra.csv').read_text().splitlines()) > 36


def test_bad_command_lines(work_dir, tmp_path, capsys):
    import feature_gap

    config = str(work_dir.parent / 'config.py')

    def answer(*command):
        with pytest.raises(SystemExit) as caught:
            feature_gap.main([*map(str, command), '--out', str(tmp_path)])
        return f'{caught.value} {capsys.readouterr().err}'

    assert 'no iter_' in answer(config, tmp_path)
    assert "no point 'x'" in answer(config, work_dir, '--point', 'x')
    assert '--images 0: it must be 1 or more' in answer(config, work_dir, '--images', '0')
    assert 'no train_dataloader' in answer(
        config, work_dir, '--split', 'train', '--cfg-options', 'train_dataloader=None'
    )
    plain = tmp_path / 'plain.pth'
    torch.save(dict(state_dict=tiny.build(tiny.retinanet()).state_dict()), plain)
    assert 'has no connectors: it is a plain student' in answer(config, plain)


def test_a_smaller_last_batch_is_left_out(work_dir):
    cfg = tiny.training(work_dir.parent, 'none')  # four images
    cfg.val_dataloader.drop_last = False
    assert [len(x['inputs']) for x in Batches(cfg, 'val', 100, batch_size=3)] == [3]
    assert [len(x['inputs']) for x in Batches(cfg, 'val', 3, batch_size=2)] == [2, 2]
    assert [len(x['inputs']) for x in Batches(cfg, 'val', 1)] == [4]
    assert [len(Batches(cfg, 'val', n, size)) for n, size in ((100, 3), (3, 2), (9, 5))] == [
        1,
        2,
        1,
    ]


@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'DefaultSampler'])
def test_each_checkpoint_sees_the_same_images(work_dir, sampler):
    cfg = tiny.training(work_dir.parent, 'none')  # four images
    cfg.train_dataloader.sampler = dict(type=sampler, shuffle=True)
    data = Batches(cfg, 'train', 2, batch_size=1)
    first, second = ([x['data_samples'][0].img_id for x in data] for _ in range(2))
    assert len(first) == 2 and first == second


def test_work_dirs_are_read_in_the_order_of_the_training(tmp_path):
    for name in ('iter_1000.pth', 'iter_50.pth', 'iter_200.pth', 'best_iter_50.pth'):
        (tmp_path / name).touch()
    found = find_checkpoints([tmp_path, tmp_path / 'best_iter_50.pth'])
    assert [x.stem for x in found] == ['iter_50', 'iter_200', 'iter_1000', 'best_iter_50']
