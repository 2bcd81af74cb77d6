"""Every family: its parameters, its values, and its density, entropy and divergence by formulas and by `torch.distributions`."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor

from pixyz import distributions as library

Params = dict[str, Tensor]
PI = math.pi


class Row(NamedTuple):
    """A family under one set of parameters.

    Attributes:
        family: the class of the library.
        params: the parameters, each with the kind of its numbers.
        values: the kind of its values.
        log_density: of `(B, n)` values, a number for each feature, or one for each datum of families of vectors.
        torch_class: makes the distribution of `torch.distributions` that knows entropy and divergence.
        knows: of which the truth is known: `"entropy"`, `"KL"`.
        options: what else the class takes.
    """

    family: type
    params: dict[str, str]
    values: str
    log_density: Callable[[Params, Tensor], Tensor]
    torch_class: Callable[[Params], td.Distribution] | None = None
    knows: tuple[str, ...] = ()
    options: dict[str, float] = {}


BOTH = ("entropy", "KL")


def _z(p: Params, x: Tensor) -> Tensor:
    return (x - p["loc"]) / p["scale"]


def _log_normal(x: Tensor, loc, scale) -> Tensor:
    return -((x - loc) ** 2) / (2 * scale**2) - torch.log(scale) - math.log(math.sqrt(2 * PI))


def _log_sigmoid(t: Tensor) -> Tensor:
    return -torch.log(1 + torch.exp(-t))


def _choose(n, x) -> Tensor:
    return torch.lgamma(n + 1) - torch.lgamma(x + 1) - torch.lgamma(n - x + 1)


def _coin(x, p: Params) -> Tensor:
    """x log p + (1 - x) log(1 - p)."""
    if "probs" in p:
        return x * torch.log(p["probs"]) + (1 - x) * torch.log(1 - p["probs"])
    return x * _log_sigmoid(p["logits"]) + (1 - x) * _log_sigmoid(-p["logits"])


def _logs(p: Params) -> Tensor:
    return torch.log(p["probs"]) if "probs" in p else F.log_softmax(p["logits"], -1)


def _continuous_bernoulli(p: Params, x: Tensor) -> Tensor:
    logits = p["logits"] if "logits" in p else torch.log(p["probs"]) - torch.log(1 - p["probs"])
    return x * logits + torch.log(torch.where(logits.abs() < 1e-5, 1.0, logits / torch.expm1(logits)))


def _level(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """The probability of a level of 5, in [0, 1]."""
    above = torch.where(x > 0.99, 1.0, torch.sigmoid((x + 0.125 - loc) / scale))
    return above - torch.where(x < 0.01, 0.0, torch.sigmoid((x - 0.125 - loc) / scale))


def _relaxed_bernoulli(p: Params, x: Tensor) -> Tensor:
    tau, logits = p["temperature"], p["logits"] if "logits" in p else torch.log(p["probs"] / (1 - p["probs"]))
    gap = logits - tau * (torch.log(x) - torch.log(1 - x))
    return torch.log(tau) + gap - torch.log(x * (1 - x)) - 2 * torch.log(1 + torch.exp(gap))


def _relaxed_categorical(p: Params, x: Tensor) -> Tensor:
    tau, k = p["temperature"], x.shape[-1]
    logs = p["logits"] if "logits" in p else torch.log(p["probs"])
    powers = torch.logsumexp(logs - tau * torch.log(x), -1)
    return math.lgamma(k) + (k - 1) * torch.log(tau[..., 0]) + (logs - (tau + 1) * torch.log(x)).sum(-1) - k * powers


def _student(p: Params, x: Tensor) -> Tensor:
    v, z = p["df"], _z(p, x)
    log_c = torch.lgamma((v + 1) / 2) - torch.lgamma(v / 2) - 0.5 * torch.log(v * PI) - torch.log(p["scale"])
    return log_c - (v + 1) / 2 * torch.log(1 + z**2 / v)


def _beta(p: Params, x: Tensor) -> Tensor:
    a, b = p["concentration1"], p["concentration0"]
    return (a - 1) * torch.log(x) + (b - 1) * torch.log(1 - x) + torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)


def _kumaraswamy(p: Params, x: Tensor) -> Tensor:
    a, b = p["concentration1"], p["concentration0"]
    return torch.log(a * b) + (a - 1) * torch.log(x) + (b - 1) * torch.log(1 - x**a)


def _gamma(p: Params, x: Tensor) -> Tensor:
    a, b = p["concentration"], p["rate"] if "rate" in p else 1 / p["scale"]
    return a * torch.log(b) + (a - 1) * torch.log(x) - b * x - torch.lgamma(a)


def _inverse_gamma(p: Params, x: Tensor) -> Tensor:
    a, b = p["concentration"], p["rate"]
    return a * torch.log(b) - (a + 1) * torch.log(x) - b / x - torch.lgamma(a)


def _weibull(p: Params, x: Tensor) -> Tensor:
    k, r = p["concentration"], x / p["scale"]
    return torch.log(k / p["scale"]) + (k - 1) * torch.log(r) - r**k


def _dirichlet(p: Params, x: Tensor) -> Tensor:
    a = p["concentration"]
    return ((a - 1) * torch.log(x) - torch.lgamma(a)).sum(-1) + torch.lgamma(a.sum(-1))


def _negative_binomial(p: Params, x: Tensor) -> Tensor:
    n = p["total_count"]
    success, failure = (_coin(torch.full_like(x, t), p) for t in (1.0, 0.0))
    return torch.lgamma(n + x) - torch.lgamma(x + 1) - torch.lgamma(n) + x * success + n * failure


def _binomial(p: Params, x: Tensor) -> Tensor:
    n = torch.tensor(4.0)
    success, failure = (_coin(torch.full_like(x, t), p) for t in (1.0, 0.0))
    return _choose(n, x) + x * success + (n - x) * failure


def _power_spherical(p: Params, x: Tensor) -> Tensor:
    kappa, d = p["concentration"], x.shape[-1]
    beta = (d - 1) / 2
    a = beta + kappa
    log_c = -(a + beta) * math.log(2) - beta * math.log(PI) - torch.lgamma(a) + torch.lgamma(a + beta)
    return kappa * torch.log(1 + (p["loc"] * x).sum(-1)) + log_c


def _rows() -> dict[str, Row]:
    place = {"loc": "real", "scale": "positive"}
    lib = library
    rows = {
        "Normal": Row(lib.Normal, place, "real", lambda p, x: _log_normal(x, **p), lambda p: td.Normal(**p), BOTH),
        "Laplace": Row(
            lib.Laplace, place, "real", lambda p, x: -_z(p, x).abs() - torch.log(2 * p["scale"]), lambda p: td.Laplace(**p), BOTH
        ),
        "Cauchy": Row(
            lib.Cauchy, place, "real", lambda p, x: -torch.log(PI * p["scale"] * (1 + _z(p, x) ** 2)), lambda p: td.Cauchy(**p), BOTH
        ),
        "Logistic": Row(
            lib.Logistic, place, "real", lambda p, x: -_z(p, x) - torch.log(p["scale"]) - 2 * torch.log(1 + torch.exp(-_z(p, x)))
        ),
        "Gumbel": Row(
            lib.Gumbel, place, "real", lambda p, x: -_z(p, x) - torch.exp(-_z(p, x)) - torch.log(p["scale"]), lambda p: td.Gumbel(**p), BOTH
        ),
        "StudentT": Row(lib.StudentT, {"df": "positive", **place}, "real", _student, lambda p: td.StudentT(**p), ("entropy",)),
        "VonMises": Row(
            lib.VonMises,
            {"loc": "real", "concentration": "positive"},
            "real",
            lambda p, x: p["concentration"] * torch.cos(x - p["loc"]) - torch.log(2 * PI * torch.special.i0(p["concentration"])),
        ),
        "LogNormal": Row(
            lib.LogNormal,
            place,
            "positive",
            lambda p, x: _log_normal(torch.log(x), **p) - torch.log(x),
            lambda p: td.LogNormal(**p),
            BOTH,
        ),
        "HalfNormal": Row(
            lib.HalfNormal,
            {"scale": "positive"},
            "positive",
            lambda p, x: _log_normal(x, 0.0, p["scale"]) + math.log(2),
            lambda p: td.HalfNormal(**p),
            BOTH,
        ),
        "Exponential": Row(
            lib.Exponential,
            {"rate": "positive"},
            "positive",
            lambda p, x: torch.log(p["rate"]) - p["rate"] * x,
            lambda p: td.Exponential(**p),
            BOTH,
        ),
        "Exponential of scale": Row(
            lib.Exponential,
            {"scale": "positive"},
            "positive",
            lambda p, x: -torch.log(p["scale"]) - x / p["scale"],
            lambda p: td.Exponential(1 / p["scale"]),
            BOTH,
        ),
        "Gamma": Row(lib.Gamma, {"concentration": "positive", "rate": "positive"}, "positive", _gamma, lambda p: td.Gamma(**p), BOTH),
        "Gamma of scale": Row(
            lib.Gamma,
            {"concentration": "positive", "scale": "positive"},
            "positive",
            _gamma,
            lambda p: td.Gamma(p["concentration"], 1 / p["scale"]),
            BOTH,
        ),
        "InverseGamma": Row(
            lib.InverseGamma,
            {"concentration": "positive", "rate": "positive"},
            "positive",
            _inverse_gamma,
            lambda p: td.InverseGamma(**p),
            ("entropy",),
        ),
        "Weibull": Row(
            lib.Weibull,
            {"scale": "positive", "concentration": "positive"},
            "positive",
            _weibull,
            lambda p: td.Weibull(**p),
            ("entropy",),
        ),
        "Pareto": Row(
            lib.Pareto,
            {"scale": "unit", "alpha": "positive"},
            "above",
            lambda p, x: torch.log(p["alpha"]) + p["alpha"] * torch.log(p["scale"]) - (p["alpha"] + 1) * torch.log(x),
            lambda p: td.Pareto(**p),
            ("entropy",),
        ),
        "Uniform": Row(
            lib.Uniform,
            {"low": "below", "high": "above"},
            "unit",
            lambda p, x: -torch.log(p["high"] - p["low"]) + 0 * x,
            lambda p: td.Uniform(**p),
            ("entropy",),
        ),
        "Beta": Row(lib.Beta, {"concentration1": "positive", "concentration0": "positive"}, "unit", _beta, lambda p: td.Beta(**p), BOTH),
        "Kumaraswamy": Row(lib.Kumaraswamy, {"concentration1": "positive", "concentration0": "positive"}, "unit", _kumaraswamy),
        "NegativeBinomial": Row(lib.NegativeBinomial, {"total_count": "positive", "logits": "real"}, "count", _negative_binomial),
        "NegativeBinomial of probs": Row(lib.NegativeBinomial, {"total_count": "positive", "probs": "unit"}, "count", _negative_binomial),
        "Poisson": Row(
            lib.Poisson,
            {"rate": "positive"},
            "count",
            lambda p, x: x * torch.log(p["rate"]) - p["rate"] - torch.lgamma(x + 1),
            lambda p: td.Poisson(**p),
            ("KL",),
        ),
        "Dirichlet": Row(lib.Dirichlet, {"concentration": "positive"}, "simplex", _dirichlet, lambda p: td.Dirichlet(**p), BOTH),
        "Multinomial": Row(
            lib.Multinomial,
            {"logits": "real"},
            "counts of 4",
            lambda p, x: math.lgamma(5) - torch.lgamma(x + 1).sum(-1) + (x * _logs(p)).sum(-1),
            options={"total_count": 4.0},
        ),
        "CategoricalIndex": Row(
            lib.CategoricalIndex,
            {"logits": "real"},
            "index",
            lambda p, x: (_logs(p) * (torch.arange(p["logits"].shape[-1]) == x.unsqueeze(-1))).sum(-1),
            lambda p: td.Categorical(**p),
            BOTH,
        ),
        "DiscretizedLogistic": Row(
            lib.DiscretizedLogistic, place, "level", lambda p, x: torch.log(_level(x, **p)), options={"levels": 5.0}
        ),
        "PowerSpherical": Row(lib.PowerSpherical, {"loc": "sphere", "concentration": "one positive"}, "sphere", _power_spherical),
    }
    for how, kind in (("probs", "unit"), ("logits", "real")):
        bernoulli = Row(lib.Bernoulli, {how: kind}, "coin", lambda p, x: _coin(x, p), lambda p: td.Bernoulli(**p), BOTH)
        geometric = Row(
            lib.Geometric,
            {how: kind},
            "count",
            lambda p, x: x * _coin(torch.zeros_like(x), p) + _coin(torch.ones_like(x), p),
            lambda p: td.Geometric(**p),
            BOTH,
        )
        continuous = Row(lib.ContinuousBernoulli, {how: kind}, "unit", _continuous_bernoulli, lambda p: td.ContinuousBernoulli(**p), BOTH)
        binomial = Row(lib.Binomial, {how: kind}, "count", _binomial, lambda p: td.Binomial(4, **p), ("KL",), {"total_count": 4.0})
        relaxed = Row(lib.RelaxedBernoulli, {"temperature": "positive", how: kind}, "unit", _relaxed_bernoulli)
        made = {"Bernoulli": bernoulli, "Geometric": geometric, "ContinuousBernoulli": continuous, "Binomial": binomial}
        rows.update({f"{name} of {how}": row for name, row in {**made, "RelaxedBernoulli": relaxed}.items()})
    for how, kind in (("probs", "simplex"), ("logits", "real")):
        rows[f"Categorical of {how}"] = Row(
            lib.Categorical, {how: kind}, "one-hot", lambda p, x: (x * _logs(p)).sum(-1), lambda p: td.OneHotCategorical(**p), BOTH
        )
        rows[f"RelaxedCategorical of {how}"] = Row(
            lib.RelaxedCategorical, {"temperature": "one positive", how: kind}, "simplex", _relaxed_categorical
        )
    return rows


FAMILIES = _rows()
VECTORS = ("simplex", "one-hot", "counts of 4", "sphere", "index")
"""Kinds of values of which one event is the whole vector, or the whole table."""


def entropy(row: Row, params: Params) -> Tensor:
    """H, summed over the features."""
    written = ENTROPIES.get(row.family)
    found = row.torch_class(params).entropy() if written is None else written(params)
    return found if row.values in VECTORS else found.sum(-1)


def kl(row: Row, p: Params, q: Params) -> Tensor:
    """KL[p || q], summed over the features."""
    written = DIVERGENCES.get(row.family)
    if written is None:  # torch compares Bernoulli distributions of one batch shape only
        left, right = row.torch_class(p), row.torch_class(q)
        shape = torch.broadcast_shapes(left.batch_shape, right.batch_shape)
        found = td.kl_divergence(left.expand(shape), right.expand(shape))
    else:
        found = written(p, q)
    return found if row.values in VECTORS else found.sum(-1)


def _digamma(x: Tensor) -> Tensor:
    """The digamma function, whose derivative has all digits: torch's trigamma has nine."""
    below = torch.stack([1 / (x + k) for k in range(16)]).sum(0)
    z = x + 16
    series = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760)
    return torch.log(z) - 1 / (2 * z) - sum(c * z ** (-2 * (i + 1)) for i, c in enumerate(series)) - below


def _rate(p: Params) -> Tensor:
    return p["rate"] if "rate" in p else 1 / p["scale"]


def _entropy_of_dirichlet(a: Tensor) -> Tensor:
    total = a.sum(-1)
    logs = torch.lgamma(a).sum(-1) - torch.lgamma(total)
    return logs + (total - a.shape[-1]) * _digamma(total) - ((a - 1) * _digamma(a)).sum(-1)


def _kl_of_dirichlet(a: Tensor, b: Tensor) -> Tensor:
    logs = torch.lgamma(a.sum(-1)) - torch.lgamma(b.sum(-1)) + (torch.lgamma(b) - torch.lgamma(a)).sum(-1)
    return logs + ((a - b) * (_digamma(a) - _digamma(a.sum(-1, keepdim=True)))).sum(-1)


def _both(p: Params) -> Tensor:
    return torch.stack(torch.broadcast_tensors(p["concentration1"], p["concentration0"]), -1)


def _entropy_of_gamma(p: Params) -> Tensor:
    a = p["concentration"]
    return a - torch.log(_rate(p)) + torch.lgamma(a) + (1 - a) * _digamma(a)


def _entropy_of_inverse_gamma(p: Params) -> Tensor:
    a = p["concentration"]
    return a + torch.log(p["rate"]) + torch.lgamma(a) - (1 + a) * _digamma(a)


def _entropy_of_student(p: Params) -> Tensor:
    v = p["df"]
    half = (v + 1) / 2
    log_beta = torch.lgamma(v / 2) + math.lgamma(0.5) - torch.lgamma(half)
    return half * (_digamma(half) - _digamma(v / 2)) + 0.5 * torch.log(v) + log_beta + torch.log(p["scale"])


def _kl_of_gamma(p: Params, q: Params) -> Tensor:
    a, b, r, s = p["concentration"], q["concentration"], _rate(p), _rate(q)
    return (a - b) * _digamma(a) - torch.lgamma(a) + torch.lgamma(b) + b * (torch.log(r) - torch.log(s)) + a * (s - r) / r


ENTROPIES = {
    library.Beta: lambda p: _entropy_of_dirichlet(_both(p)),
    library.Dirichlet: lambda p: _entropy_of_dirichlet(p["concentration"]),
    library.Gamma: _entropy_of_gamma,
    library.InverseGamma: _entropy_of_inverse_gamma,
    library.StudentT: _entropy_of_student,
}
"""Entropies whose slopes torch knows to nine digits only."""

DIVERGENCES = {
    library.Beta: lambda p, q: _kl_of_dirichlet(_both(p), _both(q)),
    library.Dirichlet: lambda p, q: _kl_of_dirichlet(p["concentration"], q["concentration"]),
    library.Gamma: _kl_of_gamma,
}
"""Divergences of which the same is so."""


def above(row: Row, p: Params, lower: float) -> Tensor:
    """P(X > lower), for each feature."""
    t = torch.tensor(lower, dtype=torch.float64)
    return {
        library.Normal: lambda: 0.5 * torch.erfc(_z(p, t) / math.sqrt(2)),
        library.Laplace: lambda: torch.where(_z(p, t) > 0, 0.5 * torch.exp(-_z(p, t).abs()), 1 - 0.5 * torch.exp(-_z(p, t).abs())),
        library.Cauchy: lambda: 0.5 - torch.atan(_z(p, t)) / PI,
        library.Gumbel: lambda: -torch.expm1(-torch.exp(-_z(p, t))),
        library.Exponential: lambda: torch.exp(-p["rate"] * t),
        library.Weibull: lambda: torch.exp(-((t / p["scale"]) ** p["concentration"])),
    }[row.family]()


def log_density(row: Row, params: Params, x: Tensor) -> Tensor:
    """log p of values `(B, n)`, `(B,)`."""
    found = row.log_density(params, x)
    return found if row.values in VECTORS else found.sum(-1)
