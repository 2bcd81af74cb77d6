# ruff: noqa: E501, C408
"""Which moments, divergences and distribution functions are known of which family in which parametrisation, in mpmath."""

from typing import Any, NamedTuple

import pixyz.distributions as d

from . import true_divergences as kl
from . import true_moments as tm
from .rows import mp
from .true_moments import Odds, e, exp, expm1, half, lg, log, log1p, pi, psi, sqrt


class Known(NamedTuple):
    """What is known of a family in one parametrisation.

    Attributes:
        moments: by quantity, functions of the parameters, and of a value or probability for cdf and icdf.
        kl: a function of the parameters of both sides; of counts, of one count and what else both sides have.
    """

    family: Any
    names: str
    moments: dict[str, Any]
    kl: Any = None
    renyi: Any = None
    wasserstein: Any = None

    @property
    def subject(self) -> str:
        return f"{self.family.__name__}({', '.join(self.names.split())})"


def odds(name, f):
    return (tm.probs if name == "probs" else tm.logits)(f)


def mode_of_beta(a, b):
    if a > 1 or b > 1:
        x, y = max(a - 1, 0), max(b - 1, 0)
        return x / (x + y)
    return mp.nan


def infinite_unless(holds, f):
    return lambda *at: f(*at) if holds(*at) else mp.inf


def of_student(df, m, s):
    return s**2 * df / (df - 2) if df > 2 else mp.inf if df > 1 else mp.nan


def inverse_gamma_entropy(a, b):
    return a + log(b) + lg(a) - (1 + a) * psi(a)


def gamma_entropy(a, r):
    return a - log(r) + lg(a) + (1 - a) * psi(a)


def by_scale(f, *places):
    def of(*at):
        at = list(at)
        for i in places:
            at[i] = 1 / at[i]
        return f(*at)

    return of


def mode_of_weibull(s, k):
    return s * ((k - 1) / k) ** (1 / k) if k > 1 else mp.mpf(0)


def kumaraswamy_entropy(a, b):
    return (1 - 1 / b) + (1 - 1 / a) * (psi(b + 1) + e) - log(a) - log(b)


def power_spherical_entropy(kappa, dim):
    beta = mp.mpf(dim - 1) / 2
    surface = beta * log(4 * pi) - (lg(2 * beta + kappa) - lg(beta + kappa))
    return surface + kappa * (psi(2 * beta + kappa) - psi(beta + kappa))


def tilted(f, by):
    """A function of the log-odds, of a probability or of the log-odds."""
    return lambda v, *x: f(v if by == "logits" else Odds(p=v).logit, *x)


def coin(by):
    return {"mean": odds(by, lambda o: o.p), "variance": odds(by, lambda o: o.p * o.q), "entropy": odds(by, tm.coin_entropy)}


def normal_moments(name):
    sigma = lambda m: kl.covariance(name, m)  # noqa: E731
    return {
        "mean": lambda loc, m: loc[0],
        "mode": lambda loc, m: loc[0],
        "variance": lambda loc, m: sigma(m)[0, 0],
        "entropy": lambda loc, m: (log(mp.det(sigma(m))) + len(loc) * (1 + log(2 * pi))) / 2,
    }


def of_covariances(f, name):
    return lambda loc, m, other, n: f(loc, kl.covariance(name, m), other, kl.covariance(name, n))


def low_rank(factor, diagonal):
    w = mp.matrix(factor)
    return w * w.T + mp.diag(diagonal)


def of_low_ranks(f):
    return lambda loc, w, v, other, x, y: f(loc, low_rank(w, v), other, low_rank(x, y))


def categories(by, mean, variance):
    return {"mean": tm.weighted(mean, by), "variance": tm.weighted(variance, by), "entropy": tm.weighted(tm.entropy_of_weights, by)}


ORDER = 2
NORMAL_ENTROPY = half + log(2 * pi) / 2
BOTH = ("probs", "logits")

FOUND = [
    Known(d.Normal, "loc scale", dict(mean=lambda m, s: m, mode=lambda m, s: m, variance=lambda m, s: s**2, entropy=lambda m, s: log(s) + NORMAL_ENTROPY, cdf=tm.normal_cdf, icdf=tm.normal_icdf), kl.normal, kl.normal_renyi(ORDER), lambda m, s, n, t: sqrt((m - n) ** 2 + (s - t) ** 2)),
    Known(d.LogNormal, "loc scale", dict(mean=lambda m, s: exp(m + s**2 / 2), mode=lambda m, s: exp(m - s**2), variance=lambda m, s: expm1(s**2) * exp(2 * m + s**2), entropy=lambda m, s: m + log(s) + NORMAL_ENTROPY, cdf=lambda m, s, x: tm.normal_cdf(m, s, log(x)), icdf=lambda m, s, u: exp(tm.normal_icdf(m, s, u))), kl.normal, kl.normal_renyi(ORDER)),
    Known(d.HalfNormal, "scale", dict(mean=lambda s: s * sqrt(2 / pi), mode=lambda s: mp.mpf(0), variance=lambda s: s**2 * (1 - 2 / pi), entropy=lambda s: log(s) + half + log(pi / 2) / 2, cdf=lambda s, x: mp.erf(x / s / sqrt(2)), icdf=lambda s, u: s * tm.ndtri(half + u / 2)), lambda s, t: kl.normal(mp.mpf(0), s, mp.mpf(0), t)),
    Known(d.Laplace, "loc scale", dict(mean=lambda m, s: m, mode=lambda m, s: m, variance=lambda m, s: 2 * s**2, entropy=lambda m, s: 1 + log(2 * s), cdf=lambda m, s, x: exp((x - m) / s) / 2 if x < m else 1 - exp((m - x) / s) / 2, icdf=lambda m, s, u: m + s * log(2 * u) if u < half else m - s * log(2 * (1 - u))), kl.laplace),
    Known(d.Cauchy, "loc scale", dict(mode=lambda m, s: m, entropy=lambda m, s: log(4 * pi * s), cdf=lambda m, s, x: mp.atan2(s, m - x) / pi, icdf=lambda m, s, u: m - s / mp.tan(pi * u) if u != half else m), kl.cauchy),
    Known(d.Logistic, "loc scale", dict(mean=lambda m, s: m, mode=lambda m, s: m, variance=lambda m, s: (pi * s) ** 2 / 3, entropy=lambda m, s: log(s) + 2, cdf=lambda m, s, x: 1 / (1 + exp((m - x) / s)), icdf=lambda m, s, u: m + s * (log(u) - log1p(-u)))),
    Known(d.Gumbel, "loc scale", dict(mean=lambda m, s: m + e * s, mode=lambda m, s: m, variance=lambda m, s: (pi * s) ** 2 / 6, entropy=lambda m, s: log(s) + e + 1, cdf=lambda m, s, x: exp(-exp((m - x) / s)), icdf=lambda m, s, u: m - s * log(-log(u))), kl.gumbel),
    Known(d.StudentT, "df loc scale", dict(mean=lambda n, m, s: m if n > 1 else mp.nan, mode=lambda n, m, s: m, variance=of_student, entropy=tm.student_entropy)),
    Known(d.Exponential, "rate", dict(mean=lambda r: 1 / r, mode=lambda r: mp.mpf(0), variance=lambda r: 1 / r**2, entropy=lambda r: 1 - log(r), cdf=lambda r, x: -expm1(-r * x), icdf=lambda r, u: -log1p(-u) / r), lambda r, s: kl.poisson(r, s) / r),
    Known(d.Exponential, "scale", dict(mean=lambda s: s, mode=lambda s: mp.mpf(0), variance=lambda s: s**2, entropy=lambda s: 1 + log(s), cdf=lambda s, x: -expm1(-x / s), icdf=lambda s, u: -log1p(-u) * s), lambda s, t: kl.poisson(t, s) / t),
    Known(d.Gamma, "concentration rate", dict(mean=lambda a, r: a / r, mode=lambda a, r: max(a - 1, 0) / r, variance=lambda a, r: a / r**2, entropy=gamma_entropy), kl.gamma),
    Known(d.Gamma, "concentration scale", dict(mean=lambda a, s: a * s, mode=lambda a, s: max(a - 1, 0) * s, variance=lambda a, s: a * s**2, entropy=by_scale(gamma_entropy, 1)), by_scale(kl.gamma, 1, 3)),
    Known(d.InverseGamma, "concentration rate", dict(mean=infinite_unless(lambda a, b: a > 1, lambda a, b: b / (a - 1)), mode=lambda a, b: b / (a + 1), variance=infinite_unless(lambda a, b: a > 2, lambda a, b: b**2 / (a - 1) ** 2 / (a - 2)), entropy=inverse_gamma_entropy), kl.gamma),
    Known(d.Beta, "concentration1 concentration0", dict(mean=lambda a, b: a / (a + b), mode=mode_of_beta, variance=lambda a, b: a * b / (a + b) ** 2 / (a + b + 1), entropy=tm.dirichlet_entropy), lambda a, b, c, f: kl.dirichlet([a, b], [c, f])),
    Known(d.Dirichlet, "concentration", dict(mean=lambda a: a[0] / sum(a), mode=lambda a: (a[0] - 1) / (sum(a) - len(a)) if min(a) > 1 else mp.nan, variance=lambda a: a[0] * sum(a[1:]) / sum(a) ** 2 / (sum(a) + 1), entropy=lambda a: tm.dirichlet_entropy(*a)), kl.dirichlet),
    Known(d.Kumaraswamy, "concentration1 concentration0", dict(mean=tm.kumaraswamy(1), variance=tm.variance(tm.kumaraswamy), entropy=kumaraswamy_entropy, cdf=lambda a, b, x: -expm1(b * log1p(-(x**a))) if x < 1 else mp.mpf(1), icdf=lambda a, b, u: (-expm1(log1p(-u) / b)) ** (1 / a))),
    Known(d.Weibull, "scale concentration", dict(mean=tm.weibull(1), mode=mode_of_weibull, variance=tm.variance(tm.weibull), entropy=lambda s, k: e * (1 - 1 / k) + log(s) - log(k) + 1, cdf=lambda s, k, x: -expm1(-((x / s) ** k)), icdf=lambda s, k, u: s * (-log1p(-u)) ** (1 / k)), kl.weibull),
    Known(d.Pareto, "scale alpha", dict(mean=infinite_unless(lambda m, a: a > 1, lambda m, a: m * a / (a - 1)), mode=lambda m, a: m, variance=infinite_unless(lambda m, a: a > 2, lambda m, a: m**2 * a / (a - 1) ** 2 / (a - 2)), entropy=lambda m, a: log(m) - log(a) + 1 / a + 1, cdf=lambda m, a, x: -expm1(a * log(m / x)) if x >= m else mp.mpf(0), icdf=lambda m, a, u: m * exp(-log1p(-u) / a)), kl.pareto),
    Known(d.Uniform, "low high", dict(mean=lambda a, b: (a + b) / 2, variance=lambda a, b: (b - a) ** 2 / 12, entropy=lambda a, b: log(b - a), cdf=lambda a, b, x: min(max((x - a) / (b - a), mp.mpf(0)), mp.mpf(1)), icdf=lambda a, b, u: a + u * (b - a)), kl.uniform),
    Known(d.VonMises, "loc concentration", dict(mode=lambda m, k: m, entropy=tm.von_mises_entropy), kl.von_mises),
    Known(d.Poisson, "rate", dict(mean=lambda r: r, variance=lambda r: r, mode=mp.floor), kl.poisson),
    Known(d.PowerSpherical, "loc concentration", dict(mean=lambda v, k: v[0] * k / (k + len(v) - 1), mode=lambda v, k: v[0], entropy=lambda v, k: power_spherical_entropy(k, len(v)))),
    *[Known(d.Bernoulli, by, {**coin(by), "mode": odds(by, lambda o: mp.mpf(o.p > half))}, kl.of_odds(kl.coin, by), kl.of_odds(lambda a, b: kl.coin_renyi(a, b, ORDER), by)) for by in BOTH],
    *[Known(d.ContinuousBernoulli, by, dict(mean=tilted(tm.tilt_mean, by), variance=tilted(tm.tilt_variance, by), entropy=tilted(tm.tilt_entropy, by), cdf=tilted(tm.tilt_cdf, by), icdf=tilted(tm.tilt_icdf, by)), (lambda by: lambda s, t: kl.tilted(*[v if by == "logits" else Odds(p=v).logit for v in (s, t)]))(by)) for by in BOTH],
    *[Known(d.Geometric, by, dict(mean=odds(by, lambda o: o.q / o.p), mode=lambda p: mp.mpf(0), variance=odds(by, lambda o: o.q / o.p**2), entropy=odds(by, tm.geometric_entropy)), kl.of_odds(lambda a, b: kl.coin(a, b) / a.p, by)) for by in BOTH],
    *[Known(d.Binomial, f"total_count {by}", dict(mean=odds(by, lambda n, o: n * o.p), variance=odds(by, lambda n, o: n * o.p * o.q)), (lambda f: lambda n, p, q: n * f(p, q))(kl.of_odds(kl.coin, by))) for by in BOTH],
    *[Known(d.NegativeBinomial, f"total_count {by}", dict(mean=odds(by, lambda n, o: n * o.p / o.q), variance=odds(by, lambda n, o: n * o.p / o.q**2)), (lambda f: lambda n, p, q: n * f(p, q))(kl.of_odds(lambda a, b: kl.coin(a, b) / a.q, by))) for by in BOTH],
    *[Known(d.Categorical, by, categories(by, lambda p, _: p[0], lambda p, _: p[0] * sum(p[1:])), kl.categorical(by), kl.categorical_renyi(by, ORDER)) for by in BOTH],
    *[Known(d.CategoricalIndex, by, categories(by, tm.index_mean, tm.index_variance), kl.categorical(by), kl.categorical_renyi(by, ORDER)) for by in BOTH],
    *[Known(d.Multinomial, f"total_count {by}", dict(mean=(lambda f: lambda n, p: n * f(p))(tm.weighted(lambda p, _: p[0], by)), variance=(lambda f: lambda n, p: n * f(p))(tm.weighted(lambda p, _: p[0] * sum(p[1:]), by))), (lambda f: lambda n, p, q: n * f(p, q))(kl.categorical(by))) for by in BOTH],
    *[Known(d.RelaxedBernoulli, f"temperature {by}", dict(cdf=lambda t, v, x, by=by: tm.relaxed_cdf(Odds(p=v) if by == "probs" else Odds(t=v), t, x), icdf=lambda t, v, u, by=by: tm.relaxed_icdf(Odds(p=v) if by == "probs" else Odds(t=v), t, u))) for by in BOTH],
    *[Known(d.MultivariateNormal, f"loc {name}", normal_moments(name), of_covariances(kl.normals, name), of_covariances(kl.normals_renyi(ORDER), name)) for name in ("covariance_matrix", "precision_matrix", "scale_tril")],
    Known(d.LowRankMultivariateNormal, "loc cov_factor cov_diag", dict(mean=lambda m, w, v: m[0], mode=lambda m, w, v: m[0], variance=lambda m, w, v: low_rank(w, v)[0, 0], entropy=lambda m, w, v: (log(mp.det(low_rank(w, v))) + len(m) * (1 + log(2 * pi))) / 2), of_low_ranks(kl.normals), of_low_ranks(kl.normals_renyi(ORDER))),
]  # fmt: skip
KNOWN = {k.subject: k for k in FOUND}
"""By the name of the subject."""
