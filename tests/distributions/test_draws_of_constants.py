"""Draws and densities of constant parameters: the table that all data share is read, and not copied for each of them."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pixyz.distributions as d

BATCH, SIZE = 512, 64


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that an operation has made, views of a smaller one left out."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, torch.Tensor):
                self.elements = max(self.elements, t.untyped_storage().nbytes() // t.element_size())
        return out


TABLE = torch.linspace(1.0, 2.0, SIZE)
CASES = {
    "CategoricalIndex": (lambda: d.CategoricalIndex("p(x)", probs=TABLE / TABLE.sum()), BATCH),
    "Categorical": (lambda: d.Categorical("p(x)", probs=TABLE / TABLE.sum()), BATCH * SIZE),
    "Empirical": (lambda: d.Empirical("p(x)", x=TABLE), BATCH),
    "MultivariateNormal": (lambda: d.MultivariateNormal("p(x)", loc=TABLE, scale_tril=torch.diag(TABLE)), BATCH * SIZE),
}


@pytest.mark.parametrize("name", CASES)
def test_a_shared_table_is_not_copied_for_each_datum(name):
    make, elements = CASES[name]
    p = make()
    with Largest() as largest:
        x = p.sample(batch_size=BATCH)["x"]
        if name != "Empirical":
            p.log_likelihood({"x": x})
    assert largest.elements <= max(elements, SIZE * SIZE)


@pytest.mark.parametrize(
    "make", [lambda: d.CategoricalIndex("p(x)", probs=TABLE / TABLE.sum()), lambda: d.Categorical("p(x)", probs=TABLE / TABLE.sum())]
)
def test_no_draws_are_of_the_kind_of_some(make):
    some, none = make().sample(batch_size=3)["x"], make().sample(batch_size=0)["x"]
    assert none.shape == (0, *some.shape[1:])
    assert none.dtype == some.dtype


def test_draws_from_tables_of_which_some_are_shared():
    """Each row's frequencies are its probabilities, whatever stands before and behind the axes that tables have."""
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, -torch.inf]])[:, None]  # one table for each of two, shared by four
    p = d.CategoricalIndex("p(x)", logits=logits.expand(2, 4, 3))
    q = d.CategoricalIndex("q(x|z)", logits="z", features_shape=[2, 4])
    for x in (p.sample(batch_size=5_000)["x"], q.sample({"z": logits.expand(2, 4, 3).expand(5_000, 2, 4, 3)})["x"]):
        assert x.shape == (5_000, 2, 4)
        found = torch.stack([(x == k).float().mean(0) for k in range(3)], -1)
        torch.testing.assert_close(found, logits.softmax(-1).expand(2, 4, 3), rtol=0, atol=0.03)
