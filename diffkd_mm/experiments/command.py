"""How a command line that trains many runs begins and ends."""

import signal
from collections.abc import Callable

from diffkd_mm.errors import DistillationError


def run_command(work: Callable[[], list[bool]]) -> None:
    """Runs a command and ends it with a status that says whether all of its runs succeeded.

    Args:
        work (Callable): Does the work and returns of each run whether it succeeded.

    Raises:
        SystemExit: If a run failed, the command was refused or interrupted; says so.
    """
    # so that `kill` and `timeout` end the trainings too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        succeeded = work()
    except DistillationError as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit('Interrupted; the same command goes on from here.') from None
    if not all(succeeded):
        raise SystemExit(f'{succeeded.count(False)} of {len(succeeded)} runs failed.')
