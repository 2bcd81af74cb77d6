"""Gradients of DReG and sticking the landing for what q depends on: values given with the data, and what q computes.

The truth is the gradient of IWAE, and of the evidence lower bound, over many draws.
"""

import pytest
import torch
from torch import nn

from pixyz.core import FormulaError
from pixyz.distributions import Deterministic, Normal
from pixyz.losses import ELBO, IWAE, DReG, IterativeLoss, StickingTheLanding

DATA, REPEATS = 20_000, 10
U = torch.tensor([[0.5, -0.8]], dtype=torch.float64)
X = torch.tensor([[0.3, 1.1]], dtype=torch.float64)


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


def latent(loc):
    return Normal("p(z)", loc=loc, scale=1.0, dim=2)


def observed():
    return Normal("p(x|z)", loc=torch.tanh, scale=0.7) * latent(0.0)


def layers():
    return Normal("p(x|y)", loc=torch.tanh, scale=0.7) * Normal("p(y|z)", loc=torch.sin, scale=1.0) * latent(0.0)


def inference(of):
    return Normal(f"q(z|{of})", loc=lambda **v: 0.8 * v[of], scale=lambda **v: 0.4 + v[of].square())


def inputs():
    """p, q, by what q's input is."""
    middle = Deterministic("m(k|z,u)", k=lambda z, u: (z * u).sin() + 0.3 * u)
    lower = Normal("q(y|k)", loc=lambda k: 1.5 * k, scale=0.5)
    return {
        "given": (observed(), inference("u")),
        "given, and p's too": (Normal("p(x|z,u)", loc=lambda z, u: torch.tanh(z) + u, scale=0.7) * latent(0.0), inference("u")),
        "computed": (observed(), inference("h") * Deterministic("r(h|u)", h=torch.tanh)),
        "computed from a draw": (layers(), lower * middle * inference("u")),
        "computed from a draw, and p's too": (
            Normal("p(x|y,k)", loc=lambda y, k: torch.tanh(y) + k, scale=0.7) * Normal("p(y|z)", loc=torch.sin, scale=1.0) * latent(0.0),
            lower * middle * inference("u"),
        ),
    }


def gradients(loss):
    """The gradient for u, `(REPEATS, 2)`, each of many draws."""
    found = []
    for _ in range(REPEATS):
        u = U.clone().requires_grad_()
        value = loss.mean().estimate({"x": X.expand(DATA, -1), "u": u.expand(DATA, -1)})
        found.append(torch.autograd.grad(value, u)[0][0])
    return torch.stack(found)


@pytest.mark.parametrize("case", inputs())
@pytest.mark.parametrize(
    ("ours", "truth"), [(lambda p, q: DReG(p, q, num_samples=3), lambda p, q: IWAE(p, q, num_samples=3)), (StickingTheLanding, ELBO)]
)
def test_the_gradient_for_an_input_of_q_is_that_of_the_bound(ours, truth, case):
    p, q = inputs()[case]
    a, b = gradients(ours(p, q)), gradients(truth(p, q))
    error = ((a.var(0) + b.var(0)) / REPEATS).sqrt()
    # With the score for q's inputs, DReG's gradient is off by 0.1 to 0.9.
    assert error.max() < 0.05
    assert ((a.mean(0) - b.mean(0)).abs() < 5 * error).all()


def test_the_gradient_through_what_a_sequence_hands_on_stays():
    """Where q is p and x says nothing of z, the gradient for q is zero for every draw, along all steps."""
    step = nn.Linear(2, 2)
    nn.init.eye_(step.weight)
    nn.init.zeros_(step.bias)
    p = Normal("p(x|z)", loc=lambda z: 0.0 * z, scale=1.0) * Normal("p(z|z_prev)", loc="z_prev", scale=0.5)
    q = Normal("q(z|z_prev)", loc=step, scale=0.5)
    loss = IterativeLoss(StickingTheLanding(p, q), series_var=["x"], update_value={"z": "z_prev"}).mean()
    value = loss.estimate({"x": torch.randn(5, 3, 2), "z_prev": torch.zeros(5, 2)})
    for slope in torch.autograd.grad(value, [*step.parameters()]):
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-12, rtol=0)


def network():
    return nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))


def test_dropout_that_a_second_run_would_draw_anew_is_refused():
    values = {"x": X.expand(5, -1)}
    below = Normal("q(y|z)", loc=network(), scale=0.5) * Normal("q(z|x)", loc="x", scale=0.5)
    for loss in (StickingTheLanding(layers(), below), DReG(layers(), below, num_samples=2)):
        with pytest.raises(FormulaError, match=r"dropout has another mask each time.* Call \.eval\(\)"):
            loss.train().mean().estimate(values)
        assert loss.eval().mean().estimate(values).isfinite()
    p = Normal("p(x|z)", loc=network(), scale=0.7) * latent(0.0)
    with pytest.raises(FormulaError, match="DReG|log mean"):
        DReG(p, inference("x"), num_samples=2).mean().estimate(values)


def test_dropout_above_what_is_computed_from_the_data_is_taken_and_above_what_is_computed_from_draws_refused():
    values = {"x": X.expand(5, -1)}
    of_data = Normal("q(z|h)", loc=network(), scale=0.5) * Deterministic("f(h|x)", h="x")
    assert StickingTheLanding(observed(), of_data).train().mean().estimate(values).isfinite()
    first = Deterministic("f(h|y)", h="y") * Normal("q(y|x)", loc="x", scale=0.5)
    of_draws = Normal("q(z|h)", loc=network(), scale=0.5) * first
    p = observed() * Normal("p(y)", loc=0.0, scale=1.0, dim=2)
    with pytest.raises(FormulaError, match="dropout has another mask each time"):
        StickingTheLanding(p, of_draws).train().mean().estimate(values)


def test_dropout_of_what_runs_once_is_taken():
    values = {"x": X.expand(5, -1)}
    p, q = Normal("p(x|z)", loc=network(), scale=0.7) * latent(0.0), Normal("q(z|x)", loc=network(), scale=0.5)
    assert StickingTheLanding(p, q).mean().estimate(values).isfinite()
    assert DReG(observed(), q, num_samples=2).mean().estimate(values).isfinite()
