"""States of generators, and seeds for data workers."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from diffkd_mm.hooks.generators import (
    BatchSeeds,
    generator_states,
    restore_generators,
    seed_generators,
)


def draw() -> list[float]:
    normal = np.random.normal()  # keeps a second number for later
    return [random.gauss(0, 1), random.random(), normal, *torch.randn(3).tolist()]


def test_states_bring_the_same_numbers_back():
    draw()
    states = generator_states()
    first = draw(), draw()
    restore_generators(states)
    assert (draw(), draw()) == first


class Noise(Dataset):
    """Nine samples of noise from all generators."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, random.random(), np.random.rand(), *torch.rand(1)])


class Batches(Noise):
    """Gives whole batches."""

    def __getitems__(self, indices):
        return [self[i] for i in indices]


def epochs(first_epoch: int, workers: int, persistent: bool = False, dataset=None) -> list:
    """The batches of the epochs 0 to 2 (of which there are five), from a first one on."""
    loader = DataLoader(
        dataset or Noise(),
        batch_size=2,
        num_workers=workers,
        persistent_workers=persistent,
    )
    found = []
    for epoch in range(first_epoch, 3):
        loader.worker_init_fn = BatchSeeds(None, [7, 0], epoch * len(loader), len(loader))
        found.append(torch.cat(list(loader)))
    return found


@pytest.fixture(scope='module')
def expected():
    return epochs(0, workers=1)


def test_epochs_differ(expected):
    assert not any(torch.equal(x[:, 1:], y[:, 1:]) for x, y in zip(expected, expected[1:]))
    noise = torch.cat(expected)[:, 1:]
    assert len(noise.unique()) == noise.numel()


@pytest.mark.parametrize(
    ('first_epoch', 'workers', 'persistent', 'dataset'),
    [
        (0, 2, True, Noise),
        (1, 2, True, Noise),
        (1, 3, False, Noise),
        (2, 1, True, Batches),
        (1, 7, True, Noise),  # more workers than batches
    ],
)
def test_batches_depend_on_their_place_alone(expected, first_epoch, workers, persistent, dataset):
    found = epochs(first_epoch, workers, persistent, dataset())
    for ours, theirs in zip(found, expected[first_epoch:], strict=True):
        assert torch.equal(ours, theirs)


def test_workers_of_another_pass_draw_other_numbers():
    """As in a training by iterations at the end of its data; the same when it is resumed."""

    def passes(workers: int) -> list:
        loader = DataLoader(Noise(), batch_size=2, num_workers=workers)
        loader.generator = torch.Generator().manual_seed(7)
        loader.worker_init_fn = BatchSeeds(None, [7, 0], 0, len(loader), several_passes=True)
        return [torch.cat(list(loader)) for _ in range(2)]

    first, second = passes(1)
    assert not torch.isin(first[:, 1:], second[:, 1:]).any()
    assert all(map(torch.equal, passes(2), (first, second)))


def test_places_of_an_endless_stream():
    seeds = BatchSeeds(None, [0], first=10)
    places = [seeds.places(worker, 3) for worker in range(3)]
    assert [next(places[i % 3]) for i in range(8)] == list(range(10, 18))


def test_seed_rank_and_place_all_matter():
    found = []
    for entropy in ([7, 0, 3], [7, 1, 3], [7, 0, 4], [8, 0, 3], [7, 0, 3]):
        seed_generators(entropy)
        found.append(draw())
    assert found.pop() == found[0]
    assert all(len(set(numbers)) == 4 for numbers in zip(*found))


def test_what_else_is_called_at_a_workers_start():
    called = []
    seeds = BatchSeeds(called.append, [0], 0, 5)
    with pytest.raises(AttributeError):  # here is no worker
        seeds(3)
    assert called == [3]
