"""What the tests of misuse have in common."""

import re

import pytest
import torch
from zoo import Decoder, Encoder, prior

from pixyz.core import PixyzError
from pixyz.distributions import Normal
from pixyz.losses import ELBO, KullbackLeibler


def elbo():
    return ELBO(Decoder() * prior(), Encoder())


def kl():
    return KullbackLeibler(Encoder(), prior())


class Returns(Normal):
    """q(z|x) whose network returns what it is told to."""

    def __init__(self, outputs, cond_var=("x",), **params):
        super().__init__(var=["z"], cond_var=cond_var, name="q", **params)
        self.outputs = outputs

    def forward(self, **given):
        return self.outputs


def score(outputs, z=None, **params):
    return Returns(outputs, **params).log_likelihood({"x": torch.zeros(4, 3), "z": torch.zeros(4, 2) if z is None else z})


class Wide(Normal):
    def forward(self, x):
        return {"loc": x, "scale": torch.ones_like(x)}


class Two(Normal):
    def forward(self, x, y):
        return {"loc": x + y, "scale": 1.0}


def check_one_clear_error(misuse, error, words):
    with pytest.raises(error, match=re.escape(words)) as caught:
        misuse()
    assert type(caught.value) is error
    assert isinstance(caught.value, PixyzError)
    assert isinstance(caught.value, (ValueError, TypeError))
