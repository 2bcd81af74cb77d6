"""A density given by a function, held against families that are known."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from pixyz.core import FormulaError, IntractableError, KindError, ShapeError
from pixyz.distributions import Bernoulli, CustomProb, Normal
from pixyz.losses import ELBO

LOG_2PI = math.log(2 * math.pi)


def standard(z):
    return -0.5 * (z.square() + LOG_2PI).sum(-1)


def around(z, x):
    """By keyword: the names are in another order than in p(x|z)."""
    return -0.5 * ((x - 2 * z).square() + LOG_2PI).sum(-1)


class Twice(Normal):
    def forward(self, z):
        return {"loc": 2 * z, "scale": 1.0}


class Energy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 1).double()

    def forward(self, h):
        return -self.fc(h.tanh()).squeeze(-1) - 0.5 * h.square().sum(-1)


def normal(name="p"):
    return Normal(f"{name}(z)", loc=torch.zeros(2).double(), scale=torch.ones(2).double())


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_against_a_normal():
    z = draw(5, 2)
    torch.testing.assert_close(CustomProb("p(z)", standard).log_likelihood({"z": z}), normal().log_likelihood({"z": z}))


@pytest.mark.parametrize(
    "function",
    [around, lambda a, b: around(z=b, x=a), lambda *args: around(z=args[1], x=args[0]), lambda **names: around(**names)],
    ids=["by keyword", "by position", "by any position", "by any keyword"],
)
def test_a_conditional_one(function):
    values = {"x": draw(5, 2), "z": draw(5, 2)}
    p = CustomProb("p(x|z)", function)
    torch.testing.assert_close(p.log_likelihood(values), Twice("p(x|z)").log_likelihood(values))


def test_sample_dims_and_renaming():
    values = {"x": draw(5, 2), "w": draw(3, 5, 2)}
    p, truth = (d.replace_var(z="w") for d in (CustomProb("p(x|z)", around), Twice("p(x|z)")))
    torch.testing.assert_close(p.log_likelihood(values, sample_dims={"w": 1}), truth.log_likelihood(values, sample_dims={"w": 1}))


def test_several_variables():
    values = {"x": draw(5, 2), "z": draw(5, 2)}
    p = CustomProb("p(x,z)", lambda x, z: around(z, x) + standard(z), normalised=True)
    torch.testing.assert_close(p.log_likelihood(values), (Twice("p(x|z)") * normal()).log_likelihood(values))
    assert p.is_normalised
    assert not CustomProb("p(z)", standard).is_normalised


@pytest.mark.parametrize("num_samples", [1, 4])
def test_in_an_elbo(num_samples):
    class Encoder(Normal):
        def forward(self, x):
            return {"loc": 0.5 * x, "scale": 0.7}

    q, x = Encoder("q(z|x)"), draw(6, 2)

    def bound(likelihood, prior):
        torch.manual_seed(5)
        return ELBO(likelihood * prior, q, num_samples=num_samples).estimate({"x": x})

    torch.testing.assert_close(bound(CustomProb("p(x|z)", around), CustomProb("p(z)", standard)), bound(Twice("p(x|z)"), normal()))


def test_the_bound_on_the_constant_is_tight_at_the_right_q():
    log_z = 3.0
    p, q = CustomProb("p(z)", lambda z: standard(z) + log_z), normal("q")
    bound = (p.log_prob() - q.log_prob()).expectation(q, num_samples=7)
    torch.testing.assert_close(bound.estimate(), torch.full((1,), log_z, dtype=torch.float64))


def test_under_enumeration():
    q = Bernoulli("q(y)", probs=torch.tensor([0.2, 0.7]).double())
    weights = torch.tensor([1.0, -2.0]).double()
    p = CustomProb("p(y)", lambda y: y @ weights)
    torch.testing.assert_close(p.log_prob().expectation(q, estimator="enumerate").estimate(), torch.tensor([0.2 - 1.4]).double())


def test_a_module_is_registered_and_trained():
    p, q = CustomProb("p(z)", Energy()), normal("q")
    loss = p.log_prob().expectation(q, num_samples=3).mean()
    loss.estimate().backward()
    assert {name: bool(t.grad.abs().sum() > 0) for name, t in loss.named_parameters()} == {
        "p(z).given_networks.log_density.fc.weight": True,
        "p(z).given_networks.log_density.fc.bias": True,
    }


def test_it_is_copied_pickled_and_saved():
    p, z = CustomProb("p(z)", Energy()), draw(4, 2)
    again = CustomProb("p(z)", Energy())
    again.load_state_dict(p.state_dict())
    for q in (copy.deepcopy(p), pickle.loads(pickle.dumps(p)), again):
        torch.testing.assert_close(q.log_likelihood({"z": z}), p.log_likelihood({"z": z}))
    assert "normalised=False" in str(p)


def test_it_compiles():
    loss = CustomProb("p(x|z)", around).log_prob().expectation(normal("q"), num_samples=3)
    x = draw(4, 2)
    torch.manual_seed(3)
    eager = loss.estimate({"x": x})
    torch.manual_seed(3)
    torch.testing.assert_close(torch.compile(loss.estimate, fullgraph=True, backend="eager")({"x": x}), eager)


def score(function):
    return lambda: CustomProb("p(z)", function).log_likelihood({"z": draw(4, 2)})


CASES = {
    "no function": (lambda: CustomProb("p(z|x)"), KindError, "p(z|x): a CustomProb takes a function of z, x that returns the log-density"),
    "a tensor": (lambda: CustomProb("p(z)", torch.zeros(3)), KindError, "got a tensor (3,) of torch.float32."),
    "a class": (lambda: CustomProb("p(z)", Energy), KindError, "got <class"),
    "too many arguments": (
        lambda: CustomProb("p(z)", lambda z, w: z),
        FormulaError,
        "p(z): log_density is called with z, but it takes (z, w).",
    ),
    "too few arguments": (
        lambda: CustomProb("p(x|z)", lambda a: a),
        FormulaError,
        "p(x|z): log_density is called with x, z, but it takes (a).",
    ),
    "some of its variables": (
        lambda: CustomProb("p(x|z,w)", lambda x: x),
        FormulaError,
        "p(x|z,w): log_density is to score x, z, w, but its signature leaves out z, w. Name all of them, or leave z, w out of p(x|z,w).",
    ),
    "features": (
        score(lambda z: z),
        ShapeError,
        "p(z): for 4 values log_density must return (4,); it returned (4, 2). Sum over the features.",
    ),
    "reduced": (score(lambda z: z.sum()), ShapeError, "p(z): for 4 values log_density must return (4,); it returned ()."),
    "column": (score(lambda z: z[:, :1]), ShapeError, "it returned (4, 1)."),
    "no tensor": (score(lambda z: 1.0), KindError, "p(z): log_density must return a tensor of real numbers, (4,); it returned a float."),
    "whole numbers": (score(lambda z: z.sum(-1).long()), KindError, "it returned a tensor (4,) of torch.int64."),
    "rank": (lambda: CustomProb("p(z)", standard).log_likelihood({"z": 1.0}), ShapeError, "z has shape (); a value is (batch, *features)."),
    "batches": (
        lambda: CustomProb("p(x|z)", around).log_likelihood({"x": draw(3, 2), "z": draw(4, 2)}),
        ShapeError,
        "p(x|z): x has batch 3, z has batch 4; one evaluation of it needs one batch.",
    ),
    "sample": (
        lambda: CustomProb("p(z)", standard).sample(),
        IntractableError,
        "p(z) is known by its log-density only, so z cannot be drawn from it. Give z, or draw from a q that you fit to it",
    ),
    "mean": (lambda: CustomProb("p(z)", standard).mean(), IntractableError, "so its mean is not; ask a q that you fit"),
}


@pytest.mark.parametrize("case", CASES)
def test_errors(case):
    do, error, words = CASES[case]
    with pytest.raises(error) as caught:
        do()
    assert words in str(caught.value)
