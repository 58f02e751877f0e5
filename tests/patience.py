"""Waits end by what they wait for; their bound is for hangs alone, and no slow machine meets it."""

import time
from collections.abc import Callable

SECONDS = 900
"""Less than the half hour after which gloo gives up a process that is silent."""


def wait_until(condition: Callable[[], bool], explain: Callable[[], str] = str) -> None:
    """Waits for a condition.

    Args:
        condition (Callable): Whether it is so by now.
        explain (Callable): What to say if it never is. Defaults to nothing.
    """
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.1)
