"""A bound's model and its data, for tests of `fit`."""

import torch
from torch import optim
from torch.utils.data import Dataset
from zoo import Decoder, Encoder, binary, prior

from pixyz.models import VI


def vi(**options):
    """A bound's model, the same each time it is built."""
    torch.manual_seed(0)
    given = {"optimizer": optim.Adam, "optimizer_params": {"lr": 1e-2}, **options}
    return VI(Decoder() * prior(), Encoder(dropout=0.2), **given)


def weights(model):
    return {name: w.detach().clone() for name, w in model.loss.named_parameters()}


def assert_same(a, b):
    """Bit for bit."""
    for (name, v), w in zip(weights(a).items(), weights(b).values(), strict=True):
        assert torch.equal(v, w), name


def data(count=23, x=6):
    return {"x": binary(count, x)}


class Rows(Dataset):
    """Tuples, one by one."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return (self.x[i],)
