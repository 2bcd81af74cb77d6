"""Divergences against quadrature, brute force and closed forms of one's own, in float64."""

import copy
import math
import pickle

import pytest
import torch
from losses.test_divergences_of_joints import chains, f64
from torch import nn
from zoo import Encoder, binary, prior

from pixyz.core import FormulaError, KindError, SupportError
from pixyz.distributions import Bernoulli, Categorical, Deterministic, LogNormal, LowRankMultivariateNormal, MultivariateNormal, Normal
from pixyz.losses import ChiSquared, JensenShannon, KullbackLeibler, LogProb, Renyi, SquaredHellinger, TotalVariation, Wasserstein


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def normals(loc=1.0, scale=1.5):
    return Normal("p(x)", loc=f64(0.0), scale=f64(1.0)), Normal("q(x)", loc=f64(loc), scale=f64(scale))


def integral(p, q, integrand):
    """∫ integrand(p(x), q(x)) dx on a wide, fine grid."""
    x = torch.linspace(-40, 40, 400_001)
    values = integrand(*(side.log_likelihood({"x": x}).exp() for side in (p, q)))
    return torch.trapezoid(values, x).item()


def log_ratio(p, q):
    return torch.where(p > 0, p * (p.clamp_min(1e-300) / q.clamp_min(1e-300)).log(), 0.0)


# the divergence, the figure of the literature, and its integral
TRUTH = {
    "KL": (KullbackLeibler, 0.349910, lambda p, q: integral(p, q, log_ratio)),
    "KL reversed": (lambda p, q, **o: KullbackLeibler(q, p, **o), 0.719535, lambda p, q: integral(q, p, log_ratio)),
    "JS": (
        JensenShannon,
        0.099290,
        lambda p, q: integral(p, q, lambda a, b: 0.5 * log_ratio(a, (a + b) / 2) + 0.5 * log_ratio(b, (a + b) / 2)),
    ),
    "Renyi 0.5": (
        lambda p, q, **o: Renyi(p, q, 0.5, **o),
        0.233889,
        lambda p, q: -2 * math.log(integral(p, q, lambda a, b: (a * b).sqrt())),
    ),
    "Renyi 2": (lambda p, q, **o: Renyi(p, q, 2, **o), 0.470263, lambda p, q: math.log(integral(p, q, square_over))),
    "TV": (TotalVariation, 0.346123, lambda p, q: 0.5 * integral(p, q, lambda a, b: (a - b).abs())),
    "H2": (SquaredHellinger, 0.110365, lambda p, q: 1 - integral(p, q, lambda a, b: (a * b).sqrt())),
    "chi2": (ChiSquared, 0.600415, lambda p, q: integral(p, q, square_over) - 1),
}
CLOSED = ["KL", "KL reversed", "Renyi 0.5", "Renyi 2", "H2", "chi2"]


def square_over(a, b):
    return torch.where(b > 0, a.square() / b.clamp_min(1e-300), 0.0)


@pytest.mark.parametrize("name", TRUTH)
def test_the_figures_of_two_normals(name):
    make, figure, quadrature = TRUTH[name]
    p, q = normals()
    truth = quadrature(p, q)
    assert truth == pytest.approx(figure, abs=6e-7)
    loss = make(p, q)
    assert loss.is_analytic == (name in CLOSED)
    if loss.is_analytic:
        assert loss.estimate().item() == pytest.approx(truth, abs=1e-9)
    sampled = make(p, q, **({"analytic": False} if name in CLOSED else {}), num_samples=200)
    assert not sampled.is_analytic
    draws = sampled.estimate(batch_size=4000)
    # the logarithm of a mean of K weights is off by about var/2K
    bias = 0.005 if isinstance(sampled, Renyi) else 0.0
    assert sampled.is_biased if isinstance(sampled, Renyi) else not getattr(sampled, "is_biased", False)
    assert abs(draws.mean().item() - truth) < 4 * draws.std().item() / math.sqrt(len(draws)) + bias


@pytest.mark.parametrize("name", [n for n in TRUTH if n != "KL reversed"])
def test_no_divergence_between_equals(name):
    """Exactly, for every draw: each integrand is 0 where the densities are equal."""
    p, q = normals(0.0, 1.0)
    make = TRUTH[name][0]
    for options in [{"num_samples": 3}, *([{"num_samples": 3, "analytic": False}] if name in CLOSED else [])]:
        torch.testing.assert_close(make(p, q, **options).estimate(batch_size=5), torch.zeros(5), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", TRUTH)
def test_gradients_of_draws_are_those_of_the_integral(name):
    make, _, quadrature = TRUTH[name]
    loc, scale = nn.Parameter(f64(0.7)), nn.Parameter(f64(1.4))
    p, q = Normal("p(x)", loc=f64(0.0), scale=f64(1.0)), Normal("q(x)", loc=loc, scale=scale)
    h = 1e-4
    by_parts = []
    for a, b in ((h, 0.0), (0.0, h)):
        up, down = (quadrature(p, Normal("q(x)", loc=f64(0.7 + s * a), scale=f64(1.4 + s * b))) for s in (1, -1))
        by_parts.append((up - down) / (2 * h))
    wanted = f64(by_parts)
    given = {"m": f64([0.7] * 100).requires_grad_(), "s": f64([1.4] * 100).requires_grad_()}  # copies, each with a gradient of its own
    rows = make(p, Normal("q(x|m,s)", loc="m", scale="s"), **({"analytic": False} if name in CLOSED else {}), num_samples=2000)
    seen = torch.stack(torch.autograd.grad(rows.estimate(given).sum(), list(given.values())), -1)
    assert ((seen.mean(0) - wanted).abs() < 4.5 * seen.std(0) / 10 + 2e-3).all(), (seen.mean(0), wanted)
    assert (seen.std(0) / 10 < 0.05).all()
    if name in CLOSED:
        torch.testing.assert_close(torch.stack(torch.autograd.grad(make(p, q).estimate().sum(), [loc, scale])), wanted, rtol=0, atol=1e-5)


# two distributions over few values, their probabilities, with a value that only one of them has
FINITE = {
    "Categorical": (Categorical("p(x)", probs=f64([0.5, 0.3, 0.2])), Categorical("q(x)", probs=f64([0.2, 0.2, 0.6]))),
    "Categorical, p lacks a value": (Categorical("p(x)", probs=f64([0.6, 0.4, 0.0])), Categorical("q(x)", probs=f64([0.2, 0.2, 0.6]))),
    "Categorical, q lacks a value": (Categorical("p(x)", probs=f64([0.5, 0.3, 0.2])), Categorical("q(x)", probs=f64([0.6, 0.4, 0.0]))),
    "Categorical, nothing in common": (Categorical("p(x)", probs=f64([1.0, 0.0])), Categorical("q(x)", probs=f64([0.0, 1.0]))),
    "Bernoulli": (Bernoulli("p(x)", probs=f64([0.2, 0.7])), Bernoulli("q(x)", logits=f64([1.0, -0.3]))),
}


def brute_force(name, a, b):
    log = lambda x, y: (x[x > 0] * (x[x > 0] / y[x > 0]).log()).sum()  # noqa: E731
    common = a > 0
    return {
        "KL": log(a, b),
        "KL reversed": log(b, a),
        "JS": 0.5 * log(a, (a + b) / 2) + 0.5 * log(b, (a + b) / 2),
        "Renyi 0.5": -2 * (a[common] * b[common]).sqrt().sum().log(),
        "Renyi 2": (a[common].square() / b[common]).sum().log(),
        "TV": 0.5 * (a - b).abs().sum(),
        "H2": 1 - (a[common] * b[common]).sqrt().sum(),
        "chi2": (a[common].square() / b[common]).sum() - 1,
    }[name]


@pytest.mark.parametrize("case", FINITE)
@pytest.mark.parametrize("name", TRUTH)
def test_over_a_finite_support_it_is_exact(name, case):
    p, q = FINITE[case]
    x = p.factors[0].dist.enumerate_support((2,) if case.endswith("common") or case == "Bernoulli" else (3,)).double()
    truth = brute_force(name, *(side.log_likelihood({"x": x}).exp() for side in (p, q)))
    options = [{}, {"analytic": False}] if name in CLOSED else [{}]
    for option in options:
        torch.testing.assert_close(TRUTH[name][0](p, q, **option).estimate(), truth.reshape(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in TRUTH if not n.startswith("KL")])
def test_gradients_are_finite_where_a_value_is_impossible(name):
    logits = nn.Parameter(f64([0.1, 0.5, -0.2]))
    p, q = Categorical("p(x)", probs=f64([0.6, 0.4, 0.0])), Categorical("q(x)", logits=logits)
    for option in [{}, {"analytic": False}] if name in CLOSED else [{}]:
        (seen,) = torch.autograd.grad(TRUTH[name][0](p, q, **option).estimate().sum(), logits)
        b = logits.softmax(-1)
        (wanted,) = torch.autograd.grad(brute_force(name, f64([0.6, 0.4, 0.0]), b), logits)
        torch.testing.assert_close(seen, wanted)


def rows(*values):
    return f64(list(values))


TRIL = rows([1.2, 0.0], [0.5, 0.8])
OTHER = rows([1.4, 0.0], [-0.3, 1.6])
PAIRS = {
    "Normal of 2 features": (Normal("p(x)", loc=rows(0.0, 0.5), scale=rows(1.0, 0.7)), Normal("q(x)", loc=rows(1.0, 0.0), scale=f64(1.5))),
    "MultivariateNormal": (
        MultivariateNormal("p(x)", loc=rows(0.0, 0.5), scale_tril=TRIL),
        MultivariateNormal("q(x)", loc=rows(1.0, 0.0), covariance_matrix=OTHER @ OTHER.T),
    ),
    "LowRankMultivariateNormal": (
        LowRankMultivariateNormal("p(x)", loc=rows(0.0, 0.5), cov_factor=rows([0.3], [0.4]), cov_diag=rows(1.0, 0.5)),
        LowRankMultivariateNormal("q(x)", loc=rows(1.0, 0.0), cov_factor=rows([-0.5], [0.2]), cov_diag=rows(1.0, 1.2)),
    ),
    "LogNormal": (LogNormal("p(x)", loc=rows(0.0, 0.1), scale=f64(0.5)), LogNormal("q(x)", loc=rows(0.3, 0.0), scale=f64(0.6))),
}


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.2, 2.0])
@pytest.mark.parametrize("case", PAIRS)
def test_renyi_in_closed_form_by_quadrature(case, alpha):
    p, q = PAIRS[case]
    line = torch.linspace(-25, 25, 501)
    x = torch.cartesian_prod(line, line)
    weights = 0.1**2
    if case == "LogNormal":
        x = x.exp()
        weights = weights * x.prod(-1)
    a, b = (side.log_likelihood({"x": x}) for side in (p, q))
    truth = (weights * (alpha * a + (1 - alpha) * b).exp()).sum().log() / (alpha - 1)
    loss = Renyi(p, q, alpha)
    assert loss.is_analytic
    torch.testing.assert_close(loss.estimate(), truth.reshape(1), rtol=1e-7, atol=1e-9)


def test_an_infinite_divergence_is_inf():
    p, q = normals()
    wide = MultivariateNormal("p(x)", loc=rows(0.0, 0.0), scale_tril=1.5 * torch.eye(2))
    narrow = MultivariateNormal("q(x)", loc=rows(0.0, 0.0), scale_tril=torch.eye(2))
    for loss in (Renyi(q, p, 2), ChiSquared(q, p), Renyi(wide, narrow, 2), ChiSquared(wide, narrow)):
        assert loss.estimate().item() == math.inf
    assert Renyi(q, p, 1.79).estimate().isfinite().all()  # 1.79 · 1 - 0.79 · 2.25 > 0
    assert Renyi(q, p, 1.81).estimate().item() == math.inf


def test_renyi_tends_to_kl_and_far_apart_to_its_bounds():
    p, q = normals()
    kl = KullbackLeibler(p, q).estimate()
    for alpha in (1 - 1e-6, 1 + 1e-6):
        torch.testing.assert_close(Renyi(p, q, alpha).estimate(), kl, rtol=0, atol=1e-5)
    far = Normal("q(x)", loc=f64(60.0), scale=f64(1.0))
    # weights of e^1800 and e^-1800: the logarithms are kept
    assert Renyi(p, far, 0.5, analytic=False, num_samples=100).estimate(batch_size=50).isfinite().all()
    assert Renyi(p, far, 3, analytic=False, num_samples=100).estimate(batch_size=50).isfinite().all()
    torch.testing.assert_close(JensenShannon(p, far).estimate(), f64([math.log(2)]))
    torch.testing.assert_close(TotalVariation(p, far).estimate(), f64([1.0]))
    torch.testing.assert_close(SquaredHellinger(p, far, analytic=False).estimate(), f64([1.0]))


def test_renamed_distributions_keep_their_closed_form():
    p, q = normals()
    loss = KullbackLeibler(p.replace_var(x="w"), q.replace_var(x="w"))
    assert loss.is_analytic
    assert loss.estimate().item() == pytest.approx(0.349910, abs=1e-6)
    assert Renyi(p.replace_var(x="w"), q.replace_var(x="w"), 2).estimate().item() == pytest.approx(0.470263, abs=1e-6)


def test_terms_of_one_name_do_not_cancel():
    """The published library cancelled terms because two distributions had the same name."""
    left, right = Normal("p(z|x)", loc="x", scale=f64(1.0)), Normal("p(z)", loc=f64(0.0), scale=f64(1.0))
    x = f64([0.0, 1.0, 2.0])
    torch.testing.assert_close(KullbackLeibler(left, right).estimate({"x": x}), 0.5 * x.square())
    torch.testing.assert_close((LogProb(left) - LogProb(right)).estimate({"x": x, "z": x}), 0.5 * x.square())
    same = Normal("p(z)", loc=f64(1.0), scale=f64(2.0))
    for name in ("KullbackLeibler", "JensenShannon", "TotalVariation"):
        with pytest.raises(FormulaError, match=r"Two different distributions are both written p\(z\)"):
            globals()[name](right, same)


def test_an_analytic_divergence_has_a_value_for_each_datum():
    """The published library summed its analytic KL divergence over the batch."""
    p, q = Encoder(), prior()
    for loss in (
        KullbackLeibler(p, q),
        Renyi(p, q, 0.5),
        SquaredHellinger(p, q),
        ChiSquared(p, q),
        JensenShannon(p, q),
        TotalVariation(p, q),
    ):
        assert loss.estimate({"x": binary(5).double()}).shape == (5,)
    values = {"x": binary(5).double()}
    terms = KullbackLeibler(p, q).estimate(values)
    torch.testing.assert_close(terms[2:3], KullbackLeibler(p, q).estimate({"x": values["x"][2:3]}))


def losses():
    p, q = Encoder(), prior()
    return {
        "JS": JensenShannon(p, q, num_samples=3),
        "TV": TotalVariation(p, q),
        "H2": SquaredHellinger(p, q),
        "chi2 sampled": ChiSquared(p, q, analytic=False),
        "Renyi": Renyi(p, q, 0.5),
        "Renyi sampled": Renyi(p, q, 2, analytic=False, num_samples=4),
        "KL of joints": KullbackLeibler(*chains()[:2]),
        "W2": Wasserstein(p, q, conditional=True),
    }


@pytest.mark.parametrize("name", losses())
def test_copied_and_pickled(name):
    loss = losses()[name]
    values = {"x": binary(5).double()} if loss.input_var else {}
    options = {} if values else {"batch_size": 5}
    torch.manual_seed(1)
    first = loss.estimate(values, **options)
    for same in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)) if "joints" not in name else loss):
        torch.manual_seed(1)
        torch.testing.assert_close(same.estimate(values, **options), first)


def test_divergences_are_one_graph():
    """All of them in one sum, each with a weight of its own, so that a single trace serves."""
    table = losses()
    joints = table.pop("KL of joints")
    values = {"x": binary(5).double()}
    for loss, given in ((sum((1 + i) * each for i, each in enumerate(table.values())), values), (joints, {})):
        options = {} if given else {"batch_size": 5}
        torch.manual_seed(1)
        eager = loss.estimate(given, **options)
        loss.compile(fullgraph=True, backend="eager")
        torch.manual_seed(1)
        torch.testing.assert_close(loss.estimate(given, **options), eager)


P, Q = normals()
PRINTED = {
    "JS": (JensenShannon(P, Q), "JS[p(x)||q(x)]"),
    "TV": (TotalVariation(P, Q), "TV[p(x)||q(x)]"),
    "H2": (SquaredHellinger(P, Q), "H^2[p(x)||q(x)]"),
    "chi2": (ChiSquared(P, Q), "chi^2[p(x)||q(x)]"),
    "Renyi": (Renyi(P, Q, 2), "Renyi_2[p(x)||q(x)]"),
    "Renyi of a half": (Renyi(P, Q, 0.5), "Renyi_{0.5}[p(x)||q(x)]"),
    "W2": (Wasserstein(P, Q), "W_2[p(x)||q(x)]"),
    "empirical": (Wasserstein(P, Q, analytic=False), "empirical(W_2[p(x)||q(x)])"),
    "KL": (KullbackLeibler(P, Q), "KL[p(x)||q(x)]"),
    "KL sampled": (KullbackLeibler(P, Q, analytic=False), "E_p(x)[log p(x)/q(x)]"),
}


@pytest.mark.parametrize(("loss", "text"), PRINTED.values(), ids=PRINTED)
def test_printed(loss, text):
    assert str(loss) == text
    assert loss.latex()


def other():
    return Normal("q(z)", loc=f64(0.0), scale=f64(1.0))


BAD = {
    "alpha of 0": (lambda: Renyi(P, Q, 0), FormulaError, "alpha must be positive, finite and not 1; got 0"),
    "alpha below 0": (lambda: Renyi(P, Q, -0.5), FormulaError, "alpha must be positive"),
    "alpha of 1": (lambda: Renyi(P, Q, 1), FormulaError, "At 1 it is the Kullback–Leibler divergence: KullbackLeibler"),
    "alpha without end": (lambda: Renyi(P, Q, math.inf), FormulaError, "finite"),
    "alpha that is nan": (lambda: Renyi(P, Q, math.nan), FormulaError, "alpha must be positive"),
    "alpha that is no number": (lambda: Renyi(P, Q, "2"), KindError, "alpha is a number; got a str"),
    "different variables": (lambda: JensenShannon(P, other()), FormulaError, "left side is over x, the right side over z"),
    "different variables of KL": (lambda: KullbackLeibler(P, other()), FormulaError, "left side is over x, the right side over z"),
    "a loss": (lambda: TotalVariation(P, LogProb(Q)), KindError, "takes a distribution; got the loss log q"),
    "no samples": (lambda: ChiSquared(P, Q, analytic=False, num_samples=0), KindError, "num_samples must be a whole number"),
    "a point mass": (lambda: JensenShannon(P, Deterministic("q(x)", x=f64(0.0))), FormulaError, "a point mass is not finite"),
    "another support": (
        lambda: KullbackLeibler(P, LogNormal("q(x)", loc=f64(0.0), scale=f64(1.0))).estimate(batch_size=99),
        SupportError,
        "must be",
    ),
}


@pytest.mark.parametrize(("make", "error", "words"), BAD.values(), ids=BAD)
def test_bad_input(make, error, words):
    with pytest.raises(error, match=words):
        make()
