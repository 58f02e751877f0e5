"""The demo at a tiny size: its own configs, teacher and tool, a few pictures and iterations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import patience
import pytest

ROOT = Path(__file__).parents[2]
# The others are among the bases of these.
CONFIGS = ('retinanet_digits_student', 'retinanet_digits_diffkd_attn', 'teacher_taught')


def compare(root, configs, *options):
    """What tools/compare.py prints, on few and small pictures."""
    digits = root / 'digits'
    overrides = [
        *('train_cfg.max_iters=4', 'train_cfg.val_interval=2', 'default_hooks.logger.interval=1'),
        *('default_hooks.checkpoint.interval=2', 'train_dataloader.num_workers=0'),
        *('train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0'),
        *('val_dataloader.persistent_workers=False', 'train_dataloader.batch_size=2'),
        *('test_dataloader.dataset.num_images=4', f'test_dataloader.dataset.data_root={digits}'),
        *('train_dataloader.dataset.num_images=8', 'val_dataloader.dataset.num_images=4'),
        f'train_dataloader.dataset.data_root={digits}',
        f'val_dataloader.dataset.data_root={digits}',
    ]
    result = subprocess.run(
        [sys.executable, ROOT / 'tools/compare.py', *configs, '--work-dir', root / 'work']
        + [*options, '--cfg-options', *overrides],
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """The demo's work dir and what the tool printed."""
    root = tmp_path_factory.mktemp('demo')
    # An untrained detector is sure of nothing, and without detections there is no metric.
    test_cfg = 'dict(test_cfg=dict(score_thr=0.0))'
    configs = []
    for name in CONFIGS:
        (base,) = (ROOT / 'configs/demo').rglob(f'{name}.py')
        configs.append(root / base.name)
        plain = name == 'retinanet_digits_student'
        lines = [
            f"_base_ = '{base}'",
            f'model = {test_cfg}' if plain else f'model = dict(student={test_cfg})',
        ]
        if name == 'teacher_taught':
            lines.append("custom_hooks = [dict(type='diffkd_mm.WarmStartHook', num_iters=2)]")
        configs[-1].write_text('\n'.join(lines))
    printed = compare(root, configs)
    return root / 'work', printed


def test_all_are_trained_and_evaluated(demo):
    work_dir, printed = demo
    for name in CONFIGS:
        assert f'{name} seed 0: evaluated: coco/bbox_mAP' in printed
    assert (work_dir / 'curves.png').stat().st_size > 5000


def test_table_counts_the_student_alone(demo):
    work_dir, _ = demo
    rows = (work_dir / 'comparison.md').read_text().splitlines()[2:]
    assert len(rows) == len(CONFIGS)
    assert len({row.split('|')[5] for row in rows}) == 1


def test_they_learn_from_the_shipped_teacher(demo):
    work_dir, _ = demo
    log = (work_dir / 'retinanet_digits_diffkd_attn/seed_0/train.log').read_text()
    assert 'fpn.loss_kd' in log and 'retinanet_digits_teacher.pth' in log


def test_a_lost_validation_is_made_up_for_and_the_test_split_reported(demo):
    """By the last checkpoint; here both splits are the same pictures."""
    work_dir, _ = demo
    name = CONFIGS[0]
    run = work_dir / f'{name}/seed_0'
    (log,) = run.glob('*/vis_data/scalars.json')
    *lines, last = log.read_text().splitlines(keepends=True)
    value = json.loads(last)['coco/bbox_mAP']
    log.write_text(''.join(lines))
    compare(work_dir.parent, [work_dir.parent / f'{name}.py'], '--report-split', 'test')
    for split in ('val', 'test'):
        metrics = json.loads((run / f'{split}.json').read_text())['metrics']
        assert metrics['coco/bbox_mAP'] == pytest.approx(value)
    head, _, row = (work_dir / 'comparison.md').read_text().splitlines()[:3]
    assert 'coco/bbox_mAP, test (%) | validation (%)' in head
    assert row.startswith(f'| {name} | {100 * value:.2f} | {100 * value:.2f} | 1 |')
