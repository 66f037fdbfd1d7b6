"""The order of samples: a function of (seed, epoch) for training, of the image sizes for evaluation; never of workers.

Over several processes the batches are those of a single one: in training each process takes its share of every batch,
in evaluation every n-th batch whole, so that no image counts twice and the scores are equal to the last bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import Sampler

from seglab.data.compact import array_of
from seglab.errors import ConfigError, DataError

Key = tuple[int, int]  # (epoch, index): the epoch travels with the index, so persistent workers learn of it


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) before the process group is up."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the training images in an epoch."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(length, generator=generator).numpy()


def shown_in_epoch(length: int, batch_size: int) -> int:
    """How many images of an epoch's order are in whole batches, which are what training sees."""
    return length // batch_size * batch_size or length


class TrainBatches(Sampler[list[Key]]):
    """A new permutation of all images each epoch, in batches of `batch_size` images over all processes together.

    An incomplete last batch is left out, unless it is the only one: a last batch of one image would upset batch norm.
    From `start`, (epoch, batches of it that are done), an epoch goes on where an interrupted run left it. Its length
    raises ConfigError or DataError where a process would go without its share.
    """

    def __init__(self, length: int, batch_size: int, seed: int, start: tuple[int, int] = (0, 0)) -> None:
        self.length, self.batch_size, self.seed, self.start = length, batch_size, seed, start
        self.epoch = start[0]  # Lightning asks for the first batches before it calls set_epoch

    @property
    def sampler(self) -> TrainBatches:
        """Itself: Lightning looks here for what has a set_epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        self._check(rank_and_world()[1])  # here, because Lightning asks for it first once the processes have met
        return self.length // self.batch_size or 1

    def __iter__(self) -> Iterator[list[Key]]:
        rank, world = rank_and_world()
        order, epoch = permutation(self.length, self.seed, self.epoch), self.epoch
        done = self.start[1] if epoch == self.start[0] else 0
        starts = range(done * self.batch_size, len(self) * self.batch_size, self.batch_size)
        batches = (order[at : at + self.batch_size][rank::world].tolist() for at in starts)
        return ([(epoch, index) for index in batch] for batch in batches)

    def _check(self, world: int) -> None:
        if self.batch_size % world:
            more = self.batch_size + world - self.batch_size % world
            raise ConfigError(
                f"data.batch_size={self.batch_size} is the number of images over all processes and cannot be divided by the "
                f"{world} that trainer.devices and num_nodes ask for; use {more}, or other trainer.devices."
            )
        if self.length < world:
            raise DataError(f"There are {self.length} training images for {world} processes; lower trainer.devices.")


class EvalBatches(Sampler[list[Key]]):
    """Every image once, in batches of equal image size; over several processes each takes every n-th batch, none twice.

    Processes that are left without a batch get empty ones: all of them have to meet equally often.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], batch_size: int) -> None:
        every = array_of(sizes)
        _, first, group = np.unique(every, axis=0, return_index=True, return_inverse=True)
        number = np.argsort(np.argsort(first))[group.reshape(-1)]  # groups in the order in which they come
        self.order = np.argsort(number, kind="stable")
        counts = np.bincount(number)
        ends = np.cumsum(counts)
        bounds = [np.append(np.arange(end - n, end, batch_size), end) for n, end in zip(counts, ends, strict=True)]
        self.starts = np.concatenate([np.empty(0, np.int64), *(one[:-1] for one in bounds)])
        self.ends = np.concatenate([np.empty(0, np.int64), *(one[1:] for one in bounds)])

    def __len__(self) -> int:
        return -(-len(self.starts) // rank_and_world()[1])

    def __iter__(self) -> Iterator[list[Key]]:
        rank, world = rank_and_world()
        mine = range(rank, len(self.starts), world)
        filled = ([(0, index) for index in self.order[self.starts[n] : self.ends[n]].tolist()] for n in mine)
        return itertools.chain(filled, ([] for _ in range(len(self) - len(mine))))
