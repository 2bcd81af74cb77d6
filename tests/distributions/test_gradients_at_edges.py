"""Gradients where a parameter lies at an end of its range: what is finite there is not lost."""

import mpmath
import pytest
import torch
from torch import nn

import pixyz.distributions as d

GATES = [0.0, 1e-30, 1e-6, 0.1, 0.9, 0.999999, 1.0]


@pytest.mark.parametrize("rate", [1e-3, 0.5, 2.0, 50.0, 85.0])
@pytest.mark.parametrize(
    ("dtype", "rtol"), [pytest.param(torch.float32, 2e-5, id="float32"), pytest.param(torch.float64, 1e-13, id="float64")]
)
def test_the_gate_of_a_zero_inflated_family(dtype, rtol, rate):
    """log(π + (1-π)e^-λ) at 0, its derivative for π is (1 - e^-λ) over that, for λ -(1-π)e^-λ over that; also where π is 0 or 1."""
    gate, mean = nn.Parameter(torch.tensor(GATES, dtype=dtype)), nn.Parameter(torch.full((len(GATES),), rate, dtype=dtype))
    p = d.ZeroInflated(d.Poisson("p(x)", rate=mean), gate=gate)
    value = p.log_likelihood({"x": torch.zeros(1, len(GATES), dtype=dtype)}).sum()
    slopes = torch.autograd.grad(value, [gate, mean])
    with mpmath.workdps(60):
        rate = mpmath.mpf(mean[0].item())
        pi = [mpmath.mpf(v) for v in gate.tolist()]
        total = [v + (1 - v) * mpmath.exp(-rate) for v in pi]
        expected = (
            [(1 - mpmath.exp(-rate)) / t for t in total],
            [-(1 - v) * mpmath.exp(-rate) / t for v, t in zip(pi, total)],
        )
        logs = [float(mpmath.log(t)) for t in total]
    torch.testing.assert_close(value.item(), sum(logs), rtol=rtol, atol=0)
    for found, right, atol in zip(slopes, expected, [0.0, torch.finfo(dtype).eps]):  # torch derives expm1 by expm1 + 1
        torch.testing.assert_close(found, torch.tensor([float(v) for v in right], dtype=dtype), rtol=rtol, atol=atol)


def test_a_gate_of_zero_far_from_any_zero():
    """The zeros of the base are so rare that the derivative, e^200, is above the greatest number: it is great, and not lost."""
    gate = nn.Parameter(torch.zeros(1))
    value = d.ZeroInflated(d.Poisson("p(x)", rate=torch.tensor([200.0])), gate=gate).log_likelihood({"x": torch.zeros(1, 1)})
    assert value.item() == -200.0
    (slope,) = torch.autograd.grad(value, gate)
    assert slope.isfinite()
    assert slope > 1e30


@pytest.mark.parametrize(
    ("family", "n", "x", "probs", "value", "slope"),
    [
        pytest.param(d.Bernoulli, None, 0.0, 0.0, 0.0, -1.0, id="Bernoulli that never was"),
        pytest.param(d.Bernoulli, None, 1.0, 1.0, 0.0, 1.0, id="Bernoulli that always was"),
        pytest.param(d.Binomial, 5.0, 0.0, 0.0, 0.0, -5.0, id="Binomial without success"),
        pytest.param(d.Binomial, 5.0, 5.0, 1.0, 0.0, 5.0, id="Binomial without failure"),
        pytest.param(d.NegativeBinomial, 3.0, 0.0, 0.0, 0.0, -3.0, id="NegativeBinomial without success"),
        pytest.param(d.Geometric, None, 0.0, 1.0, 0.0, 1.0, id="Geometric without failure"),
    ],
)
def test_a_probability_at_an_end_has_the_slope_of_what_is_certain(family, n, x, probs, value, slope):
    pi = nn.Parameter(torch.tensor([probs]))
    p = family("p(x)", probs=pi, **({} if n is None else {"total_count": torch.tensor([n])}))
    found = p.log_likelihood({"x": torch.tensor([[x]])})
    assert found.item() == value
    assert torch.autograd.grad(found, pi)[0].item() == slope
