"""Families in half precision: densities and draws of float32, converted; indices stay integers, counts are not rounded."""

import mpmath
import pytest
import torch
from scipy import stats

import pixyz.distributions as d
from pixyz.core import KindError
from pixyz.distributions import from_torch

HALF = [pytest.param(t, id=str(t).removeprefix("torch.")) for t in (torch.float16, torch.bfloat16)]
T = torch.tensor

FAMILIES = {
    "Gamma": (d.Gamma, {"concentration": T([0.5, 3.0]), "rate": T([1.0, 2.0])}),
    "InverseGamma": (d.InverseGamma, {"concentration": T([4.0]), "rate": T([2.0])}),
    "Beta": (d.Beta, {"concentration1": T([0.25, 2.0]), "concentration0": T([0.25, 3.0])}),
    "Dirichlet": (d.Dirichlet, {"concentration": T([0.5, 2.0, 3.0])}),
    "StudentT": (d.StudentT, {"df": T([3.0]), "loc": T([0.5]), "scale": T([2.0])}),
    "VonMises": (d.VonMises, {"loc": T([0.5]), "concentration": T([2.0])}),
    "Poisson": (d.Poisson, {"rate": T([0.5, 20.0])}),
    "Binomial": (d.Binomial, {"total_count": T([9.0]), "probs": T([0.25])}),
    "NegativeBinomial": (d.NegativeBinomial, {"total_count": T([9.0]), "probs": T([0.25])}),
    "Geometric": (d.Geometric, {"probs": T([0.25])}),
    "Multinomial": (d.Multinomial, {"total_count": T(9.0), "probs": T([0.25, 0.5, 0.25])}),
    "Categorical": (d.Categorical, {"probs": T([0.25, 0.5, 0.25])}),
    "CategoricalIndex": (d.CategoricalIndex, {"probs": T([0.25, 0.5, 0.25])}),
    "ContinuousBernoulli": (d.ContinuousBernoulli, {"logits": T([0.0, 0.03125, -8.0])}),
    "Kumaraswamy": (d.Kumaraswamy, {"concentration1": T([0.25]), "concentration0": T([0.25])}),
    "RelaxedCategorical": (d.RelaxedCategorical, {"temperature": T(0.25), "logits": T([0.0, 4.0, -4.0])}),
    "Cauchy": (d.Cauchy, {"loc": T([0.5]), "scale": T([2.0])}),
    "Laplace": (d.Laplace, {"loc": T([0.5]), "scale": T([2.0])}),
    "PowerSpherical": (d.PowerSpherical, {"loc": T([0.0, 1.0, 0.0]), "concentration": T(4.0)}),
    "MultivariateNormal": (d.MultivariateNormal, {"loc": T([0.0, 1.0]), "scale_tril": T([[1.0, 0.0], [0.5, 2.0]])}),
    "LowRank": (
        d.LowRankMultivariateNormal,
        {"loc": T([0.0, 1.0]), "cov_factor": T([[1.0], [0.5]]), "cov_diag": T([1.0, 2.0])},
    ),
    "Chi2 of torch": (from_torch(torch.distributions.Chi2), {"df": T([3.0])}),
    "FisherSnedecor of torch": (from_torch(torch.distributions.FisherSnedecor), {"df1": T([5.0]), "df2": T([4.0])}),
}
MADE = {
    "Truncated": lambda: d.Truncated(d.Normal("p(x)", loc=T([0.0, 1.0]), scale=T([1.0, 2.0])), lower=0.5),
    "ZeroInflated": lambda: d.ZeroInflated(d.Poisson("p(x)", rate=T([2.0, 4.0])), gate=0.25),
    "mixture": lambda: d.MixtureModel(
        [d.Gamma("p(x)", concentration=T([c]), rate=T([1.0])) for c in (1.0, 4.0)], d.Categorical("p(k)", probs=T([0.25, 0.75]))
    ),
    **{name: lambda family=family, params=params: family("p(x)", **params) for name, (family, params) in FAMILIES.items()},
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("dtype", HALF)
def test_draws_and_densities_are_those_of_float32_rounded(dtype, name):
    whole, half = MADE[name](), MADE[name]().to(dtype)
    draws = []
    for p in (whole, half):
        torch.manual_seed(0)
        draws.append(p.sample(batch_size=2_000)["x"])
    eps = torch.finfo(dtype).eps
    is_index = name == "CategoricalIndex"
    assert draws[1].dtype == (torch.int64 if is_index else dtype)
    assert draws[1].isfinite().all()
    torch.testing.assert_close(draws[1].float(), draws[0].float(), rtol=eps, atol=torch.finfo(dtype).smallest_normal, equal_nan=False)
    scores = half.log_likelihood({"x": draws[1]})
    assert scores.dtype == dtype
    assert scores.isfinite().all()
    if name in FAMILIES:  # a vector that has been rounded has no length of 1 in float32
        family, params = FAMILIES[name]
        expected = family.log_density(params, draws[1].float())
        expected = expected.reshape(len(expected), -1).sum(-1)
    else:
        expected = whole.log_likelihood({"x": draws[1].float()})
    roundings = 1 if name in FAMILIES else 4  # those of the components and their weights
    torch.testing.assert_close(scores.float(), expected, rtol=roundings * eps, atol=1e-3)


@pytest.mark.parametrize("dtype", HALF)
def test_the_density_of_a_count_against_scipy(dtype):
    """The logarithms of factorials are hundreds of nats, in which half precision resolves a nat or two."""
    x = torch.arange(0.0, 200.0, 7.0)
    p = d.Poisson("p(x)", rate=T([80.0])).to(dtype)
    found = p.log_likelihood({"x": x[:, None].to(dtype)})
    torch.testing.assert_close(
        found.double(), torch.from_numpy(stats.poisson(80.0).logpmf(x.numpy())), rtol=torch.finfo(dtype).eps, atol=1e-3
    )


@pytest.mark.parametrize("dtype", HALF)
def test_indices_stay_integers(dtype):
    logits = torch.zeros(3_000)
    logits[2_049] = 5.0
    p = d.CategoricalIndex("p(x)", logits=logits).to(dtype)
    x = T([256, 257, 2_048, 2_049, 2_050])
    log_others = -mpmath.log(2_999 + mpmath.exp(5))
    expected = T([float(log_others + (5 if v == 2_049 else 0)) for v in x.tolist()])
    torch.testing.assert_close(p.log_likelihood({"x": x}).float(), expected, rtol=torch.finfo(dtype).eps, atol=0)
    draws = p.sample(batch_size=20_000)["x"]
    assert draws.dtype == torch.int64
    assert draws.amax() < 3_000
    assert {257, 2_049}.issubset(draws.tolist())
    assert p.log_likelihood({"x": draws}).isfinite().all()
    assert p.mode().squeeze().item() == 2_049
    weights = (logits - logits.logsumexp(0)).double().exp()
    mean = (weights * torch.arange(3_000)).sum()
    torch.testing.assert_close(p.mean().double().squeeze(), mean, rtol=torch.finfo(dtype).eps, atol=0)
    # A masked network of indices, and a zero-inflated family of them.
    masked = d.Autoregressive("p(x)", family=d.CategoricalIndex, dim=2, categories=3_000, hidden=[4]).to(dtype)
    draws = masked.sample(batch_size=300)["x"]
    assert draws.dtype == torch.int64
    assert masked.log_likelihood({"x": draws}).isfinite().all()
    inflated = d.ZeroInflated(p, gate=0.5)
    draws = inflated.sample(batch_size=100)["x"]
    assert draws.dtype == torch.int64
    assert inflated.log_likelihood({"x": draws}).isfinite().all()


def bf16(*values):
    return T(values, dtype=torch.bfloat16)


COUNTS = {
    "values": (lambda: d.Poisson("p(x)", rate=bf16(3.0)).log_likelihood({"x": bf16(300.0)[None]}), "x is as large as 300"),
    "integers": (lambda: d.Poisson("p(x)", rate=bf16(3.0)).log_likelihood({"x": T([[257]])}), "x is as large as 257"),
    "indices that have been rounded": (
        lambda: d.CategoricalIndex("p(x)", logits=torch.zeros(1_000).bfloat16()).log_likelihood({"x": bf16(300.0)}),
        "x is as large as 300",
    ),
    "draws": (lambda: d.Poisson("p(x)", rate=bf16(1e4)).sample(batch_size=2), "a draw of x is as large as "),
    "a parameter": (lambda: d.Binomial("p(x)", total_count=bf16(300.0), probs=bf16(0.5)), "total_count is as large as 300"),
    "vectors": (
        lambda: d.Multinomial("p(x)", total_count=bf16(3.0), probs=bf16(0.5, 0.5)[None]).log_likelihood({"x": T([[[300, 0]]])}),
        "x is as large as 300",
    ),
    "a masked network": (
        lambda: d.Autoregressive("p(x)", family=d.Poisson, dim=1).bfloat16().log_likelihood({"x": T([[300]])}),
        "x is as large as 300",
    ),
}


@pytest.mark.parametrize("case", COUNTS)
def test_a_count_that_half_precision_cannot_hold_is_refused(case):
    evaluate, words = COUNTS[case]
    with pytest.raises(
        KindError, match=rf"p\(x\): {words}.*torch.bfloat16 holds every whole number only up to 256. Convert .* with .float"
    ):
        evaluate()


def test_counts_up_to_the_limit_are_told_apart():
    p = d.Multinomial("p(x)", total_count=bf16(256.0)[0], probs=bf16(0.5, 0.5))
    scores = p.log_likelihood({"x": bf16(255.0, 1.0, 255.0, 2.0).reshape(2, 2)})
    assert scores.isneginf().tolist() == [False, True]
    assert d.Poisson("p(x)", rate=torch.ones(1)).log_likelihood({"x": T([[100_000]])}).isfinite()


@pytest.mark.parametrize(
    ("dtype", "levels"), [(torch.float16, 256), (torch.bfloat16, 129), (torch.bfloat16, 256), (torch.float32, 65_536)], ids=str
)
def test_every_level_has_a_density(dtype, levels):
    """A level is a quotient, which is rounded; the probabilities of all sum to 1."""
    p = d.DiscretizedLogistic("p(x)", loc=T([0.5]), scale=T([0.25]), levels=float(levels)).to(dtype)
    x = (torch.arange(levels, dtype=torch.float64) / (levels - 1)).to(dtype)
    scores = p.log_likelihood({"x": x[:, None]})
    assert scores.isfinite().all()
    torch.testing.assert_close(scores.double().exp().sum().item(), 1.0, rtol=0, atol=0.02)
    assert p.log_likelihood({"x": p.sample(batch_size=300)["x"]}).isfinite().all()
    assert p.log_likelihood({"x": (x[:1] + 0.5 / (levels - 1))[:, None]}).isneginf().all()
