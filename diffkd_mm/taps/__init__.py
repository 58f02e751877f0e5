"""Taps: recording what modules of a model output, and running a model as deep as they need."""

from .families import outputs_queries, runs_whole
from .following import follow
from .listing import Output, check_tap, list_outputs, worth_tapping
from .probing import (
    BATCH_SIZE,
    PROBE_SIZES,
    Probe,
    ProbeError,
    blank_image,
    image_channels,
    left_as_found,
    probe,
)
from .recording import Record, Tap, not_called, outputs, record
from .regions import record_regions
from .running import run_to_taps

__all__ = [
    'BATCH_SIZE',
    'Output',
    'PROBE_SIZES',
    'Probe',
    'ProbeError',
    'Record',
    'Tap',
    'blank_image',
    'check_tap',
    'follow',
    'image_channels',
    'left_as_found',
    'list_outputs',
    'not_called',
    'outputs',
    'outputs_queries',
    'probe',
    'record',
    'record_regions',
    'run_to_taps',
    'runs_whole',
    'worth_tapping',
]
