"""Truncations to intervals so short that the distribution function tells both ends hardly apart: density, gradients and draws."""

import mpmath
import pytest
import torch
from torch import nn

import pixyz.distributions as d
from pixyz.distributions import Truncated

KINDS = [pytest.param(torch.float32, 1e-5, id="float32"), pytest.param(torch.float64, 1e-12, id="float64")]

FAMILIES = {
    "Normal": (d.Normal, {"loc": 0.0, "scale": 1.0}, lambda x: mpmath.exp(-x * x / 2)),
    "Laplace": (d.Laplace, {"loc": 0.0, "scale": 1.0}, lambda x: mpmath.exp(-abs(x))),
    "Cauchy": (d.Cauchy, {"loc": 0.0, "scale": 1.0}, lambda x: 1 / (1 + x * x)),
    "Logistic": (d.Logistic, {"loc": 0.0, "scale": 1.0}, lambda x: 1 / mpmath.cosh(x / 2) ** 2),
    "Gumbel": (d.Gumbel, {"loc": 0.0, "scale": 1.0}, lambda x: mpmath.exp(-x - mpmath.exp(-x))),
    "Exponential": (d.Exponential, {"rate": 1.0}, lambda x: mpmath.exp(-x)),
    "LogNormal": (d.LogNormal, {"loc": 0.0, "scale": 1.0}, lambda x: mpmath.exp(-(mpmath.log(x) ** 2) / 2) / x),
    "Weibull": (d.Weibull, {"scale": 1.0, "concentration": 2.0}, lambda x: x * mpmath.exp(-x * x)),
    "Uniform": (d.Uniform, {"low": -4.0, "high": 4.0}, lambda x: mpmath.mpf(1)),
}
PLACES = [(1.0, 1e-5), (0.5, 1e-3), (2.0, 0.0625), (6.0, 1e-4), (-1e-4, 3e-4), (-0.015625, 0.046875)]
ON_THE_WHOLE_LINE = {"Normal", "Laplace", "Cauchy", "Logistic", "Gumbel", "Uniform"}
POINTS = [
    pytest.param(name, lower, width, id=f"{name} at {lower:g}+{width:g}")
    for name in FAMILIES
    for lower, width in PLACES
    if (lower > 0 or name in ON_THE_WHOLE_LINE) and not (lower > 3 and name == "Uniform")
]


@pytest.mark.parametrize(("name", "lower", "width"), POINTS)
@pytest.mark.parametrize(("dtype", "tolerance"), KINDS)
def test_the_density_between_two_near_bounds(name, lower, width, dtype, tolerance):
    family, params, density = FAMILIES[name]
    # The bounds as the dtype has them.
    a, b = (torch.tensor(v, dtype=dtype) for v in (lower, lower + width))
    trained = {k: nn.Parameter(torch.tensor([v], dtype=dtype)) for k, v in params.items()}
    p = Truncated(family("p(x)", **trained), lower=a, upper=b)
    x = a + (b - a) * torch.tensor([[0.0], [0.25], [1.0]], dtype=dtype)
    found = p.log_likelihood({"x": x})
    found.sum().backward()
    with mpmath.workdps(40):
        ends = [mpmath.mpf(a.item()), mpmath.mpf(b.item())]
        if ends[0] < 0 < ends[1]:
            ends.insert(1, mpmath.mpf(0))
        mass = mpmath.quad(density, ends)
        expected = [float(mpmath.log(density(mpmath.mpf(v)) / mass)) for v in x.flatten().tolist()]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=dtype), rtol=tolerance, atol=tolerance)
    assert all(t.grad.isfinite().all() for t in trained.values())


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [pytest.param(torch.float32, 2e-3, id="float32"), pytest.param(torch.float64, 1e-9, id="float64")]
)
@pytest.mark.parametrize("name", ["Normal", "Laplace", "Exponential", "Gumbel"])
def test_draws_are_spread_over_the_interval_and_move_with_the_parameters(name, dtype, tolerance):
    """The derivative of a draw is that of the distribution function at a fixed level, here by differences in many digits."""
    family, params, density = FAMILIES[name]
    lower, width = 1.0, 0.015625
    first = next(iter(params))
    trained = nn.Parameter(torch.tensor([params[first]], dtype=dtype))
    p = Truncated(family("p(x)", **{**params, first: trained}), lower=lower, upper=lower + width)
    x = p.sample(batch_size=400)["x"]
    places = ((x.detach() - lower) / width).flatten()
    assert places.unique().numel() > 390
    assert (places.sort().values - torch.linspace(0, 1, 400, dtype=dtype)).abs().max() < 0.1
    for value in x.flatten()[:3]:
        (slope,) = torch.autograd.grad(value, trained, retain_graph=True)
        with mpmath.workdps(40):

            def moved(t, y, step):
                """∫ from the lower bound to y, of the density whose first parameter has moved by a step."""
                shift, factor = (step, 1) if first == "loc" else (0, 1 + step)
                return mpmath.quad(lambda u: density(factor * (u - shift)), [t, y])

            def level(y, step):
                return moved(mpmath.mpf(lower), y, step) / moved(mpmath.mpf(lower), mpmath.mpf(lower + width), step)

            y, h = mpmath.mpf(value.item()), mpmath.mpf("1e-12")
            of_parameter = (level(y, h) - level(y, -h)) / (2 * h)
            of_place = (level(y + h, 0) - level(y - h, 0)) / (2 * h)
            expected = float(-of_parameter / of_place)
        torch.testing.assert_close(slope.item(), expected, rtol=tolerance, atol=tolerance * width)


def test_numbers_as_bounds_of_a_narrow_interval_in_float64():
    zero, one = (torch.tensor(v, dtype=torch.float64) for v in (0.0, 1.0))
    p = Truncated(d.Normal("p(x)", loc=zero, scale=one), lower=1.0, upper=1.0 + 1e-5)
    with mpmath.workdps(40):
        exact = mpmath.quad(lambda t: mpmath.exp(-t * t / 2), [1, mpmath.mpf(1.0 + 1e-5)])
        expected = float(mpmath.log(mpmath.exp(-0.5) / exact))
    assert abs(expected - 11.51293) < 1e-5
    torch.testing.assert_close(p.log_likelihood({"x": one[None]}).item(), expected, rtol=1e-13, atol=0)
