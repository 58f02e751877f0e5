"""What the converters of published checkpoints have in common."""

import argparse
from collections.abc import Callable
from pathlib import Path

from diffkd_mm.checkpoints.reading import model_weights, read_checkpoint_file
from diffkd_mm.errors import DistillationError

from .publishing import publish


def convert_file(
    argv: list[str] | None, tool: str, description: str, convert: Callable, fields: tuple[str, ...]
) -> tuple[object, Path]:
    """Reads the checkpoint that the command line names, converts it and writes the result.

    Args:
        argv (list[str], optional): The command line.
        tool (str): Name of the tool, for messages.
        description (str): What the tool's help says.
        convert (Callable): Of a state dict and what to call it makes an object with
            ``state_dict``.
        fields (tuple[str]): Further attributes of the object that go into the file's ``meta``.

    Returns:
        tuple: The object and the path of the file.

    Raises:
        SystemExit: If the checkpoint cannot be read or converted.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('checkpoint', help='path or URL of the published checkpoint')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument(
        '--trust', action='store_true', help='read the checkpoint even if it could run code'
    )
    args = parser.parse_args(argv)
    try:
        loaded = read_checkpoint_file(args.checkpoint, trust=args.trust)
        converted = convert(model_weights(loaded, args.checkpoint), args.checkpoint)
        meta = {field: getattr(converted, field) for field in fields}
        meta['converted_from'] = Path(args.checkpoint).name
        publish(dict(meta=meta, state_dict=converted.state_dict), args.out, keep_name=True)
    except DistillationError as error:
        raise SystemExit(f'{tool}: {error}') from error
    return converted, args.out
