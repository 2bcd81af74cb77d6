"""Means, variances, modes, entropies and distribution functions in mpmath, of the parameters in the order of their declaration."""

from .rows import mp

log, exp, log1p, expm1, lg, psi, pi, e = mp.log, mp.exp, mp.log1p, mp.expm1, mp.loggamma, mp.digamma, mp.pi, mp.euler
half = mp.mpf(1) / 2


def sqrt(x):
    return mp.sqrt(x)


class Odds:
    """A probability π with 1-π and the logarithms of both, from π or its log-odds."""

    def __init__(self, p=None, t=None):
        if t is None:
            self.p, self.q = p, 1 - p
            self.log_p, self.log_q = (log(v) if v else -mp.inf for v in (self.p, self.q))
        else:
            self.p, self.q = 1 / (1 + exp(-t)), 1 / (1 + exp(t))
            self.log_p, self.log_q = -log1p(exp(-t)), -log1p(exp(t))

    @property
    def logit(self):
        return self.log_p - self.log_q


def probs(f):
    """A function of what comes before, and of a probability."""
    return lambda *at: f(*at[:-1], Odds(p=at[-1]))


def logits(f):
    return lambda *at: f(*at[:-1], Odds(t=at[-1]))


def x_log(p, log_p):
    return p * log_p if p else mp.mpf(0)


def coin_entropy(o):
    return -x_log(o.p, o.log_p) - x_log(o.q, o.log_q)


def weights(numbers, by):
    """Probabilities whose sum is 1 but for rounding, or numbers that are their logarithms up to a constant, as both."""
    if by == "probs":
        return [v / sum(numbers) for v in numbers], [log(v / sum(numbers)) if v else -mp.inf for v in numbers]
    top = max(numbers)
    total = log(sum(exp(v - top) for v in numbers))
    logs = [v - top - total for v in numbers]
    return [exp(v) for v in logs], logs


def weighted(f, by):
    """A function of normalised weights and their logarithms."""
    return lambda numbers: f(*weights(numbers, by))


def index_mean(p, _):
    return sum(k * v for k, v in enumerate(p))


def index_variance(p, logs):
    mean = index_mean(p, logs)
    return sum((k - mean) ** 2 * v for k, v in enumerate(p))


def entropy_of_weights(p, logs):
    return -sum(x_log(v, w) for v, w in zip(p, logs))


TINY = mp.mpf(10) ** -25


def tilt_mean(t):
    return 1 / -expm1(-t) - 1 / t if abs(t) > TINY else half + t / 12


def tilt_variance(t):
    return 1 / t**2 - 1 / (4 * mp.sinh(t / 2) ** 2) if abs(t) > TINY else mp.mpf(1) / 12 - t**2 / 240


def tilt_entropy(t):
    return -tilt_mean(t) * t - log(t / expm1(t)) if abs(t) > TINY else -(t**2) / 24


def tilt_cdf(t, x):
    return expm1(t * x) / expm1(t) if abs(t) > TINY else x + t * x * (x - 1) / 2


def tilt_icdf(t, u):
    return log1p(u * expm1(t)) / t if abs(t) > TINY else u + t * u * (1 - u) / 2


def kumaraswamy(n):
    return lambda a, b: exp(log(b) + lg(1 + n / a) + lg(b) - lg(1 + n / a + b))


def weibull(n):
    return lambda s, k: s**n * mp.gamma(1 + n / k)


def variance(moment):
    return lambda *at: moment(2)(*at) - moment(1)(*at) ** 2


def dirichlet_entropy(*a):
    total = sum(a)
    return sum(lg(x) - (x - 1) * psi(x) for x in a) - lg(total) + (total - len(a)) * psi(total)


def student_entropy(df, loc, scale):
    gap = psi((df + 1) / 2) - psi(df / 2)
    return (df + 1) / 2 * gap + log(df) / 2 + lg(half) + lg(df / 2) - lg((df + 1) / 2) + log(scale)


def bessel(k):
    """log I₀(κ) - κ and I₁(κ)/I₀(κ)."""
    if k < 400:
        zero = mp.besseli(0, k)
        return log(zero) - k, mp.besseli(1, k) / zero
    sums = []
    for n in (0, 1):
        total = term = mp.mpf(1)
        i = 0
        while abs(term) > mp.mpf(10) ** -mp.dps * abs(total) and i < 2000:
            i += 1
            term = -term * (4 * n * n - (2 * i - 1) ** 2) / (8 * k * i)
            total += term
        sums.append(total)
    return log(sums[0]) - log(2 * pi * k) / 2, sums[1] / sums[0]


def von_mises_entropy(loc, k):
    log_i0e, ratio = bessel(k)
    return log(2 * pi) + log_i0e + k * (1 - ratio)


def geometric_entropy(o):
    return coin_entropy(o) / o.p


def relaxed_cdf(o, temperature, x):
    return 1 / (1 + exp(o.logit - temperature * log(x / (1 - x))))


def relaxed_icdf(o, temperature, u):
    return 1 / (1 + exp(-(log(u) - log1p(-u) + o.logit) / temperature))


def normal_cdf(m, s, x):
    return mp.erfc((m - x) / (s * sqrt(2))) / 2


def ndtri(u):
    """The quantile of a standard normal by Newton's steps in the logarithm of the probability of the nearer tail."""
    if u == half:
        return mp.mpf(0)
    sign, tail = (-1, u) if u < half else (1, 1 - u)
    t = sqrt(-2 * log(tail))
    z = t - (mp.mpf("2.515517") + mp.mpf("0.802853") * t) / (1 + mp.mpf("1.432788") * t + mp.mpf("0.189269") * t**2)
    for _ in range(60):
        mass = mp.erfc(z / sqrt(2)) / 2
        step = (log(mass) - log(tail)) * mass / (exp(-z * z / 2) / sqrt(2 * pi))
        z += step
        if abs(step) <= mp.mpf(10) ** (8 - mp.dps) * (abs(z) + mp.mpf(10) ** -30):
            break
    return sign * z


def normal_icdf(m, s, u):
    return m + s * ndtri(u)
