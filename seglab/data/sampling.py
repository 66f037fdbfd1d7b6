"""The order of samples: a function of (seed, epoch) for training, of the image sizes for evaluation; never of workers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch.utils.data import Sampler

Key = tuple[int, int]  # (epoch, index): the epoch travels with the index, so persistent workers learn of it


def _rank_and_world() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


class TrainSampler(Sampler[Key]):
    """A new permutation of all images each epoch; with several processes each takes every n-th image of it."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // _rank_and_world()[1] or 1

    def __iter__(self) -> Iterator[Key]:
        rank, world = _rank_and_world()
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        order = torch.randperm(self.length, generator=generator).tolist()
        return iter([(self.epoch, i) for i in order[rank::world][: len(self)]])


class EvalBatches(Sampler[list[Key]]):
    """Every image once, in batches of equal image size; with several processes each takes every n-th batch, none twice."""

    def __init__(self, sizes: list[tuple[int, int]], batch_size: int) -> None:
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, size in enumerate(sizes):
            by_size[size].append(index)
        groups = by_size.values()
        self.batches = [[(0, i) for i in g[at : at + batch_size]] for g in groups for at in range(0, len(g), batch_size)]

    def _mine(self) -> list[list[Key]]:
        rank, world = _rank_and_world()
        return self.batches[rank::world]

    def __len__(self) -> int:
        return len(self._mine())

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self._mine())
