"""Marginals and posteriors without a closed form: each error names the factor that prevents it."""

import functools
import operator

import pytest
import torch
from graphical import Emission, Prior, linear_pair
from torch import nn

from pixyz.core import FormulaError, IntractableError, MissingVariableError, ShapeError
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Laplace, Normal

pytestmark = pytest.mark.usefixtures("float64")


def too_dense():
    """Four variables of 200 values above one: a table of 200**4 entries."""
    p = Bernoulli("p(x|a,b,c,d)", logits=lambda a, b, c, d: (a + b + c + d).sum(-1, keepdim=True))
    for v in "abcd":
        p = p * Prior(v, 200)
    return p.marginalize_var(list("abcd"))


def two_children(first, second):
    """x and y of different batches, below one k."""
    x, y = (Normal(f"p({v}|k)", loc=nn.Linear(3, 2), scale=1.0) for v in "xy")
    return (x * y * Prior("k", 3)).marginalize_var("k").log_likelihood({"x": torch.zeros(first, 2), "y": torch.zeros(second, 2)})


def below_computed():
    """h = f(k) between k and what is seen."""
    return (Normal("p(x|h)", loc=nn.Linear(3, 2), scale=1.0) * Deterministic("f(h|k)", h=lambda k: k) * Prior("k", 3)).marginalize_var("k")


class Exponential(nn.Linear):
    """No linear map, whatever it inherits."""

    def forward(self, z):
        return super().forward(z).exp()


def many(count, size):
    names = [f"k_{i}" for i in range(count)]
    return names, functools.reduce(operator.mul, [Categorical(f"p({v})", probs=torch.full((size,), 1 / size)) for v in names])


def clique(count, size):
    """Each pair of k_i, k_j has a child."""
    names, p = many(count, size)
    for i in range(count):
        for j in range(i):
            p = p * Normal(f"p(x_{i}_{j}|k_{i},k_{j})", loc=lambda a, b: (a - b)[:, 0], scale=1.0)
    return p.marginalize_var(names)


def laplace():
    return Laplace("p(z)", loc=0.0, scale=1.0, dim=2)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: (Bernoulli("p(x|z)", logits=nn.Linear(2, 3)) * linear_pair()[1]).marginalize_var("z").log_prob(),
            IntractableError,
            r"log p\(x\) needs the integral over z.*p\(x\|z\) \(Bernoulli\) is not declared linear in z.*proposal=q",
        ),
        (
            lambda: (linear_pair()[0] * laplace()).marginalize_var("z").log_prob(),
            IntractableError,
            r"z from p\(z\) \(Laplace\) has neither finitely many values nor a normal density",
        ),
        (
            lambda: (Normal("p(x|z)", loc=lambda z: z, scale=1.0) * linear_pair()[1]).marginalize_var("z").log_prob(),
            IntractableError,
            r"p\(x\|z\) \(Normal\) is not declared linear in z",
        ),
        (
            lambda: (Normal("p(x|z)", loc="z", scale=nn.Linear(2, 2)) * linear_pair()[1]).marginalize_var("z").log_prob(),
            IntractableError,
            r"a scale that does not depend on z",
        ),
        (
            lambda: (linear_pair()[0] * laplace()).posterior("z"),
            IntractableError,
            r"p\(z\|x\) needs the integral over z.*ELBO",
        ),
        (
            lambda: (Deterministic("f(h|k)", h=lambda k: k) * Prior("k", 3)).marginalize_var("k").log_prob(),
            IntractableError,
            r"h is computed by f\(h\|k\) from what would be integrated out, so it has no density",
        ),
        (
            lambda: (
                (Emission(1, 1, "x", "b") * Bernoulli("p(b)", probs=torch.full((9,), 0.5)))
                .marginalize_var("b")
                .log_likelihood({"x": torch.zeros(2, 1)})
            ),
            IntractableError,
            r"summing out b from p\(b\) takes 512 values, more than 256",
        ),
        (
            lambda: too_dense().log_likelihood({"x": torch.zeros(2, 1)}),
            IntractableError,
            r"log p\(x\) takes a table over a, b, c, d with 1600000000 entries, more than 67108864.*proposal",
        ),
        (lambda: linear_pair()[0].posterior("z"), FormulaError, r"p\(x\|z\) has no variable z to infer"),
        (lambda: linear_pair()[0].posterior(), FormulaError, r"hides nothing that is drawn, so say what to infer"),
        (
            lambda: (linear_pair()[0] * linear_pair()[1]).condition(x=torch.zeros(3)).posterior(),
            FormulaError,
            r"hides nothing that is drawn",
        ),
        (
            lambda: (linear_pair()[0] * linear_pair()[1]).condition(x=torch.zeros(3)).posterior("x"),
            FormulaError,
            r"has no variable x to infer",
        ),
        (
            lambda: two_children(1, 4),
            ShapeError,
            r"log p\(x,y\): p\(y\|k\) has batch 4 and p\(x\|k\) has batch 1; one density needs one batch",
        ),
        (lambda: two_children(3, 4), ShapeError, r"has batch 4 and .* has batch 3"),
        (
            lambda: below_computed().posterior("h"),
            IntractableError,
            r"p\(h\|x\) needs.*h is computed by f\(h\|k\), so it has no density; ask for what it is computed from",
        ),
        (lambda: below_computed().posterior(["k", "h"]), IntractableError, r"h is computed by f\(h\|k\)"),
        (
            lambda: (Deterministic("f(h|k)", h=lambda k: k) * Prior("k", 3)).marginalize_var("k").mean(),
            IntractableError,
            r"h is computed by f\(h\|k\).*Estimate it from draws",
        ),
        (
            lambda: (Normal("p(x|z)", loc=Exponential(2, 3), scale=1.0) * linear_pair()[1]).marginalize_var("z").log_prob(),
            IntractableError,
            r"not declared linear in z",
        ),
        (
            lambda: clique(8, 20).log_likelihood({f"x_{i}_{j}": torch.zeros(2) for i in range(8) for j in range(i)}),
            IntractableError,
            r"takes a table over k_\d.* with 25600000000 entries, more than 67108864",
        ),
        (lambda: linear_pair()[0].condition(y=1.0), FormulaError, r"p\(x\|z\) has no variable y to condition on"),
        (lambda: linear_pair()[0].condition(x=1.0), FormulaError, r"with x given, nothing is left"),
        (lambda: linear_pair()[0].condition(), FormulaError, r"nothing is given"),
        (
            lambda: (linear_pair()[0] * linear_pair()[1]).log_likelihood({"x": torch.zeros(2, 3)}),
            MissingVariableError,
            r"needs z",
        ),
        (
            lambda: (linear_pair()[0] * linear_pair()[1]).log_likelihood(
                {"x": torch.zeros(2, 3)}, proposal=Normal("q(w)", loc=0.0, scale=1.0)
            ),
            FormulaError,
            r"the proposal q\(w\) draws w, which is no variable of it",
        ),
    ],
)
def test_what_cannot_be_done_says_so(make, error, words):
    with pytest.raises(error, match=words):
        make()
