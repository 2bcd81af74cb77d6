"""Which data come when: the order of an epoch is a function of the seed and the epoch, so that training can go on anywhere in it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed
from torch.utils.data import Sampler


@dataclass
class Position:
    """Where a training is in its data.

    Attributes:
        seed: what the orders of all epochs follow from.
        epoch: how many epochs are whole.
        batch: how many batches of the next one are done.
    """

    seed: int
    epoch: int = 0
    batch: int = 0

    @property
    def seed_of_epoch(self) -> int:
        """A seed for this epoch alone, of 63 bits."""
        return random.Random(f"{self.seed}/{self.epoch}").getrandbits(63)


class EpochOrder(Sampler[list[int]]):
    r"""The batches of an epoch that are still to come, as indices.

    Epoch $e$ is a permutation that $(s, e)$ is the seed of. Of several processes, each has every n-th index; where the shares would not
    be equal, the first indices come twice.

    Args:
        count: how many data there are.
        batch_size: how many a batch has, in each process.
        position: where in the training we are; read when an epoch begins.
        shuffle: whether the order is drawn; else it is that of the data.
        drop_last: whether a last batch that is smaller is left out.
    """

    def __init__(self, count: int, batch_size: int, position: Position, *, shuffle: bool, drop_last: bool = False) -> None:
        self.count = count
        self.batch_size = batch_size
        self.position = position
        self._shuffle = shuffle
        self._drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.count)
        if self._shuffle:
            order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self.position.seed_of_epoch))
        rank, processes = share()
        whole = torch.cat([order, order[: -self.count % processes]])
        batches = whole[rank::processes].split(self.batch_size)
        yield from [batch.tolist() for batch in batches[self.position.batch : self._batches()]]

    def __len__(self) -> int:
        return max(self._batches() - self.position.batch, 0)

    def _batches(self) -> int:
        mine = -(-self.count // share()[1])
        return mine // self.batch_size if self._drop_last else -(-mine // self.batch_size)


def share() -> tuple[int, int]:
    """This process and how many there are: (0, 1) where there is one."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
