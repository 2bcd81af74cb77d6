"""Faults in estimators, bounds, games, sequences and losses of sets, which random formulas find."""

from dataclasses import replace

import pytest
import torch
from formulas.checked import DisagreementError, check
from formulas.worlds.bounds import Bounded, Prior
from formulas.worlds.bounds.terms import Aggregate
from formulas.worlds.estimators import Estimated
from formulas.worlds.estimators.model import Expected, Function, Likelihood, Variable
from formulas.worlds.games import Penalty, Played
from formulas.worlds.sequences import Sequence
from formulas.worlds.sets import Compared
from planted import changed, given, need_found, planted, slowed, with_gradients_times

from pixyz import losses
from pixyz.core import Term
from pixyz.gan import R1, AdversarialHinge, GradientPenalty
from pixyz.losses import MMD, InfoNCE, IterativeLoss, Pathwise, Relaxed, StraightThrough, Wasserstein


def drawn_terms(change):
    """The fault that an estimator draws other terms."""

    def make(f):
        return lambda self, *arguments: [Term(change(t), dims) for t, dims in f(self, *arguments)]

    return make


def without(name):
    """The fault that an option is ignored."""
    return lambda *arguments, **options: (arguments, {k: v for k, v in options.items() if k != name})


def renyi_of_another_order(monkeypatch):
    planted(monkeypatch, losses, "RenyiBound", lambda f: lambda p, q, alpha, **options: f(p, q, alpha + 0.5, **options))


def a_relaxed_value_is_called_unbiased(monkeypatch):
    monkeypatch.setattr(Relaxed, "biased", False)


def with_a_constant(f):
    def evaluate(self, scope):
        tensor, dims = f(self, scope)
        return Term(tensor + 0.1, dims)

    return evaluate


A_RATE = Variable("a", "Exponential", 1, (), "networked")
A_COIN, A_LOCATION = Variable("b", "Bernoulli", 1, (), "given"), Variable("a", "Normal", 1, (), "parameter")


def expected(variable, how, count=2, shape="tanh"):
    return Estimated(5, 2, (variable,), Expected((variable.name,), Function((variable.name,), shape), (how,), count))


def played(**changes):
    plain = Played(683419952, 4, 1, "AdversarialHinge", 1.0, "trained", "Deterministic", True, True, False, (), False, "d")
    return replace(plain, **changes)


BOUND = Bounded(
    83869,
    3,
    (A_LOCATION, Variable("b", "Categorical", 3, (), "parameter")),
    (Prior("a", "Normal", 1, (), "parameter"), Prior("b", "Categorical", 3, ("a",), "parameter")),
    Likelihood(("a", "b"), "Bernoulli"),
    ((1, Aggregate(("score", "score"), 2, -0.5, "RenyiBound")),),
)
CHAIN = Sequence(8376, 2, 3, "Categorical", 2, "score", 1, "analytic", True, False, True, False, True, False)
SETS = Compared(77064424, (2, 4), 1, 1, "Wasserstein", "3", 0.5, True, 0.5)

FAULTS = {
    "a baseline that takes a share of the score": (
        with_gradients_times(lambda count: (count - 1) / count),
        expected(A_COIN, "score"),
    ),
    "half of the gradient of a path": (changed(Pathwise, "draw", drawn_terms(lambda t: slowed(t, 0.5))), expected(A_RATE, "auto")),
    "no gradient of a borrowed mean": (
        changed(StraightThrough, "draw", drawn_terms(lambda t: t.detach())),
        expected(A_COIN, "straight_through", shape="square"),
    ),
    "another value of a relaxed draw": (changed(Relaxed, "draw", drawn_terms(lambda t: 0.8 * t)), expected(A_COIN, "relaxed:0.5")),
    "a bias that is not said": (a_relaxed_value_is_called_unbiased, expected(A_COIN, "relaxed:0.5")),
    "a bound of another order": (renyi_of_another_order, BOUND),
    "a penalty of both sides in place of one": (
        given(GradientPenalty, without("one_sided")),
        played(penalties=(Penalty("GradientPenalty", 10.0, one_sided=True),)),
    ),
    "sides of a game exchanged": (
        changed(AdversarialHinge, "played", lambda f: lambda self, duel: f(self, duel)[::-1]),
        played(linear=False, player="p"),
    ),
    "the slope at the fakes in place of the data": (
        changed(R1, "__init__", lambda f: lambda self, p, d, real: f(self, p, d, p)),
        played(linear=False, penalties=(Penalty("R1", 0.5),)),
    ),
    "a sequence without its mask": (given(IterativeLoss, without("mask")), CHAIN),
    "a kernel of another width": (given(MMD, without("sigma_sqr")), replace(SETS, loss="MMD", option="gaussian")),
    "the power of a distance": (changed(Wasserstein, "of_sets", lambda f: lambda self, x, y: f(self, x, y) ** self.order), SETS),
    "a bound with a constant": (
        changed(InfoNCE, "evaluate", with_a_constant),
        replace(SETS, loss="InfoNCE", option="function", variables=1, mapped=False),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    plant, case = FAULTS[name]
    torch.set_default_dtype(torch.float64)
    need_found(monkeypatch, plant, lambda: check(case), DisagreementError)
