# ruff: noqa: E501
"""Rows of pixyz.core: every estimator, by its name and as an object with options, alone and beside others."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from pixyz.core import (
    AnyEstimator,
    Enumerate,
    Expectation,
    Loss,
    MovingAverage,
    Pathwise,
    Rebar,
    Relaxed,
    Sample,
    Score,
    StraightThrough,
)
from pixyz.distributions import Bernoulli, Categorical, CategoricalIndex, Distribution, Normal, Poisson

from .row import BATCH, Row, differentiated, f64, free, wave

X = wave(BATCH, 3)


def bits(text: str = "q(b|x)", inputs: int = 3) -> Bernoulli:
    return Bernoulli(text, logits=nn.Linear(inputs, 2))


def label() -> Categorical:
    return Categorical("q(b|x)", logits=nn.Linear(3, 3))


def number() -> Normal:
    return Normal("q(b|x)", loc=nn.Linear(3, 2), scale=free([0.7, 0.9]))


def cost(size: int, var: str = "b", others: int = 0) -> Loss:
    """A smooth function of what is drawn, with parameters of its own."""
    return Loss.from_function(Squared(size + others), "f", var=[var, *(["z"] if others else [])])


class Squared(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.net = nn.Linear(inputs, 2)

    def forward(self, *given: Tensor, **named: Tensor) -> Tensor:
        return torch.tanh(self.net(torch.cat([*given, *named.values()], -1))).square().sum(-1)


class Learned(nn.Module):
    """A baseline that is one number."""

    def __init__(self) -> None:
        super().__init__()
        self.value = free(0.2)

    def forward(self) -> Tensor:
        return self.value


def of(make: Callable[[], Distribution], size: int, estimator: AnyEstimator, num_samples: int = 2, **options: object) -> Row:
    return Row(Expectation(make(), cost(size), estimator=estimator, num_samples=num_samples, **options), {"x": differentiated(X)})


def with_temperature(estimator: AnyEstimator) -> Row:
    loss = Expectation(bits(), cost(2), estimator=estimator, num_samples=2)
    return Row(loss, {"x": X, "tau": f64(0.6)})


def chain(**estimators: AnyEstimator) -> Row:
    """q(b|x)q(z|b), and a cost of both."""
    q = bits() * Normal("q(z|b)", loc=nn.Linear(2, 2), scale=free(0.6))
    return Row(Expectation(q, cost(2, others=2), estimator=estimators, num_samples=2), {"x": X})


def discrete_chain(**estimators: AnyEstimator) -> Row:
    q = bits() * bits("q(z|b)", 2)
    return Row(Expectation(q, cost(2, others=2), estimator=estimators, num_samples=2), {"x": X})


def nested_rebar() -> Row:
    inner = Expectation(bits("q(z|b)", 2), cost(2, others=2), estimator="rebar")
    return Row(Expectation(bits(), inner, estimator="rebar"), {"x": X})


def evaluated_before(estimator: AnyEstimator) -> Row:
    """A moving average that has seen costs."""
    row = of(bits, 2, estimator)
    row.loss.estimate(row.values)
    return row


def several(estimator: AnyEstimator, num_samples: int = 2) -> Row:
    """Two expectations over one distribution, in a difference, a product and a function."""
    q, costs = bits(), [Loss.from_function(Squared(2), name, var=["b"]) for name in ("f", "g")]
    a, b = (Expectation(q, each, estimator=estimator, num_samples=num_samples) for each in costs)
    return Row(a - 0.5 * b + a * b + (a - b).exp(), {"x": X})


NAMED = {
    **{f"{name} of bits": partial(of, bits, 2, name) for name in ("auto", "enumerate", "score", "relaxed", "rebar", "straight_through", "sample")},
    **{f"{name} of a category": partial(of, label, 3, name) for name in ("auto", "enumerate", "score", "relaxed", "rebar", "straight_through", "sample")},
    **{f"{name} of a normal": partial(of, number, 2, name) for name in ("auto", "pathwise", "score", "sample")},
}  # fmt: skip
OBJECTS = {
    "Enumerate(max_enumerate)": partial(of, bits, 2, Enumerate(max_enumerate=4)),
    "Pathwise": partial(of, number, 2, Pathwise()),
    "Sample": partial(of, number, 2, Sample()),
    "Score, leave-one-out": partial(of, bits, 2, Score(), 3),
    "Score, leave-one-out of a Poisson": lambda: of(lambda: Poisson("q(b|x)", rate=nn.Sequential(nn.Linear(3, 2), nn.Softplus())), 2, Score(), 3),
    "Score, a number": partial(of, bits, 2, Score(baseline=0.5), 1),
    "Score, a network": lambda: of(bits, 2, Score(baseline=nn.Linear(3, 1))),
    "Score, a network, one draw": lambda: of(bits, 2, Score(baseline=nn.Linear(3, 1)), 1),
    "Score, a learned number": lambda: of(bits, 2, Score(baseline=Learned())),
    "Score, a moving average": lambda: evaluated_before(Score(baseline=MovingAverage(0.8))),
    "Relaxed": partial(of, bits, 2, Relaxed(0.8)),
    "Relaxed of a category": partial(of, label, 3, Relaxed(1.3)),
    "Relaxed, a tensor": lambda: of(bits, 2, Relaxed(f64(0.8))),
    "Relaxed, a given temperature": partial(with_temperature, Relaxed("tau")),
    "StraightThrough, a temperature": partial(of, bits, 2, StraightThrough(0.8)),
    "StraightThrough of a category, a temperature": partial(of, label, 3, StraightThrough(0.8)),
    "Rebar": partial(of, bits, 2, Rebar(0.7, scale=0.9)),
    "Rebar of a category": partial(of, label, 3, Rebar(0.7, scale=0.9)),
    "Rebar, a given temperature": partial(with_temperature, Rebar("tau")),
    "Rebar, one draw": partial(of, bits, 2, Rebar(), 1),
}  # fmt: skip
MIXED = {
    "a chain, enumerated above a path": partial(chain, b="enumerate", z="pathwise"),
    "a chain, scored above a path": partial(chain, b="score", z="pathwise"),
    "a chain, scored twice": partial(chain, b="score", z="score"),
    "a chain, relaxed above a path": partial(chain, b="relaxed", z="pathwise"),
    "a chain, rebar above a path": partial(chain, b="rebar", z="pathwise"),
    "a chain of bits, summed": partial(discrete_chain, b="enumerate", z="enumerate"),
    "a chain of bits, scored above a sum": partial(discrete_chain, b="score", z="enumerate"),
    "a chain of bits, a sum above scores": partial(discrete_chain, b="enumerate", z="score"),
    "a chain of bits, straight-through above relaxed": partial(discrete_chain, b="straight_through", z="relaxed"),
    "nested rebar": nested_rebar,
    "arithmetic of enumerated expectations": partial(several, "enumerate"),
    "arithmetic of scored expectations": partial(several, "score"),
    "arithmetic of relaxed expectations": partial(several, "relaxed"),
}
AGGREGATES = {
    **{f"aggregate {order} of a path": partial(of, number, 2, "pathwise", 3, aggregate=order) for order in ("log_mean_exp", 0.5, 3.0, -1.0)},
    **{f"aggregate {order} of scores": partial(of, bits, 2, "score", 3, aggregate=order) for order in ("log_mean_exp", 0.5)},
    "aggregate log_mean_exp of relaxed draws": partial(of, bits, 2, "relaxed", 3, aggregate="log_mean_exp"),
    "not shared": partial(of, number, 2, "pathwise", share=False),
    "exact, of trained bits": partial(of, bits, 2, "auto", exact=True),
    "auto of an index": lambda: Row(Expectation(CategoricalIndex("q(b|x)", logits=nn.Linear(3, 3)), Loss.from_function(lambda b: (b + 0.5) ** 2, "f", var=["b"])), {"x": X}),
}  # fmt: skip

ROWS: dict[str, Callable[[], Row]] = {**NAMED, **OBJECTS, **MIXED, **AGGREGATES}
