import sys
from pathlib import Path

import pretended
import pytest

from diffkd_mm.experiments import runs

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools'))


@pytest.fixture
def study(monkeypatch, tmp_path):
    """Calls the tool with some of the configs and further options."""
    import compare

    (tmp_path / 'train.py').write_text(pretended.TRAINER)
    (tmp_path / 'test.py').write_text(pretended.TESTER)
    monkeypatch.setattr(compare, 'TOOLS', tmp_path)
    monkeypatch.setattr(runs, 'student_parameters', lambda cfg: 0.25)
    for name, text in pretended.CONFIGS.items():
        lines = [text, 'train_cfg = dict(max_iters=4)', 'test_dataloader = dict(batch_size=1)']
        (tmp_path / f'{name}.py').write_text('\n'.join(lines))

    def call(names, *options):
        configs = [str(tmp_path / f'{name}.py') for name in names.split()]
        work_dir = tmp_path / 'out'
        compare.main([*configs, '--work-dir', str(work_dir), '--metric', 'mIoU', *options])
        return (work_dir / 'comparison.md').read_text()

    return call
