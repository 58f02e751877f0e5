"""Every wrong input of the tables is answered by one sentence, and nothing of it runs."""

import sys
from inspect import signature
from pathlib import Path

import pytest

from diffkd_mm.distillers import PointOptions
from diffkd_mm.distillers.schedule import Schedule
from diffkd_mm.hooks import PicturesHook, TeacherMetricHook

sys.path.insert(0, str(Path(__file__).parent))  # the tables

import bad_commands  # noqa: E402
import bad_files  # noqa: E402
import bad_options  # noqa: E402

ROWS = [*bad_commands.ROWS, *bad_files.ROWS, *bad_options.ROWS]


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.name)
def test_is_answered_by_one_sentence(row, tmp_path):
    row.check(tmp_path)


def test_no_two_rows_have_one_name():
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    'target, table',
    [
        (PointOptions, bad_options.OF_A_POINT),
        (Schedule, bad_options.OF_SCHEDULE),
        (PicturesHook, bad_options.PICTURES),
        (TeacherMetricHook, bad_options.METRIC_HOOK),
    ],
)
def test_every_option_is_given_something_wrong(target, table):
    assert {option for option, *_ in table} == set(signature(target).parameters) - {'name'}
