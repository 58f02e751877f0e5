"""How far a long job is, and when it ends."""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import TypeVar

print_now = partial(print, flush=True)
Item = TypeVar('Item')
EVERY = 10.0  # seconds between two lines


class Progress:
    """Says every ten seconds how much of a job is done, and how long the rest takes.

    A job that is done sooner says nothing.

    Args:
        total (float): How much there is to do.
        what (str): Of what, such as ``'images'``.
        say (Callable): Takes a line: ``print``, or a logger's ``info``.
    """

    def __init__(self, total: float, what: str, say: Callable[[str], object]) -> None:
        self.total = total
        self.what = what
        self.say = say
        self.done = 0
        self.start = self.last = time.monotonic()

    def add(self, number: float = 1) -> None:
        """Notes that so much more is done."""
        self.done += number
        now = time.monotonic()
        if now - self.last < EVERY or self.done >= self.total:
            return
        self.last = now
        left = timedelta(seconds=round((now - self.start) / self.done * (self.total - self.done)))
        self.say(f'{self.done:.0f} of {self.total:.0f} {self.what}, eta {left}')

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Gives the items; each is done when the next is asked for."""
        for item in items:
            yield item
            self.add()
