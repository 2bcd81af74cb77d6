"""The continuous Bernoulli at every size of its logits, near 0 above all, where its closed forms are 0/0; against many digits."""

import mpmath
import pytest
import torch

from pixyz.distributions import ContinuousBernoulli

KINDS = [pytest.param(torch.float32, 4e-6, id="float32"), pytest.param(torch.float64, 2e-14, id="float64")]
LOGITS = [-300.0, -40.0, -2.0, -1.0, -0.25, -0.0501, -1e-3, -1e-12, 0.0, 1e-20, 1e-6, 0.0499, 0.0501, 0.3, 0.99, 1.5, 1.99, 2.01, 7.0, 90.0]


def normaliser(eta):
    return mpmath.mpf(1) if eta == 0 else eta / mpmath.expm1(eta)


def moment(n, eta):
    return normaliser(eta) * mpmath.quad(lambda x: x**n * mpmath.exp(eta * x), [0, 0.5, 1]) if abs(eta) < 5 else _far_moment(n, eta)


def _far_moment(n, eta):
    mean = 1 / (1 - mpmath.exp(-eta)) - 1 / eta
    return mean if n == 1 else 1 / eta**2 - 1 / (4 * mpmath.sinh(eta / 2) ** 2) + mean**2


def level(eta, x):
    return x if eta == 0 else mpmath.expm1(eta * x) / mpmath.expm1(eta)


def place(eta, u):
    return u if eta == 0 else mpmath.log1p(u * mpmath.expm1(eta)) / eta


def turn(eta, u):
    """The derivative of the place for η."""
    if eta == 0:
        return u * (1 - u) / 2
    w = u * mpmath.expm1(eta)
    return u * mpmath.exp(eta) / (1 + w) / eta - mpmath.log1p(w) / eta**2


X = 0.375
FUNCTIONS = {
    "log-density": (
        lambda eta: ContinuousBernoulli.log_density({"logits": eta}, torch.full_like(eta, X)),
        lambda eta: X * eta + mpmath.log(normaliser(eta)),
        lambda eta: X - moment(1, eta),
    ),
    "mean": (
        lambda eta: ContinuousBernoulli.mean_of({"logits": eta}),
        lambda eta: moment(1, eta),
        lambda eta: moment(2, eta) - moment(1, eta) ** 2,
    ),
    "variance": (lambda eta: ContinuousBernoulli.variance_of({"logits": eta}), lambda eta: moment(2, eta) - moment(1, eta) ** 2, None),
    "distribution function": (
        lambda eta: ContinuousBernoulli.cdf({"logits": eta}, torch.full_like(eta, X)),
        lambda eta: level(eta, mpmath.mpf(X)),
        lambda eta: -turn(eta, level(eta, mpmath.mpf(X))) * normaliser(eta) * mpmath.exp(eta * X),
    ),
    "draw": (
        lambda eta: ContinuousBernoulli.icdf({"logits": eta}, torch.full_like(eta, X)),
        lambda eta: place(eta, mpmath.mpf(X)),
        lambda eta: turn(eta, mpmath.mpf(X)),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("dtype", "rtol"), KINDS)
def test_values_and_slopes_for_the_logits(name, dtype, rtol):
    compute, value, slope = FUNCTIONS[name]
    eta = torch.tensor(LOGITS, dtype=dtype, requires_grad=True)
    found = compute(eta)
    (found_slope,) = torch.autograd.grad(found.sum(), eta)
    with mpmath.workdps(50):
        exact = [mpmath.mpf(v) for v in eta.tolist()]
        expected = torch.tensor([float(value(v)) for v in exact], dtype=dtype)
        torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-37)
        if slope is None:
            assert found_slope.isfinite().all()
        else:
            expected = torch.tensor([float(slope(v)) for v in exact], dtype=dtype)
            torch.testing.assert_close(found_slope, expected, rtol=20 * rtol, atol=rtol)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_draws_at_one_half(dtype):
    p = ContinuousBernoulli("p(x)", logits=torch.zeros(2, dtype=dtype))
    x = p.sample(batch_size=4_000)["x"]
    assert x.isfinite().all()
    torch.testing.assert_close(x.float().mean(0), torch.full((2,), 0.5), rtol=0, atol=0.03)
    torch.testing.assert_close(p.variance().float().squeeze(0), torch.full((2,), 1 / 12), rtol=torch.finfo(dtype).eps, atol=0)
