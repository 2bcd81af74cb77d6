# ruff: noqa: E501
"""Every family, in every parametrisation, obeys the laws of `pixyz.core.testing`, and has scipy's density where scipy has it."""

import math

import pytest
import torch

import pixyz.distributions as d
from pixyz.core import testing
from pixyz.core.testing import counts, line, product, simplex, sphere
from pixyz.distributions import Family
from pixyz.losses import Entropy, KullbackLeibler


class Lacking:
    """Stands for scipy where it is not; the test that needs it is skipped."""

    def __getattr__(self, name):
        return self

    def __call__(self, *parameters, **named):
        return self


try:
    from scipy import stats
except ModuleNotFoundError:
    stats = Lacking()


def f64(*numbers):
    return torch.tensor(numbers if len(numbers) > 1 else numbers[0], dtype=torch.float64)


PROBS = f64(0.2, 0.7, 0.1)
TRIL = torch.linalg.cholesky(f64([2.0, 0.6], [0.6, 1.0]))
PLANE = product(line(n=301, width=1.5), line(n=301, width=1.5))
MU = f64(0.6, 0.8)
MU3 = f64(0.48, 0.6, 0.64)

# family, parameters, nodes, scipy's distribution (or None)
CASES = {
    "Normal": (d.Normal, {"loc": 0.5, "scale": 2.0}, line(width=2), stats.norm(0.5, 2)),
    "LogNormal": (d.LogNormal, {"loc": 0.3, "scale": 0.7}, line(0), stats.lognorm(0.7, scale=math.exp(0.3))),
    "Laplace": (d.Laplace, {"loc": 0.5, "scale": 2.0}, line(center=0.5, width=2), stats.laplace(0.5, 2)),
    "StudentT": (d.StudentT, {"df": 5.0, "loc": 0.5, "scale": 2.0}, line(), stats.t(5, 0.5, 2)),
    "Cauchy": (d.Cauchy, {"loc": 0.5, "scale": 2.0}, line(), stats.cauchy(0.5, 2)),
    "Logistic": (d.Logistic, {"loc": 0.5, "scale": 2.0}, line(), stats.logistic(0.5, 2)),
    "Gumbel": (d.Gumbel, {"loc": 0.5, "scale": 2.0}, line(), stats.gumbel_r(0.5, 2)),
    "Uniform": (d.Uniform, {"low": -1.0, "high": 2.5}, line(-1, 2.5), stats.uniform(-1, 3.5)),
    "Exponential(rate)": (d.Exponential, {"rate": 2.0}, line(0), stats.expon(scale=0.5)),
    "Exponential(scale)": (d.Exponential, {"scale": 0.5}, line(0), stats.expon(scale=0.5)),
    "Gamma(rate)": (d.Gamma, {"concentration": 2.5, "rate": 2.0}, line(0), stats.gamma(2.5, scale=0.5)),
    "Gamma(scale)": (d.Gamma, {"concentration": 0.6, "scale": 0.5}, line(0), stats.gamma(0.6, scale=0.5)),
    "InverseGamma": (d.InverseGamma, {"concentration": 4.5, "rate": 2.0}, line(0), stats.invgamma(4.5, scale=2)),
    "Beta": (d.Beta, {"concentration1": 2.5, "concentration0": 1.5}, line(0, 1), stats.beta(2.5, 1.5)),
    "Kumaraswamy": (d.Kumaraswamy, {"concentration1": 2.5, "concentration0": 1.5}, line(0, 1), None),
    "HalfNormal": (d.HalfNormal, {"scale": 2.0}, line(0, width=2), stats.halfnorm(scale=2)),
    "VonMises": (d.VonMises, {"loc": 0.5, "concentration": 2.0}, line(-math.pi, math.pi), stats.vonmises(2, 0.5)),
    "Weibull": (d.Weibull, {"scale": 2.0, "concentration": 1.5}, line(0), stats.weibull_min(1.5, scale=2)),
    "Pareto": (d.Pareto, {"scale": 2.0, "alpha": 5.5}, line(2), stats.pareto(5.5, scale=2)),
    "Poisson": (d.Poisson, {"rate": 2.5}, counts(60), stats.poisson(2.5)),
    "Geometric(probs)": (d.Geometric, {"probs": 0.4}, counts(90), stats.geom(0.4, loc=-1)),
    "Geometric(logits)": (d.Geometric, {"logits": -0.4}, counts(90), stats.geom(1 / (1 + math.exp(0.4)), loc=-1)),
    "Binomial(probs)": (d.Binomial, {"total_count": 7.0, "probs": 0.4}, counts(7), stats.binom(7, 0.4)),
    "Binomial(logits)": (d.Binomial, {"total_count": 7.0, "logits": -0.4}, counts(7), stats.binom(7, 1 / (1 + math.exp(0.4)))),
    "NegativeBinomial(probs)": (d.NegativeBinomial, {"total_count": 3.5, "probs": 0.4}, counts(120), stats.nbinom(3.5, 0.6)),
    "NegativeBinomial(logits)": (d.NegativeBinomial, {"total_count": 3.5, "logits": -0.4}, counts(120), stats.nbinom(3.5, 1 / (1 + math.exp(-0.4)))),
    "Bernoulli(probs)": (d.Bernoulli, {"probs": 0.3}, counts(1), stats.bernoulli(0.3)),
    "Bernoulli(logits)": (d.Bernoulli, {"logits": -0.4}, counts(1), stats.bernoulli(1 / (1 + math.exp(0.4)))),
    "ContinuousBernoulli(probs)": (d.ContinuousBernoulli, {"probs": 0.3}, line(0, 1), stats.truncexpon(math.log(7 / 3), scale=1 / math.log(7 / 3))),
    "ContinuousBernoulli(logits)": (d.ContinuousBernoulli, {"logits": 4.0}, line(0, 1), None),
    "ContinuousBernoulli(near one half)": (d.ContinuousBernoulli, {"logits": 0.03}, line(0, 1), None),
    "Categorical(probs)": (d.Categorical, {"probs": PROBS}, counts(1, features=3, total=1), stats.multinomial(1, PROBS.numpy())),
    "Categorical(logits)": (d.Categorical, {"logits": PROBS.log() + 4}, counts(1, features=3, total=1), stats.multinomial(1, PROBS.numpy())),
    "CategoricalIndex(probs)": (d.CategoricalIndex, {"probs": PROBS}, counts(2), stats.rv_discrete(values=([0, 1, 2], PROBS.numpy()))),
    "CategoricalIndex(logits)": (d.CategoricalIndex, {"logits": PROBS.log() - 1}, counts(2), stats.rv_discrete(values=([0, 1, 2], PROBS.numpy()))),
    "Multinomial(probs)": (d.Multinomial, {"total_count": 5.0, "probs": PROBS}, counts(5, features=3, total=5), stats.multinomial(5, PROBS.numpy())),
    "Multinomial(logits)": (d.Multinomial, {"total_count": 5.0, "logits": PROBS.log() + 4}, counts(5, features=3, total=5), stats.multinomial(5, PROBS.numpy())),
    "Dirichlet": (d.Dirichlet, {"concentration": f64(1.5, 2.5, 3.0)}, simplex(3), stats.dirichlet([1.5, 2.5, 3.0])),
    "RelaxedBernoulli(probs)": (d.RelaxedBernoulli, {"temperature": 0.7, "probs": 0.3}, line(0, 1), None),
    "RelaxedBernoulli(logits)": (d.RelaxedBernoulli, {"temperature": 0.7, "logits": -0.4}, line(0, 1), None),
    "RelaxedCategorical(probs)": (d.RelaxedCategorical, {"temperature": 1.2, "probs": PROBS}, simplex(3), None),
    "RelaxedCategorical(logits)": (d.RelaxedCategorical, {"temperature": 1.5, "logits": PROBS.log() + 4}, simplex(3), None),
    "MultivariateNormal(covariance)": (d.MultivariateNormal, {"loc": f64(0.5, -0.5), "covariance_matrix": TRIL @ TRIL.T}, PLANE, stats.multivariate_normal([0.5, -0.5], (TRIL @ TRIL.T).numpy())),
    "MultivariateNormal(precision)": (d.MultivariateNormal, {"loc": f64(0.5, -0.5), "precision_matrix": torch.inverse(TRIL @ TRIL.T)}, PLANE, stats.multivariate_normal([0.5, -0.5], (TRIL @ TRIL.T).numpy())),
    "MultivariateNormal(scale_tril)": (d.MultivariateNormal, {"loc": f64(0.5, -0.5), "scale_tril": TRIL}, PLANE, stats.multivariate_normal([0.5, -0.5], (TRIL @ TRIL.T).numpy())),
    "LowRankMultivariateNormal": (d.LowRankMultivariateNormal, {"loc": f64(0.5, -0.5), "cov_factor": f64([1.0], [0.5]), "cov_diag": f64(0.7, 0.9)}, PLANE, stats.multivariate_normal([0.5, -0.5], [[1.7, 0.5], [0.5, 1.15]])),
    "PowerSpherical(circle)": (d.PowerSpherical, {"loc": MU, "concentration": 3.0}, sphere(2), None),
    "PowerSpherical(sphere)": (d.PowerSpherical, {"loc": MU3 / MU3.norm(), "concentration": 3.0}, sphere(3), None),
    "DiscretizedLogistic": (d.DiscretizedLogistic, {"loc": 0.4, "scale": 0.1, "levels": 17.0}, testing.Nodes(torch.linspace(0, 1, 17).double(), torch.ones(17).double()), None),
    "DiscretizedLogisticMixture(logits)": (d.DiscretizedLogisticMixture, {"loc": f64(0.2, 0.9), "scale": f64(0.1, 0.02), "levels": 17.0, "logits": f64(0.5, -0.5)}, testing.Nodes(torch.linspace(0, 1, 17).double(), torch.ones(17).double()), None),
    "DiscretizedLogisticMixture(probs)": (d.DiscretizedLogisticMixture, {"loc": f64(0.2, 0.9), "scale": f64(0.1, 0.02), "levels": 5.0, "probs": f64(0.4, 0.6)}, testing.Nodes(torch.linspace(0, 1, 5).double(), torch.ones(5).double()), None),
}  # fmt: skip

# The first row of each family. In the others only its parameters are written otherwise, which is traced with the density.
FIRST = {name for i, name in enumerate(CASES) if CASES[name][0] not in [case[0] for case in list(CASES.values())[:i]]}
# What is traced: a draw and its density, or the density alone. Torch cannot trace its sampler of VonMises, which loops until all are accepted.
TRACED = {name: "draw" if name in FIRST - {"VonMises"} else "density" for name in CASES}
# Where parameters move the support, the integral over fixed nodes does not see its rim; where they are constrained, off the constraint there is no
# truth. So: the parameters, from free numbers; the nodes, from them; the numbers.
FREE = {
    "Uniform": (lambda t: {"low": t[0], "high": t[1]}, lambda t: line(t[0].item(), t[1].item()), f64(-1.0, 2.5)),
    "Pareto": (lambda t: {"scale": t[0], "alpha": t[1]}, lambda t: line(t[0].item()), f64(2.0, 5.5)),
    "PowerSpherical(circle)": (lambda t: {"loc": t[:2] / t[:2].norm(), "concentration": t[2]}, lambda t: sphere(2), f64(0.6, 0.8, 3.0)),
    "PowerSpherical(sphere)": (
        lambda t: {"loc": t[:3] / t[:3].norm(), "concentration": t[3]},
        lambda t: sphere(3),
        f64(0.48, 0.6, 0.64, 3.0),
    ),
}


# Another member of each family that has a closed-form KL divergence.
OTHERS = {
    "Normal": {"loc": -0.3, "scale": 1.2},
    "LogNormal": {"loc": -0.3, "scale": 1.2},
    "Laplace": {"loc": -0.3, "scale": 1.2},
    "Cauchy": {"loc": -0.3, "scale": 1.2},
    "Gumbel": {"loc": -0.3, "scale": 2.8},
    "Uniform": {"low": -1.5, "high": 4.0},
    "Exponential(rate)": {"scale": 0.9},
    "Exponential(scale)": {"rate": 3.0},
    "Gamma(rate)": {"concentration": 1.7, "scale": 0.3},
    "Gamma(scale)": {"concentration": 1.7, "rate": 3.0},
    "InverseGamma": {"concentration": 3.5, "rate": 3.0},
    "Beta": {"concentration1": 1.2, "concentration0": 3.5},
    "HalfNormal": {"scale": 1.2},
    "VonMises": {"loc": -0.7, "concentration": 0.8},
    "Weibull": {"scale": 1.4, "concentration": 2.1},
    "Pareto": {"scale": 1.4, "alpha": 3.1},
    "Poisson": {"rate": 4.0},
    "Geometric(probs)": {"logits": 0.7},
    "Geometric(logits)": {"probs": 0.6},
    "Binomial(probs)": {"total_count": 7.0, "logits": 0.7},
    "Binomial(logits)": {"total_count": 7.0, "probs": 0.6},
    "NegativeBinomial(probs)": {"total_count": 3.5, "logits": 0.7},
    "NegativeBinomial(logits)": {"total_count": 3.5, "probs": 0.6},
    "Bernoulli(probs)": {"logits": 0.7},
    "Bernoulli(logits)": {"probs": 0.6},
    "ContinuousBernoulli(probs)": {"logits": 0.7},
    "ContinuousBernoulli(logits)": {"probs": 0.6},
    "ContinuousBernoulli(near one half)": {"logits": -0.02},
    "Categorical(probs)": {"logits": f64(0.1, -1.0, 2.0)},
    "Categorical(logits)": {"probs": f64(0.3, 0.3, 0.4)},
    "CategoricalIndex(probs)": {"logits": f64(0.1, -1.0, 2.0)},
    "CategoricalIndex(logits)": {"probs": f64(0.3, 0.3, 0.4)},
    "Multinomial(probs)": {"total_count": 5.0, "logits": f64(0.1, -1.0, 2.0)},
    "Multinomial(logits)": {"total_count": 5.0, "probs": f64(0.3, 0.3, 0.4)},
    "Dirichlet": {"concentration": f64(2.5, 1.2, 4.0)},
    "MultivariateNormal(covariance)": {"loc": f64(0.0, 0.3), "scale_tril": f64([0.9, 0.0], [-0.3, 1.3])},
    "MultivariateNormal(precision)": {"loc": f64(0.0, 0.3), "covariance_matrix": f64([0.9, 0.2], [0.2, 1.3])},
    "MultivariateNormal(scale_tril)": {"loc": f64(0.0, 0.3), "precision_matrix": f64([0.9, 0.2], [0.2, 1.3])},
    "LowRankMultivariateNormal": {"loc": f64(0.0, 0.3), "cov_factor": f64([-0.4], [0.9]), "cov_diag": f64(1.2, 0.6)},
}


def make(name, **options):
    return member(CASES[name][0], CASES[name][1], **options)


def member(family, parameters, **options):
    return family(**options, **{k: torch.as_tensor(v, dtype=torch.float64) for k, v in parameters.items()})


def families(parent=Family):
    for child in parent.__subclasses__():
        yield child
        yield from families(child)


def test_every_public_family_has_a_row_for_every_parametrisation():
    public = {c for c in vars(d).values() if isinstance(c, type) and issubclass(c, Family)} - {Family, d.TorchFamily, d.ProductOfNormal}
    assert {case[0] for case in CASES.values()} == public
    for family in public:
        rows = {frozenset(parameters) for f, parameters, _, _ in CASES.values() if f is family}
        assert rows == {frozenset(p) for p in family.parametrisations}, family


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_mass(name, device):
    testing.check_mass(make(name).to(device), CASES[name][2])


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_mean_variance_mode_and_entropy(name, device):
    testing.check_statistics(make(name).to(device), CASES[name][2])


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_draws(name, device):
    testing.check_draws(make(name).to(device), CASES[name][2])


@pytest.mark.gpu
@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case[0].has_rsample])
def test_gradients_of_draws(name, device):
    if name in FREE:
        parameters, nodes, at = FREE[name]
        testing.check_free_gradients(lambda t: CASES[name][0](**parameters(t)), nodes, at.to(device))
    else:
        testing.check_gradients(make(name).to(device), CASES[name][2])


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_shapes_kinds_and_copies(name, device):
    p = make(name).to(device)
    testing.check_shapes(p, CASES[name][2])
    testing.check_kinds(p, CASES[name][2])
    testing.check_copies(p, CASES[name][2])


@pytest.mark.parametrize("name", CASES)
def test_one_graph(name, device):
    if device.type == "elsewhere":
        pytest.skip("torch.compile traces no tensors of elsewhere")
    testing.check_graph(make(name).to(device), CASES[name][2], what=[TRACED[name]])


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case[0].knows("entropy_of")])
def test_the_entropy_as_a_loss(name):
    p = make(name)
    entropy = Entropy(p, num_samples=2)
    assert entropy.is_analytic is (not p.counts_to_parameters)
    if entropy.is_analytic:
        torch.testing.assert_close(entropy.estimate(), p.entropy())
    if name not in FIRST:
        return
    torch._dynamo.reset()
    entropy.compile(fullgraph=True, backend="eager")
    value = entropy.estimate()
    if entropy.is_analytic:
        torch.testing.assert_close(value, p.entropy())


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case[3] is not None])
def test_the_density_is_scipys(name, device):
    pytest.importorskip("scipy", reason="the densities are held against scipy's")
    p, reference = make(name).to(device), CASES[name][3]
    drawn = p.sample(batch_size=200)["x"]
    x = drawn.cpu()
    score = (
        reference.logpdf
        if hasattr(reference, "logpdf") and not hasattr(reference, "pmf")
        else getattr(reference, "logpmf", None) or reference.logpdf
    )
    values = x.numpy().T if name == "Dirichlet" else x.numpy()
    torch.testing.assert_close(p.log_likelihood({"x": drawn}).cpu(), torch.as_tensor(score(values)), rtol=1e-9, atol=1e-9)


def test_every_closed_form_of_kl_has_a_row():
    assert set(OTHERS) == {name for name, case in CASES.items() if case[0].knows("kl")}


@pytest.mark.gpu
@pytest.mark.parametrize("name", OTHERS)
def test_kl(name, device):
    p, q = make(name).to(device), member(CASES[name][0], OTHERS[name], name="q").to(device)
    loss = KullbackLeibler(p, q)
    assert loss.is_analytic
    testing.check_divergence(p, q, loss.estimate(), CASES[name][2])
    if name in FIRST and device.type == "cpu":  # a trace is the same on every device
        loss.compile(backend="eager", fullgraph=True)  # on the first call for the pair
        testing.check_divergence(p, q, loss.estimate(), CASES[name][2])


def test_kl_of_two_families_that_share_a_formula_is_no_closed_form():
    p, q = d.Normal(loc=0.0, scale=1.0), d.LogNormal(loc=0.0, scale=1.0, name="q")
    assert not KullbackLeibler(q, p).is_analytic


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("family", "parameter"),
    [(d.Categorical, "logits"), (d.CategoricalIndex, "logits"), (d.Dirichlet, "concentration"), (d.Poisson, "rate")],
)
def test_kl_keeps_the_batch(family, parameter, device):
    """Each datum's divergence is its own: the published library sums one-hot families' and Dirichlet's over the batch."""
    values = torch.rand(4, 3, dtype=torch.float64, device=device) + 0.5
    p, q = family("p(x|a)", **{parameter: "a"}), family("q(x|b)", **{parameter: "b"})
    whole = KullbackLeibler(p, q).estimate({"a": values, "b": values.flip(0)})
    single = [KullbackLeibler(p, q).estimate({"a": a[None], "b": b[None]}) for a, b in zip(values, values.flip(0))]
    assert whole.shape == (4,)
    torch.testing.assert_close(whole, torch.cat(single))


@pytest.mark.parametrize(
    "p",
    [d.Poisson(rate=2.0), d.CategoricalIndex(probs=PROBS.float()), d.Binomial(total_count=5.0, probs=0.3)],
    ids=lambda p: p.distribution_name,
)
def test_counts_may_be_integers(p):
    x = torch.tensor([0, 2, 1])
    torch.testing.assert_close(p.log_likelihood({"x": x}), p.log_likelihood({"x": x.float()}))


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (d.Uniform(low=0.0, high=2.0), d.Uniform(low=0.5, high=3.0, name="q")),
        (d.Pareto(scale=1.0, alpha=2.0), d.Pareto(scale=1.5, alpha=2.0, name="q")),
        (d.Binomial(total_count=5.0, probs=0.5), d.Binomial(total_count=4.0, probs=0.5, name="q")),
        (d.Multinomial(total_count=5.0, probs=PROBS.float()), d.Multinomial(total_count=4.0, probs=PROBS.float(), name="q")),
        (d.Poisson(rate=1.0), d.Poisson(rate=0.0, name="q")),
    ],
    ids=lambda p: p.distribution_name,
)
def test_kl_from_what_is_impossible_is_infinite(p, q):
    assert KullbackLeibler(p, q).estimate().item() == torch.inf


def test_what_parameters_make_impossible_has_no_density():
    for p, x in (
        (d.Uniform(low=0.0, high=2.0), 2.5),
        (d.Pareto(scale=1.0, alpha=2.0), 0.5),
        (d.Binomial(total_count=5.0, probs=0.5), 6.0),
        (d.CategoricalIndex(probs=PROBS.float()), 3.0),
        (d.DiscretizedLogistic(loc=0.5, scale=0.1, levels=5), 0.3),
    ):
        assert p.log_likelihood({"x": torch.tensor([x])}).item() == -torch.inf
    wrong = d.Multinomial(total_count=5.0, probs=PROBS.float())
    assert wrong.log_likelihood({"x": torch.tensor([[1.0, 1.0, 1.0]])}).item() == -torch.inf


@pytest.mark.parametrize("name", CASES)
def test_draws_pass_goodness_of_fit(name):
    """Pyro's test, in float64 with a fixed seed; Bonferroni over the rows."""
    gof = pytest.importorskip("pyro.distributions.testing.gof", reason="the test of fit is Pyro's")
    p, nodes = make(name), CASES[name][2]
    x = p.sample(batch_size=20_000)["x"]
    probs = p.log_likelihood({"x": x}).exp()
    if p.has_enumerate or nodes.weights.eq(1).all():
        every = nodes.points
        same = (x.unsqueeze(1) == every).flatten(2).all(-1) if x.ndim > 1 else (x.unsqueeze(1) - every).abs() < 1e-9
        observed = same.double().sum(0)
        assert observed.sum() == len(x)
        expected = p.log_likelihood({"x": every}).exp()
        common = expected * len(x) > 20  # the rest together
        cells = [torch.cat([t[common], *([] if common.all() else [t[~common].sum()[None]])]) for t in (expected, observed)]
        pvalue = gof.multinomial_goodness_of_fit(*cells, total_count=len(x))
    else:
        if p.value_support is d.Dirichlet.value_support:
            x = x[:, :-1]
        dim = x.shape[1] - 1 if name.startswith("PowerSpherical") else None
        pvalue = gof.auto_goodness_of_fit(x, probs, dim=dim) if dim else gof.auto_goodness_of_fit(x, probs)
    assert pvalue > 1e-4 / len(CASES)


@pytest.mark.parametrize("name", CASES)
def test_built_without_numbers_it_is_the_same_once_it_has_them(name):
    family, parameters, _, _ = CASES[name]
    p, on_meta = family("p(x)", **parameters), {k: v.to("meta") if isinstance(v, torch.Tensor) else v for k, v in parameters.items()}
    with torch.device("meta"):
        built = family("p(x)", **on_meta)
    built.load_state_dict(p.state_dict(), assign=True)
    x = p.sample(batch_size=3)
    torch.testing.assert_close(built.log_likelihood(x), p.log_likelihood(x), rtol=0, atol=0)
    assert built.has_enumerate == p.has_enumerate
