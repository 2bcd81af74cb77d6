"""Derivatives of closed-form KL divergences, and of entropies: all digits, of both orders, in every mode of differentiation."""

import pytest
import torch
from planted import Check, changed, need_found
from right_digits import mp

import pixyz.distributions as d

COMPOSED = {
    "Normal": (d.Normal, ("loc", "scale")),
    "HalfNormal": (d.HalfNormal, ("scale",)),
    "Laplace": (d.Laplace, ("loc", "scale")),
    "Exponential": (d.Exponential, ("rate",)),
    "MultivariateNormal": (d.MultivariateNormal, ("loc", "scale_tril")),
}
SHAPES = {"loc": ((3, 2), (2,)), "scale": ((2,), (3, 1)), "rate": ((3, 2), (2,)), "scale_tril": ((3, 2, 2), (2, 2))}


def of(name):
    """The divergence as a function of all parameters, and parameters that broadcast."""
    family, names = COMPOSED[name]

    def kl(*parameters):
        half = len(parameters) // 2
        return family.kl(dict(zip(names, parameters[:half])), dict(zip(names, parameters[half:])))

    parameters = []
    for side in (0, 1):
        for parameter in names:
            t = torch.rand(SHAPES[parameter][side], dtype=torch.float64) + 0.5
            parameters.append((t.tril() if parameter == "scale_tril" else t).requires_grad_())
    return kl, parameters


@pytest.mark.parametrize("name", COMPOSED)
def test_every_mode_of_differentiation_gives_the_same(name):
    kl, parameters = of(name)
    assert torch.autograd.gradcheck(kl, parameters, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(kl, parameters, check_fwd_over_rev=True)
    every = tuple(range(len(parameters)))
    total = lambda *p: kl(*p).sum()  # noqa: E731
    gradients = torch.autograd.grad(total(*parameters), parameters)
    torch.testing.assert_close(torch.func.jacfwd(total, every)(*parameters), gradients)
    expected = torch.autograd.functional.hessian(total, tuple(parameters))
    torch.testing.assert_close(torch.func.hessian(total, every)(*parameters), expected)


@pytest.mark.parametrize("name", ["Normal", "Laplace"])
def test_gradients_of_each_datum_and_of_a_compiled_divergence(name):
    kl, parameters = of(name)
    rows = [p.detach().expand(3, 2) for p in parameters]
    every = tuple(range(len(rows)))
    each = torch.func.vmap(torch.func.grad(lambda *p: kl(*p).sum(), every))(*rows)
    rows = [r.clone().requires_grad_() for r in rows]
    expected = torch.autograd.grad(kl(*rows).sum(), rows)
    torch.testing.assert_close(each, expected)
    compiled = torch.compile(kl, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(*rows).sum(), rows), expected)


def f64(number):
    return torch.tensor(number, dtype=torch.float64, requires_grad=True)


RATIOS = [1e-12, 0.3, 0.9, 1 - 1e-9, 1 + 1e-14, 1.1, 1.25, 7.0, 1e12]


@pytest.mark.parametrize("ratio", RATIOS)
def test_slopes_of_scales_have_all_digits(ratio):
    """Those of normal distributions with one mean, by the logarithms of both scales, and of exponential ones; and the second."""
    s, t = f64(ratio * 3.0), f64(3.0)
    zero = f64(0.0)
    r = mp.mpf(s.item()) / 3
    got = torch.autograd.grad(d.Normal.kl({"loc": zero, "scale": s}, {"loc": zero, "scale": t}), [s, t])
    assert float(got[0]) == pytest.approx(float((r - 1 / r) / 3), rel=1e-14, abs=0)
    assert float(got[1]) == pytest.approx(float((1 - r * r) / 3), rel=1e-14, abs=0)
    (slope,) = torch.autograd.grad(d.Exponential.kl({"rate": t}, {"rate": s}), s, create_graph=True)
    assert slope.item() == pytest.approx(float((1 - 1 / r) / 3), rel=1e-14, abs=0)
    (bend,) = torch.autograd.grad(slope, s)
    assert float(bend) == pytest.approx(float(1 / (3 * r) ** 2), rel=1e-14, abs=0)


def by_logarithms(f):
    return lambda p, q: (q["scale"] / p["scale"]).log() + 0.5 * ((p["scale"] / q["scale"]).square() - 1)


def test_slopes_that_cancel_are_found(monkeypatch):
    check = Check("distributions", "test_slopes_of_scales_have_all_digits", 1 - 1e-9)
    need_found(monkeypatch, changed(d.Normal, "kl", by_logarithms), check)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_divergence_that_is_differentiated_has_the_same_value(dtype):
    torch.manual_seed(0)
    p = {"loc": torch.randn(1000).to(dtype), "scale": torch.randn(1000).exp().to(dtype)}
    q = {"loc": torch.zeros(1000, dtype=dtype), "scale": torch.ones(1000, dtype=dtype)}
    for family in (d.Normal, d.Laplace):
        plain = family.kl(p, q)
        differentiated = family.kl({k: t.clone().requires_grad_() for k, t in p.items()}, q)
        assert torch.equal(plain, differentiated)


@pytest.mark.parametrize("shape", [0.3, 0.7, 1.4, 2.5, 30.0])
def test_the_slope_of_an_entropy_has_all_digits_in_float64(shape):
    """That of torch's digamma has nine."""
    a = torch.tensor([shape], dtype=torch.float64)
    exact = float(1 + (1 - mp.mpf(shape)) * mp.polygamma(1, mp.mpf(shape)))
    p = d.Gamma("p(x)", concentration=torch.nn.Parameter(a.clone()), rate=torch.ones(1, dtype=torch.float64))
    p.entropy().sum().backward()
    torch.testing.assert_close(p.concentration.grad.item(), exact, rtol=1e-13, atol=1e-14)
    both = float(
        (mp.mpf(shape) * 2 - 2) * mp.polygamma(1, 2 * mp.mpf(shape)) * 2 - 2 * (mp.mpf(shape) - 1) * mp.polygamma(1, mp.mpf(shape))
    )
    q = d.Dirichlet("q(x)", concentration=torch.nn.Parameter(a.expand(2).clone()))
    q.entropy().sum().backward()
    torch.testing.assert_close(q.concentration.grad.sum().item(), both, rtol=1e-12, atol=1e-13)
