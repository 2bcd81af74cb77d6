"""log p(x) of every family in mpmath, as its docstring has it."""

from collections.abc import Sequence
from typing import Any

from .rows import mp

lg, log, exp, log1p, expm1, pi = mp.loggamma, mp.log, mp.exp, mp.log1p, mp.expm1, mp.pi
half = mp.mpf(1) / 2


def log_sigmoid(t: Any) -> Any:
    return -log1p(exp(-t)) if t > 0 else t - log1p(exp(t))


def logs(p: Any) -> tuple[Any, Any]:
    """log π and log(1-π)."""
    if "logits" in p:
        return log_sigmoid(p["logits"]), log_sigmoid(-p["logits"])
    return safe_log(p["probs"]), safe_log(1 - p["probs"])


def safe_log(v: Any) -> Any:
    return log(v) if v > 0 else mp.ninf


def times(n: Any, log_p: Any) -> Any:
    """n log p with 0 log 0 = 0."""
    return mp.mpf(0) if n == 0 else n * log_p


def log_softmax(p: Any) -> list[Any]:
    if "probs" in p:
        return [safe_log(v) for v in p["probs"]]
    total = log_sum_exp(p["logits"])
    return [v - total for v in p["logits"]]


def log_sum_exp(terms: Sequence[Any]) -> Any:
    top = max(terms)
    return top + log(sum(exp(t - top) for t in terms)) if mp.isfinite(top) else top


def normal(x, loc, scale):
    return -(((x - loc) / scale) ** 2) / 2 - log(scale) - log(2 * pi) / 2


def laplace(x, loc, scale):
    return -abs(x - loc) / scale - log(2 * scale)


def cauchy(x, loc, scale):
    return -log(pi * scale) - log1p(((x - loc) / scale) ** 2)


def logistic(x, loc, scale):
    z = (x - loc) / scale
    return log_sigmoid(z) + log_sigmoid(-z) - log(scale)


def gumbel(x, loc, scale):
    z = (x - loc) / scale
    return -z - exp(-z) - log(scale)


def student_t(x, df, loc, scale):
    z = (x - loc) / scale
    return lg((df + 1) / 2) - lg(df / 2) - log(df * pi) / 2 - log(scale) - (df + 1) / 2 * log1p(z * z / df)


def log_normal(x, loc, scale):
    return normal(log(x), loc, scale) - log(x)


def half_normal(x, scale):
    return -((x / scale) ** 2) / 2 - log(scale) - log(pi / 2) / 2


def exponential(x, **p):
    rate = p["rate"] if "rate" in p else 1 / p["scale"]
    return log(rate) - rate * x


def gamma(x, concentration, **p):
    a, rate = concentration, p["rate"] if "rate" in p else 1 / p["scale"]
    return a * log(rate) + power(x, a - 1) - rate * x - lg(a)


def power(x: Any, a: Any) -> Any:
    """a log x; at x = 0 it is 0 or infinite."""
    return a * log(x) if x > 0 else mp.mpf(0) if a == 0 else mp.ninf if a > 0 else mp.inf


def inverse_gamma(x, concentration, rate):
    return concentration * log(rate) - (concentration + 1) * log(x) - rate / x - lg(concentration)


def weibull(x, scale, concentration):
    k, z = concentration, x / scale
    return log(k / scale) + power(z, k - 1) - (z**k if z else 0)


def pareto(x, scale, alpha):
    return log(alpha) + alpha * log(scale) - (alpha + 1) * log(x) if x >= scale else mp.ninf


def uniform(x, low, high):
    return -log(high - low) if low <= x <= high else mp.ninf


def beta(x, concentration1, concentration0):
    a, b = concentration1, concentration0
    return power(x, a - 1) + power(1 - x, b - 1) + lg(a + b) - lg(a) - lg(b)


def kumaraswamy(x, concentration1, concentration0):
    a, b = concentration1, concentration0
    rest = -expm1(a * log(x)) if x > 0 else mp.mpf(1)
    return log(a) + log(b) + power(x, a - 1) + power(rest, b - 1)


def continuous_bernoulli(x, **p):
    eta = p["logits"] if "logits" in p else log(p["probs"]) - log1p(-p["probs"])
    size = abs(eta)
    norm = log(size / -expm1(-size)) - (size if eta > 0 else 0) if eta else mp.mpf(0)
    return x * eta + norm


def relaxed_bernoulli(x, temperature, **p):
    log_x, log_rest = safe_log(x), safe_log(1 - x)
    if not (mp.isfinite(log_x) and mp.isfinite(log_rest)):  # e^-l or e^l at the end, where the temperature is 1
        at = log_sigmoid(p["logits"]) - log_sigmoid(-p["logits"]) if "logits" in p else log(p["probs"]) - log1p(-p["probs"])
        if temperature == 1:
            return at if x else -at
        return mp.inf if temperature < 1 else mp.ninf
    logits = p["logits"] if "logits" in p else log(p["probs"]) - log1p(-p["probs"])
    gap = logits - temperature * (log_x - log_rest)
    return log(temperature) - log_x - log_rest + log_sigmoid(gap) + log_sigmoid(-gap)


def von_mises(x, loc, concentration):
    return -2 * concentration * mp.sin((x - loc) / 2) ** 2 - log(2 * pi) - log_i0e(concentration)


def log_i0e(kappa: Any) -> Any:
    """log I₀(κ) - κ: by the power series, or where that is long by the asymptotic one."""
    if kappa < 1000:
        quarter, term, total, n = kappa * kappa / 4, mp.mpf(1), mp.mpf(1), 0
        while term > total * mp.eps:
            n += 1
            term = term * quarter / (n * n)
            total += term
        return log(total) - kappa
    term, total, n = mp.mpf(1), mp.mpf(1), 0
    while term > mp.eps and n < 2 * kappa:
        n += 1
        term = term * (2 * n - 1) ** 2 / (8 * n * kappa)
        total += term
    return log(total) - log(2 * pi * kappa) / 2


def bernoulli(x, **p):
    log_p, log_not_p = logs(p)
    return log_p if x == 1 else log_not_p


def geometric(x, **p):
    log_p, log_not_p = logs(p)
    return times(x, log_not_p) + log_p


def binomial(x, total_count, **p):
    n, (log_p, log_not_p) = total_count, logs(p)
    if x > n:
        return mp.ninf
    return lg(n + 1) - lg(x + 1) - lg(n - x + 1) + times(x, log_p) + times(n - x, log_not_p)


def negative_binomial(x, total_count, **p):
    n, (log_p, log_not_p) = total_count, logs(p)
    return lg(n + x) - lg(x + 1) - lg(n) + times(x, log_p) + times(n, log_not_p)


def poisson(x, rate):
    return times(x, safe_log(rate)) - rate - lg(x + 1)


def categorical(x, **p):
    return sum(times(n, v) for n, v in zip(x, log_softmax(p)))


def categorical_index(x, **p):
    each = log_softmax(p)
    return each[int(x)] if x < len(each) else mp.ninf


def multinomial(x, total_count, **p):
    if sum(x) != total_count:
        return mp.ninf
    return lg(total_count + 1) + sum(times(n, v) - lg(n + 1) for n, v in zip(x, log_softmax(p)))


def dirichlet(x, concentration):
    return lg(sum(concentration)) + sum(power(v, a - 1) - lg(a) for v, a in zip(x, concentration))


def relaxed_categorical(x, temperature, **p):
    k, log_pi = len(x), log_softmax(p)
    scores = [a - temperature * log(v) for a, v in zip(log_pi, x)]
    return lg(k) + (k - 1) * log(temperature) + sum(s - log(v) for s, v in zip(scores, x)) - k * log_sum_exp(scores)


def power_spherical(x, loc, concentration):
    b = mp.mpf(len(loc) - 1) / 2
    a = b + concentration
    apart = sum((u - v) ** 2 for u, v in zip(x, loc)) / 4
    return concentration * log1p(-apart) - b * log(4 * pi) - lg(a) + lg(a + b)


def log_bin(x, loc, scale, levels):
    edge = half / (levels - 1)
    above, below = (x + edge - loc) / scale, (x - edge - loc) / scale
    lowest, highest = x < edge, x > 1 - edge
    total = (0 if highest else log_sigmoid(above)) + (0 if lowest else log_sigmoid(-below))
    return mp.mpf(total) + (0 if lowest or highest else log(-expm1(-2 * edge / scale)))


def at_level(x, levels):
    """The level that float32 has rounded, or None."""
    steps = x * (levels - 1)
    return mp.nint(steps) / (levels - 1) if abs(steps - mp.nint(steps)) < mp.mpf(2) ** -23 * levels else None


def discretized_logistic(x, loc, scale, levels):
    level = at_level(x, levels)
    return mp.ninf if level is None else log_bin(level, loc, scale, levels)


def discretized_logistic_mixture(x, loc, scale, levels, **p):
    level = at_level(x, levels)
    if level is None:
        return mp.ninf
    return log_sum_exp([w + log_bin(level, m, s, levels) for w, m, s in zip(log_softmax(p), loc, scale)])


def multivariate_normal(x, loc, **p):
    if "scale_tril" in p:
        tril = [[v if i >= j else 0 for j, v in enumerate(row)] for i, row in enumerate(p["scale_tril"])]
        log_det, white = sum(log(tril[i][i]) for i in range(len(x))), forward([a - b for a, b in zip(x, loc)], tril)
        distance = sum(v * v for v in white)
    elif "covariance_matrix" in p:
        tril = cholesky(symmetric(p["covariance_matrix"]))
        log_det, white = sum(log(tril[i][i]) for i in range(len(x))), forward([a - b for a, b in zip(x, loc)], tril)
        distance = sum(v * v for v in white)
    else:
        m = symmetric(p["precision_matrix"])
        tril, gap = cholesky(m), [a - b for a, b in zip(x, loc)]
        log_det = -sum(log(tril[i][i]) for i in range(len(x)))
        distance = sum(m[i][j] * gap[i] * gap[j] for i in range(len(x)) for j in range(len(x)))
    return -distance / 2 - log_det - len(x) * log(2 * pi) / 2


def low_rank_normal(x, loc, cov_factor, cov_diag):
    n = len(x)
    covariance = [
        [sum(a * b for a, b in zip(cov_factor[i], cov_factor[j])) + (cov_diag[i] if i == j else 0) for j in range(n)] for i in range(n)
    ]
    return multivariate_normal(x, loc, covariance_matrix=covariance)


def symmetric(m: Any) -> list[list[Any]]:
    return [[(m[i][j] + m[j][i]) / 2 for j in range(len(m))] for i in range(len(m))]


def cholesky(m: Any) -> list[list[Any]]:
    n = len(m)
    tril = [[mp.mpf(0)] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rest = m[i][j] - sum(tril[i][k] * tril[j][k] for k in range(j))
            tril[i][j] = mp.sqrt(rest) if i == j else rest / tril[j][j]
    return tril


def forward(v: Sequence[Any], tril: Any) -> list[Any]:
    """L⁻¹v."""
    found: list[Any] = []
    for i, value in enumerate(v):
        found.append((value - sum(tril[i][k] * found[k] for k in range(i))) / tril[i][i])
    return found


LOG_DENSITIES = {
    "Bernoulli": bernoulli,
    "Beta": beta,
    "Binomial": binomial,
    "Categorical": categorical,
    "CategoricalIndex": categorical_index,
    "Cauchy": cauchy,
    "ContinuousBernoulli": continuous_bernoulli,
    "Dirichlet": dirichlet,
    "DiscretizedLogistic": discretized_logistic,
    "DiscretizedLogisticMixture": discretized_logistic_mixture,
    "Exponential": exponential,
    "Gamma": gamma,
    "Geometric": geometric,
    "Gumbel": gumbel,
    "HalfNormal": half_normal,
    "InverseGamma": inverse_gamma,
    "Kumaraswamy": kumaraswamy,
    "Laplace": laplace,
    "LogNormal": log_normal,
    "Logistic": logistic,
    "LowRankMultivariateNormal": low_rank_normal,
    "Multinomial": multinomial,
    "MultivariateNormal": multivariate_normal,
    "NegativeBinomial": negative_binomial,
    "Normal": normal,
    "Pareto": pareto,
    "Poisson": poisson,
    "PowerSpherical": power_spherical,
    "RelaxedBernoulli": relaxed_bernoulli,
    "RelaxedCategorical": relaxed_categorical,
    "StudentT": student_t,
    "Uniform": uniform,
    "VonMises": von_mises,
    "Weibull": weibull,
}
"""By the name of the family."""
