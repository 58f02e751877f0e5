"""The command that checks a GPU, on the CPU."""

import subprocess
import sys

import gpu_check
import pytest
import torch

from diffkd_mm.analysis.check_report import benchmark_rows, read_outcomes, summarize, table

TESTS = """
import pytest

@pytest.mark.parametrize('device', ['cuda'])
@pytest.mark.parametrize('case', ['small', 'large'])
def test_it_agrees(device, case, record_property):
    record_property('difference', '0.25' if case == 'large' else '1e-6')

def test_it_fails():
    assert 1 == 2, 'one is not two'

@pytest.mark.skip(reason='needs a CUDA device')
def test_nowhere():
    pass
"""


def test_what_pytest_says_becomes_rows(tmp_path):
    (tmp_path / 'test_some.py').write_text(TESTS)
    out = tmp_path / 'out.xml'
    command = ['-m', 'pytest', '-q', 'test_some.py', f'--junitxml={out}']
    subprocess.run(
        [sys.executable, *command, '-p', 'no:cacheprovider'], cwd=tmp_path, capture_output=True
    )
    outcomes = read_outcomes(out)
    assert [x.state for x in outcomes] == ['passed', 'passed', 'failed', 'skipped']
    section = summarize(outcomes)
    assert 'Tests: 2 passed, 1 failed, 1 skipped.' in section
    assert '| it agrees | 2 | 0 | 0 |' in section and 'difference 0.25 (large' in section
    assert '- failed: `test_it_fails`: AssertionError: one is not two' in section
    assert '- skipped: `test_nowhere`: needs a CUDA device' in section


def test_what_benchmarks_say_becomes_rows():
    parts = ('teacher', 'student', 'connectors', 'losses', 'backward', 'optimizer', 'step')
    step = dict(
        config='c.py',
        seconds=dict.fromkeys(parts, 0.5),
        peak_bytes=dict.fromkeys(parts, 2_000_000),
        saved_bytes=7_000_000,
    )
    printed = table(benchmark_rows(step))
    assert printed.splitlines()[0] == '| part | seconds | share | peak, MB |'
    assert '| teacher | 0.5 | 1 | 2 |' in printed
    assert printed.endswith('| saved for the backward pass |  |  | 7 |')
    rows = [dict(variant='a', ratio=1.0, seen_bytes=None)]
    assert '| a | 1 |  |' in table(rows)
    assert benchmark_rows(rows) == benchmark_rows(dict(config='c.py', rows=rows)) == rows
    assert benchmark_rows(dict(ratio=1.5, shape=[1, 2])) == [dict(ratio=1.5)]


def test_a_benchmark_that_fails_is_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, 'BENCHMARKS', {'A step': ['benchmark.py', 'missing.py']})
    out = tmp_path / 'folder/report.md'
    options = ['--device', 'cpu', '--only', 'benchmarks', '--out', str(out)]
    with pytest.raises(SystemExit, match='Something failed'):
        gpu_check.main(options)
    report = out.read_text()
    assert f'torch {torch.__version__}' in report
    assert '**A step** (`tools/analysis_tools/benchmark.py missing.py' in report
    assert 'cannot load the config' in report.partition('Failed:')[2]


def test_a_part_of_the_tests(tmp_path):
    out = tmp_path / 'report.md'
    options = ['--device', 'cpu', '--jobs', '1', '--only', 'tests', '--out', str(out)]
    with pytest.raises(SystemExit) as end:
        gpu_check.main([*options, '-k', 'principal'])
    assert end.value.code == 0
    assert 'Tests: 1 passed, 0 failed, 0 skipped.' in out.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_without_a_gpu():
    with pytest.raises(SystemExit, match='no CUDA device; --device cpu'):
        gpu_check.main([])
