"""Sums over the steps of a sequence as formulas: one graph, copied, explained and printed; and errors."""

import copy
import math
import pickle

import pytest
import torch
from losses.test_sequences import HAND_ON, chain, many, series, state_space

from pixyz.core import FormulaError, KindError, LogProb, MissingVariableError, ShapeError, SupportError, seeded
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Normal
from pixyz.losses import ELBO, IWAE, NLL, IterativeLoss


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


def cases(steps=3):
    q, decoder, transition = state_space()
    _, finite, cost = chain(2)
    discrete = {"x": torch.randn(4, steps, 1), "z_prev": torch.zeros(4, 2)}
    bound = ELBO(decoder * transition, q, num_samples=2)
    return {
        "pathwise": (IterativeLoss(bound, series_var=["x"], update_value=HAND_ON), series(steps=steps)),
        "masked": (
            IterativeLoss(bound, series_var=["x"], update_value=HAND_ON, mask="m"),
            {**series(steps=steps), "m": torch.ones(4, steps)},
        ),
        "aggregate": (
            IterativeLoss(IWAE(decoder * transition, q, num_samples=2), series_var=["x"], update_value=HAND_ON),
            series(steps=steps),
        ),
        "enumerated": (IterativeLoss(cost.expectation(finite), series_var=["x"], update_value=HAND_ON), discrete),
        "scored": (
            IterativeLoss(cost.expectation(finite, estimator="score", num_samples=2), series_var=["x"], update_value=HAND_ON),
            discrete,
        ),
    }


CASES = ("pathwise", "masked", "aggregate", "enumerated", "scored")


@pytest.mark.parametrize("together", [CASES[:3], CASES[3:]], ids=" and ".join)
def test_one_graph(together):
    """Each with a weight of its own, so that a single trace serves for several."""
    table = cases(steps=2)
    loss = -sum((1 + i) * table[case][0] for i, case in enumerate(together)).mean()
    values = table[together[-2]][1]
    with seeded(0):
        eager = loss.estimate(values)
    loss.compile(fullgraph=True, backend="eager")
    with seeded(0):
        torch.testing.assert_close(loss.estimate(values), eager)


@pytest.mark.parametrize("case", CASES)
def test_copies_and_explanations(case):
    loss, values = cases()[case]
    with seeded(0):
        value = loss.estimate(values)
    with seeded(0):
        torch.testing.assert_close(copy.deepcopy(loss).estimate(values), value)
    with seeded(0):
        assert math.isclose(loss.mean().explain(values).value, value.mean().item(), rel_tol=1e-9)
    if case in ("pathwise", "masked"):
        pickle.loads(pickle.dumps(loss)).estimate(values)


def test_the_terms_of_an_explanation_add_up():
    loss, values = cases()["pathwise"]
    told = loss.mean().explain(values)
    ratio = told.terms[0].terms[0]
    assert math.isclose(ratio.terms[0].value - ratio.terms[1].value, told.value, rel_tol=1e-9)
    assert "z drawn 2 times, pathwise" in str(told)


def test_printing():
    loss, _ = cases()["pathwise"]
    assert str(loss) == "Σ_{t=0}^{T-1} E_q(z|x,z_prev)[log p(x,z|z_prev)/q(z|x,z_prev)]"
    assert loss.latex().startswith(r"\sum_{t=0}^{T-1} \mathbb{E}_{q(z|x,z_{\mathrm{prev}})}\left[")
    assert str(-loss.mean()) == f"-mean({loss})"


def bad():
    """By name: what is done, the error, and what it says."""
    q, decoder, transition = state_space()
    bound = ELBO(decoder * transition, q)
    _, finite, cost = chain(2)
    memory = Deterministic("f(h|z,h_prev)", lambda z, h_prev: {"h": z + h_prev})
    on_memory = Categorical("q(z|x,h_prev)", logits=lambda x, h_prev: x + h_prev)
    emission = LogProb(Normal("p(x|h)", loc="h", scale=1.0))
    paths = emission.expectation(memory * on_memory, estimator="enumerate")
    scored = cost.expectation(finite, estimator="score", num_samples=2)
    walk = NLL(Normal("p(x|x_prev)", loc="x_prev", scale=1.0))

    def build(step, **more):
        return lambda: IterativeLoss(step, **{"series_var": ["x"], "update_value": HAND_ON, **more})

    def run(step, values, **more):
        return lambda: build(step, **more)().estimate({**series(), **values})

    no_terms = "has no terms beside it"
    other_mask = r"the mask m has shape \(4, 5\); for 6 steps it is \(batch, 6\)"
    other_start = r"x_prev has features \(2,\), but from the second step on it is x, with features \(3,\)"
    return {
        "an update of nothing": (build(bound, update_value={"y": "z_prev"}), FormulaError, "The update y -> z_prev produces nothing"),
        "an unused update": (build(bound, update_value={"z": "w"}), FormulaError, "w is no variable that .* needs"),
        "an unused series": (build(bound, series_var="y"), FormulaError, "series_var: y is no variable"),
        "no length": (build(bound, series_var=()), FormulaError, "nothing says how many steps"),
        "no steps": (build(bound, max_iter=0), KindError, "max_iter must be a whole number of at least 1; got 0"),
        "a draw in a function": (build(bound.exp()), FormulaError, "where the next step cannot have it"),
        "two draws": (build(bound + ELBO(decoder * transition, q, num_samples=3)), FormulaError, "each in its own way"),
        "an aggregate in a sum": (build(IWAE(decoder * transition, q, num_samples=2) + 1.0), FormulaError, no_terms),
        "all paths": (build(paths, update_value={"h": "h_prev"}), FormulaError, "takes all paths"),
        "a mask for a mean": (build(bound.mean(), mask="m"), ShapeError, r"Take .mean\(\) outside"),
        "no loss": (build(q), KindError, "takes the loss of one step; got a Encoder"),
        "lengths that disagree": (run(bound, {"m": torch.ones(4, 5)}, mask="m"), ShapeError, other_mask),
        "two series that disagree": (
            run(emission, {"h": torch.zeros(4, 5, 1)}, series_var=["x", "h"], update_value={}),
            ShapeError,
            "x has 6 steps and h has 5 steps; the series of one loss have one length",
        ),
        "a random slice": (
            build(emission, slice_step=Normal("q(h|x)", loc="x", scale=1.0), update_value={}),
            KindError,
            r"slice_step must be a Deterministic, which computes the values of one step; got q\(h\|x\)\.$",
        ),
        "a number for a slice": (build(emission, slice_step=3, update_value={}), KindError, r"of one step; got a int\.$"),
        "a series that is a step before": (
            build(emission, series_var=["x", "h"], update_value={"x": "h"}),
            FormulaError,
            "update_value: h is the value of a step before, and cannot be a series or the timestep as well",
        ),
        "a mask of weights": (run(bound, {"m": torch.full((4, 6), 0.5)}, mask="m"), SupportError, "must be 1 at the steps"),
        "no time": (run(bound, {"x": torch.randn(4)}), ShapeError, "x has no step"),
        "no start": (lambda: build(bound)().estimate({"x": torch.randn(4, 6, 3)}), MissingVariableError, "needs z_prev"),
        "another start": (run(walk, {"x_prev": torch.zeros(4, 2)}, update_value={"x": "x_prev"}), ShapeError, other_start),
        "a score of a mean": (run(scored.mean(), many(4)), ShapeError, "mixes the data of a batch"),
    }


@pytest.mark.parametrize("name", list(bad()))
def test_bad_input(name):
    make, error, match = bad()[name]
    with pytest.raises(error, match=match):
        make()


def test_a_score_without_a_baseline_warns():
    memory = Deterministic("f(h|z,h_prev)", lambda z, h_prev: {"h": z + h_prev})
    q = Bernoulli("q(z|x,h_prev)", logits=lambda x, h_prev: x + h_prev)
    emission = LogProb(Normal("p(x|h)", loc="h", scale=1.0))
    with pytest.warns(UserWarning, match="estimated by the score function from one draw"):
        IterativeLoss(emission.expectation(memory * q), series_var="x", update_value={"h": "h_prev"})
