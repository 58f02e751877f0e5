"""Taps: recording what modules of a model output, and running a model as deep as they need."""

from .families import runs_whole
from .listing import Output, check_tap, list_outputs, worth_tapping
from .probing import PROBE_SIZES, blank_image, probe
from .recording import Record, Tap, not_called, outputs, record
from .regions import record_regions
from .running import run_to_taps

__all__ = [
    'Output',
    'PROBE_SIZES',
    'Record',
    'Tap',
    'blank_image',
    'check_tap',
    'list_outputs',
    'not_called',
    'outputs',
    'probe',
    'record',
    'record_regions',
    'run_to_taps',
    'runs_whole',
    'worth_tapping',
]
