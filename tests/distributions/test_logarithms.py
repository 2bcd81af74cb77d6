"""Log-probabilities next to 0, where a sum of larger terms has lost its digits: against arithmetic of many digits."""

import mpmath
import pytest
import torch

import pixyz.distributions as d

KINDS = [pytest.param(torch.float32, 2e-6, id="float32"), pytest.param(torch.float64, 4e-15, id="float64")]
LOGITS = [-90.0, -37.0, -20.5, -15.0, -1e-3, 0.0, 1e-3, 1.0, 15.0, 19.5, 20.5, 36.0, 40.0, 90.0]


def near(found, expected, rtol):
    """Relative to the value, however small it is, down to the least normal number."""
    torch.testing.assert_close(found, torch.tensor([float(v) for v in expected], dtype=found.dtype), rtol=rtol, atol=1e-37)


@pytest.mark.parametrize("x", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(("dtype", "rtol"), KINDS)
def test_a_bernoulli_of_logits(dtype, rtol, x):
    logits = torch.tensor(LOGITS, dtype=dtype, requires_grad=True)
    value = torch.full_like(logits, x, requires_grad=True)
    scores = d.Bernoulli.log_density({"logits": logits}, value)
    with mpmath.workdps(60):
        exact = [mpmath.mpf(v) for v in logits.tolist()]
        log_p, log_not_p = [-mpmath.log1p(mpmath.exp(-v)) for v in exact], [-mpmath.log1p(mpmath.exp(v)) for v in exact]
        near(scores, [x * a + (1 - x) * b for a, b in zip(log_p, log_not_p)], rtol)
        of_logits, of_x = torch.autograd.grad(scores.sum(), [logits, value])
        slopes = [x / (1 + mpmath.exp(v)) - (1 - x) / (1 + mpmath.exp(-v)) for v in exact]
        near(of_logits, slopes, 10 * rtol)  # between the outcomes it is a difference
    torch.testing.assert_close(of_x, logits.detach(), rtol=rtol, atol=torch.finfo(dtype).eps)


@pytest.mark.parametrize(("dtype", "rtol"), KINDS)
def test_a_relaxed_bernoulli_far_from_one_half(dtype, rtol):
    logits = torch.tensor(LOGITS, dtype=dtype, requires_grad=True)
    x, temperature = torch.full_like(logits, 0.375), torch.tensor(0.5, dtype=dtype)
    scores = d.RelaxedBernoulli.log_density({"logits": logits, "temperature": temperature}, x)
    with mpmath.workdps(60):
        gaps = [mpmath.mpf(v) - mpmath.log(mpmath.mpf("0.6")) / 2 for v in logits.tolist()]
        rest = mpmath.log(mpmath.mpf("0.5")) - mpmath.log(mpmath.mpf("0.375")) - mpmath.log(mpmath.mpf("0.625"))
        near(scores, [rest + g - 2 * mpmath.log1p(mpmath.exp(g)) for g in gaps], rtol)
        near(torch.autograd.grad(scores.sum(), logits)[0], [-mpmath.tanh(g / 2) for g in gaps], rtol)


@pytest.mark.parametrize(("dtype", "rtol"), KINDS)
def test_positive_outputs_of_a_masked_network(dtype, rtol):
    """log(1 + exp t), and a constant above zero that is left where t is far below."""
    p = d.Autoregressive("p(x)", family=d.Exponential, dim=len(LOGITS) + 1, hidden=[]).to(dtype)
    with torch.no_grad():
        for weight in p.masked.parameters():
            weight.zero_()
        list(p.masked.parameters())[-1].copy_(torch.tensor([*LOGITS, -1e4], dtype=dtype))
    (rate,) = p.given_before(torch.zeros(1, len(LOGITS) + 1, dtype=dtype)).values()
    smallest = rate[0, -1].item()
    assert 0 < smallest <= 1e-3
    with mpmath.workdps(60):
        near(rate[0, :-1], [mpmath.log1p(mpmath.exp(mpmath.mpf(v))) + mpmath.mpf(smallest) for v in LOGITS], rtol)
