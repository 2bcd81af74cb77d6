"""An expression that is nested deeply works, or raises an error of the library's: never a RecursionError, never a crash."""

import copy
import pickle
import sys

import pytest
import torch
from torch import nn

from pixyz.core import Parameter, PixyzError, minimum
from pixyz.distributions import Normal
from pixyz.losses import Expectation

P = Normal("p(z)", loc=nn.Parameter(torch.zeros(1)), scale=1.0)
VALUES = {"z": torch.ones(2, 1), "a": 0.5}


def calls(loss):
    return (loss * 0.5).abs()


def sums(loss):
    return Parameter("a") - loss


def arguments(loss):
    return minimum(loss, Parameter("a"))


STEPS = [calls, sums, arguments]
WALKS = {
    "str": str,
    "repr": repr,
    "latex": lambda loss: loss.latex(),
    "unicode": lambda loss: loss.unicode(),
    "estimate": lambda loss: loss.estimate(VALUES),
    "call": lambda loss: loss(VALUES),
    "initialize": lambda loss: loss.initialize(VALUES),
    "deepcopy": copy.deepcopy,
    "pickle": lambda loss: pickle.loads(pickle.dumps(loss)),
    "state_dict": lambda loss: loss.load_state_dict(loss.state_dict()),
    "explain": lambda loss: loss.explain(VALUES),
    "expectation": lambda loss: Expectation(P, loss),
    "for_player": lambda loss: loss.mean().for_player(P),
    "backward": lambda loss: loss.mean().estimate(VALUES).backward(),
}
WHOLE = {"deepcopy", "state_dict", "initialize"}
"""What works at every depth."""


def nested(step, levels):
    loss = P.log_prob()
    for _ in range(levels):
        loss = step(loss)
    return loss


DEEP = {step: nested(step, 400) for step in STEPS}


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("step", STEPS, ids=lambda f: f.__name__)
def test_hundreds_of_levels_work_or_say_so(step, walk):
    loss = DEEP[step]
    if walk in WHOLE:
        WALKS[walk](loss)
        return
    try:
        WALKS[walk](loss)
    except PixyzError as error:
        assert "is nested too deeply to be" in str(error)
        assert error.__cause__ is None


def test_ten_thousand_levels_are_built_and_say_so():
    loss = P.log_prob()
    for _ in range(10_000):
        loss = abs(loss)
    loss.load_state_dict(loss.state_dict())
    for walk in ("str", "estimate", "pickle"):
        with pytest.raises(PixyzError, match="The formula is nested too deeply to be"):
            WALKS[walk](loss)


@pytest.mark.parametrize("walk", ["pickle", "deepcopy", "estimate", "str"])
@pytest.mark.parametrize("step", STEPS, ids=lambda f: f.__name__)
def test_some_levels_work(step, walk):
    WALKS[walk](nested(step, 20))


def test_a_raised_limit_does_not_end_the_interpreter():
    loss = nested(calls, 1500)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        with pytest.raises(PixyzError, match="to be pickled"):
            pickle.dumps(loss)
    finally:
        sys.setrecursionlimit(before)


def test_a_copy_of_a_deep_formula_is_one_of_its_own():
    loss = nested(calls, 100)
    twin = copy.deepcopy(loss)
    with torch.no_grad():
        next(twin.parameters()).fill_(3.0)
    assert twin.estimate(VALUES)[0] != loss.estimate(VALUES)[0]
    assert next(loss.parameters()) is P.loc


def test_a_sum_and_a_product_are_one_level():
    total = sum((Parameter(f"a_{i}") for i in range(300)), start=P.log_prob())
    product = total
    for i in range(300):
        product = product * Parameter(f"b_{i}")
    assert product.depth == 3
    assert str(product)
    pickle.dumps(product)


def test_a_long_product_of_distributions_is_one_level():
    chain = Normal("p(z_0)", loc=0.0, scale=1.0)
    move = Normal("p(z|y)", loc="y", scale=1.0)
    for t in range(1, 300):
        chain = move.replace_var(z=f"z_{t}", y=f"z_{t - 1}") * chain
    for p in (chain, chain.replace_var(z_0="w"), chain.condition(z_0=1.0)):
        assert str(p)
        assert p.latex()
        copy.deepcopy(p)
        pickle.loads(pickle.dumps(p))
