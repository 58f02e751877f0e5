"""Times the DiffKD connector against a plain implementation, and weighs what both store.

    python tools/analysis_tools/connector_benchmark.py [--small | --demo] [--compile] …

Forward and backward pass over random features, the plain implementation and the connector in turns
so that whatever else the machine does meets both. Without options the five FPN levels of RetinaNet
for one image of 800×1216, 256 channels. The operators that both dispatch are counted on the CPU and
on the path that a GPU takes, whatever the device; the peak is measured on a GPU alone.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from diffkd_mm.analysis import connector_speed
from diffkd_mm.analysis.tables import tabulate_connectors, write_json


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument('--small', action='store_true', help='16 images, 32², 16², 8², 64 channels')
    sizes.add_argument('--demo', action='store_true', help='16 images, 12², 6², 3², 64 channels')
    parser.add_argument('--checkpointing', action='store_true', help='also measure with_cp=True')
    parser.add_argument(
        '--compile', action='store_true', help='also compile the denoisers for these sizes'
    )
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    parser.add_argument('--iters', type=int, default=10, help='measured passes of each variant')
    parser.add_argument('--threads', type=int, help="CPU threads, PyTorch's default otherwise")
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='processor time of all threads instead of wall-clock time, for a busy machine',
    )
    parser.add_argument('--json', type=Path, help='write the rows to this file')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes the rows."""
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    shape = connector_speed.SMALL if args.small else connector_speed.RETINANET
    shape = connector_speed.DEMO if args.demo else shape
    clock = time.process_time if args.cpu_time else time.perf_counter
    rows = connector_speed.measure(
        shape, args.iters, args.device, args.checkpointing, args.compile, clock
    )
    Console().print(tabulate_connectors(rows))
    if args.json:
        write_json(rows, args.json)


if __name__ == '__main__':
    main()
