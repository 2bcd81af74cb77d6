"""Densities at the ends of their supports: finite where the power of the distance to the end is 0, else 0 or infinite."""

import math

import pytest
import torch
from scipy import stats

import pixyz.distributions as d

INF = math.inf

POINTS = {
    "Beta(1, 8) at 0": (d.Beta, {"concentration1": 1.0, "concentration0": 8.0}, 0.0, math.log(8), -7.0),
    "Beta(8, 1) at 1": (d.Beta, {"concentration1": 8.0, "concentration0": 1.0}, 1.0, math.log(8), 7.0),
    "Beta(1, 1) at 0": (d.Beta, {"concentration1": 1.0, "concentration0": 1.0}, 0.0, 0.0, 0.0),
    "Beta(2, 8) at 0": (d.Beta, {"concentration1": 2.0, "concentration0": 8.0}, 0.0, -INF, None),
    "Beta(0.5, 8) at 0": (d.Beta, {"concentration1": 0.5, "concentration0": 8.0}, 0.0, INF, None),
    "Kumaraswamy(1, 5) at 0": (d.Kumaraswamy, {"concentration1": 1.0, "concentration0": 5.0}, 0.0, math.log(5), None),
    "Kumaraswamy(5, 1) at 1": (d.Kumaraswamy, {"concentration1": 5.0, "concentration0": 1.0}, 1.0, math.log(5), 4.0),
    "Kumaraswamy(5, 2) at 1": (d.Kumaraswamy, {"concentration1": 5.0, "concentration0": 2.0}, 1.0, -INF, None),
    "Kumaraswamy(0.5, 2) at 0": (d.Kumaraswamy, {"concentration1": 0.5, "concentration0": 2.0}, 0.0, INF, None),
    "Gamma(1) at 0": (d.Gamma, {"concentration": 1.0, "rate": 3.0}, 0.0, math.log(3), -3.0),
    "Gamma(1) of a scale at 0": (d.Gamma, {"concentration": 1.0, "scale": 4.0}, 0.0, -math.log(4), -0.25),
    "Gamma(2) at 0": (d.Gamma, {"concentration": 2.0, "rate": 3.0}, 0.0, -INF, None),
    "Gamma(0.5) at 0": (d.Gamma, {"concentration": 0.5, "rate": 3.0}, 0.0, INF, None),
    "Weibull(1) at 0": (d.Weibull, {"concentration": 1.0, "scale": 4.0}, 0.0, -math.log(4), -0.25),
    "Weibull(2) at 0": (d.Weibull, {"concentration": 2.0, "scale": 4.0}, 0.0, -INF, None),
    "Weibull(0.5) at 0": (d.Weibull, {"concentration": 0.5, "scale": 4.0}, 0.0, INF, None),
    "RelaxedBernoulli(1) at 0": (d.RelaxedBernoulli, {"temperature": 1.0, "logits": 0.5}, 0.0, -0.5, None),
    "RelaxedBernoulli(1) at 1": (d.RelaxedBernoulli, {"temperature": 1.0, "logits": 0.5}, 1.0, 0.5, None),
    "RelaxedBernoulli(2) at 1": (d.RelaxedBernoulli, {"temperature": 2.0, "logits": 0.5}, 1.0, -INF, None),
    "RelaxedBernoulli(0.5) at 0": (d.RelaxedBernoulli, {"temperature": 0.5, "logits": 0.5}, 0.0, INF, None),
    "Exponential at 0": (d.Exponential, {"rate": 3.0}, 0.0, math.log(3), -3.0),
    "HalfNormal at 0": (d.HalfNormal, {"scale": 2.0}, 0.0, stats.halfnorm(scale=2).logpdf(0.0), 0.0),
    "Uniform at its lower end": (d.Uniform, {"low": -1.0, "high": 3.0}, -1.0, -math.log(4), None),
    "Uniform at its upper end": (d.Uniform, {"low": -1.0, "high": 3.0}, 3.0, -math.log(4), None),
    "ContinuousBernoulli at 1": (d.ContinuousBernoulli, {"logits": 2.0}, 1.0, 2 + math.log(2 / math.expm1(2)), 2.0),
    "Pareto at its scale": (d.Pareto, {"scale": 2.0, "alpha": 3.0}, 2.0, math.log(1.5), -2.0),
}


@pytest.mark.parametrize("case", POINTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 5e-14)], ids=str)
def test_the_density_at_an_end(dtype, tolerance, case):
    family, params, end, expected, slope = POINTS[case]
    given = {k: torch.tensor([v], dtype=dtype, requires_grad=True) for k, v in params.items()}
    p = family("p(x)", **given)
    x = torch.tensor([[end]], dtype=dtype, requires_grad=True)
    found = p.log_likelihood({"x": x})
    torch.testing.assert_close(found.item(), expected, rtol=0, atol=tolerance)
    if math.isfinite(expected):
        slopes = torch.autograd.grad(found.sum(), [x, *given.values()], allow_unused=True)
        assert all(g is None or g.isfinite().all() for g in slopes)
        if slope is not None:
            torch.testing.assert_close(slopes[0].item(), slope, rtol=0, atol=10 * tolerance)


def test_a_relaxed_vector_with_a_zero_has_a_density():
    """An element that softmax has rounded to 0 counts as the least number, as in draws."""
    params = {"temperature": torch.tensor(0.5), "logits": torch.zeros(3)}
    x, least = torch.tensor([[0.0, 0.25, 0.75]]), torch.tensor([[torch.finfo(torch.float32).tiny, 0.25, 0.75]])
    found = d.RelaxedCategorical("p(x)", **params).log_likelihood({"x": x})
    assert found.isfinite().all()
    torch.testing.assert_close(found, d.RelaxedCategorical("p(x)", **params).log_likelihood({"x": least}))
