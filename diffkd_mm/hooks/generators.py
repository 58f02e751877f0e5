"""The random number generators of a training: their states, and those of the data workers."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info


def generator_states() -> dict[str, Any]:
    """The states of this process's generators, in a form that ``weights_only`` can read.

    Returns:
        dict: States of ``python``, ``numpy``, ``torch`` and, where there is a GPU, ``cuda``.
    """
    name, keys, *rest = np.random.get_state()
    states = dict(
        python=random.getstate(),
        numpy=(name, torch.from_numpy(keys.astype(np.int64)), *rest),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def restore_generators(states: dict[str, Any]) -> None:
    """Sets this process's generators to states of :func:`generator_states`."""
    version, numbers, gauss = states['python']
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())


class BatchSeeds:
    """A ``worker_init_fn`` that seeds a data worker anew for each batch.

    The seed follows from the batch's place in the training, so that neither a resumed training nor
    the number of workers changes what is drawn. A worker's generators would be out of reach: they
    have drawn for batches that nobody has taken yet, and end with the worker.

    Args:
        init_fn (Callable, optional): What else is to be called at a worker's start.
        seed (Sequence[int]): Seed of the training and rank of the process.
        first (int): Place in the training of the first batch that is loaded now.
        epoch_length (int, optional): Batches per epoch, which all begin with the first worker.
            Defaults to None: batches come without end.
        several_passes (bool): Whether new workers may begin at ``first`` once more, as where a
            training by iterations comes to the end of its data. What they draw then differs by the
            number that PyTorch's loader draws for each set of workers. Defaults to False.
    """

    def __init__(
        self,
        init_fn: Callable[[int], None] | None,
        seed: Sequence[int],
        first: int,
        epoch_length: int | None = None,
        several_passes: bool = False,
    ) -> None:
        self.init_fn = init_fn
        self.seed = list(seed)
        self.first = first
        self.epoch_length = epoch_length
        self.several_passes = several_passes

    def __call__(self, worker_id: int) -> None:
        if self.init_fn is not None:
            self.init_fn(worker_id)
        worker = get_worker_info()
        dataset = worker.dataset
        batch_of = getattr(dataset, '__getitems__', None)
        places = self.places(worker.id, worker.num_workers)
        seed = list(self.seed)
        if self.several_passes and self.epoch_length is not None:
            seed.append(worker.seed - worker.id)

        def seeded_batch(indices: Sequence[int]) -> list:
            seed_generators([*seed, next(places)])
            return batch_of(indices) if batch_of else [dataset[i] for i in indices]

        dataset.__getitems__ = seeded_batch  # which PyTorch asks for a batch

    def places(self, worker: int, num_workers: int) -> Iterator[int]:
        """The places in the training of the batches that one worker is asked for, one by one."""
        if self.epoch_length is None:
            yield from itertools.count(self.first + worker, num_workers)
        for start in itertools.count(self.first, self.epoch_length):
            yield from range(start + worker, start + self.epoch_length, num_workers)


def seed_generators(entropy: Sequence[int]) -> None:
    """Seeds the generators of Python, NumPy and PyTorch's CPU by some numbers together."""
    numbers = np.random.SeedSequence(entropy).generate_state(4)
    random.seed(int(numbers[0]))
    np.random.seed(numbers[1])
    # `torch.manual_seed` would note down every seed for a GPU that a worker never has.
    torch.default_generator.manual_seed(int(numbers[2]) << 32 | int(numbers[3]))
