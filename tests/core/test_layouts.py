"""Sparse and nested tensors are refused by name, wherever they come from."""

import re
import warnings

import pytest
import torch
from torch import nn

from pixyz.core import KindError, Loss
from pixyz.distributions import Bernoulli, Deterministic, Empirical, Normal

DENSE = torch.eye(3)


def silently(make):
    """What torch makes with a warning, that its layouts are a prototype."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def nested(layout):
    return lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)


ODD = {
    "sparse": (DENSE.to_sparse, "is a sparse tensor (torch.sparse_coo); convert it with .to_dense()."),
    "rows": (DENSE.to_sparse_csr, "is a sparse tensor (torch.sparse_csr); convert it with .to_dense()."),
    "nested": (nested(torch.strided), "is a nested tensor; rows of different lengths are one padded tensor and a mask"),
    "jagged": (nested(torch.jagged), "is a nested tensor; rows of different lengths are one padded tensor and a mask"),
}
p = Normal("p(x|z)", loc="z", scale=1.0)
PLACES = {
    "a value": (lambda t: p.log_likelihood({"x": t, "z": DENSE}), "log p(x|z): x"),
    "a value of a loss": (lambda t: p.log_prob().estimate({"x": DENSE, "z": t}), "log p(x|z): z"),
    "a condition of a draw": (lambda t: p.sample({"z": t}), "p(x|z): z"),
    "a constant": (lambda t: Normal("p(x)", loc=t, scale=1.0), "Normal: loc"),
    "a fixed value": (lambda t: (p * Normal("p(z)", loc=0.0, scale=1.0)).condition(z=t), "A fixed value: z"),
    "a constant of a loss": (lambda t: p.log_prob().constant_var({"z": t}), "A fixed value: z"),
    "a weight": (lambda t: p.log_prob() * t, "A formula: a constant"),
    "rows of data": (lambda t: Empirical("p(x)", x=t), "p(x): the rows of x"),
    "an output": (lambda t: Normal("p(x|z)", loc=lambda z: t, scale=1.0).sample({"z": DENSE}), "p(x|z): the network's loc"),
    "a computed value": (lambda t: Deterministic("p(x|z)", x=lambda z: t).sample({"z": DENSE}), "p(x|z): the network's x"),
    "a function": (lambda t: Loss.from_function(lambda x: t, "f", var=["x"]).estimate({"x": DENSE}), "f(x): what the function returns"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ODD)
def test_it_is_refused_by_name(kind, place):
    make, words = ODD[kind]
    use, who = PLACES[place]
    with pytest.raises(KindError, match=re.escape(f"{who} {words}")):
        use(silently(make))


def test_sparse_weights_of_a_network_are_its_own_matter():
    """An embedding's gradient may be sparse: what is refused are values and parameters."""
    table = nn.Embedding(4, 3, sparse=True)
    p = Bernoulli("p(x|k)", logits=table)
    p.log_prob().mean().estimate({"x": DENSE, "k": torch.tensor([0, 1, 1])}).backward()
    assert table.weight.grad.is_sparse
