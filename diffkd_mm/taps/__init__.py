"""Taps: recording what modules of a model output, and running a model as deep as they need."""

from .families import outputs_queries
from .probing import (
    BATCH_SIZE,
    PROBE_SIZES,
    Probe,
    ProbeError,
    blank_image,
    image_channels,
    probe,
)
from .recording import Record, Tap, check_tap, not_called, outputs, record
from .regions import record_regions
from .running import run_to_taps

__all__ = [
    'BATCH_SIZE',
    'PROBE_SIZES',
    'Probe',
    'ProbeError',
    'Record',
    'Tap',
    'blank_image',
    'check_tap',
    'image_channels',
    'not_called',
    'outputs',
    'outputs_queries',
    'probe',
    'record',
    'record_regions',
    'run_to_taps',
]
