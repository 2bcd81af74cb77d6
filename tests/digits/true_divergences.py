"""Divergences between members of one family in mpmath, of the parameters of both sides."""

from .true_moments import TINY, Odds, bessel, exp, expm1, half, lg, log, mp, psi, tilt_mean, weights

inf = mp.inf


def coin(a, b):
    """KL of two `Odds`."""
    if (a.p and not b.p) or (a.q and not b.q):
        return inf
    return (a.p * (a.log_p - b.log_p) if a.p else 0) + (a.q * (a.log_q - b.log_q) if a.q else 0)


def coin_renyi(a, b, alpha):
    total = mp.mpf(0)
    for la, lb in ((a.log_p, b.log_p), (a.log_q, b.log_q)):
        if la == -inf:
            continue
        if lb == -inf:
            if alpha > 1:
                return inf
            continue
        total += exp(alpha * la + (1 - alpha) * lb)
    return log(total) / (alpha - 1) if total else inf


def of_odds(f, by):
    """A divergence of `Odds`, of numbers that say them."""
    return lambda p, q: f(*[Odds(p=v) if by == "probs" else Odds(t=v) for v in (p, q)])


def categorical(by):
    def kl(p, q):
        (a, log_a), (_, log_b) = weights(p, by), weights(q, by)
        if any(v and w == -inf for v, w in zip(a, log_b)):
            return inf
        return sum(v * (s - t) for v, s, t in zip(a, log_a, log_b) if v)

    return kl


def categorical_renyi(by, alpha):
    def renyi(p, q):
        (_, log_a), (_, log_b) = weights(p, by), weights(q, by)
        if alpha > 1 and any(v > -inf and w == -inf for v, w in zip(log_a, log_b)):
            return inf
        total = sum(exp(alpha * v + (1 - alpha) * w) for v, w in zip(log_a, log_b) if v > -inf and w > -inf)
        return log(total) / (alpha - 1)

    return renyi


def poisson(a, b):
    return (inf if a else mp.mpf(0)) if not b else (a * log(a / b) - a + b if a else b)


def gamma(a, r, b, s):
    return b * log(r / s) + lg(b) - lg(a) + (a - b) * psi(a) + a * (s - r) / r


def dirichlet(a, b):
    logs = sum((x - y) * (psi(x) - psi(sum(a))) + lg(y) - lg(x) for x, y in zip(a, b))
    return logs + lg(sum(a)) - lg(sum(b))


def normal(m, s, n, t):
    return log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - half


def normal_renyi(alpha):
    def renyi(m, s, n, t):
        v = alpha * t**2 + (1 - alpha) * s**2
        if v <= 0:
            return inf
        return log(t / s) + log(t**2 / v) / (2 * (alpha - 1)) + alpha * (m - n) ** 2 / (2 * v)

    return renyi


def laplace(m, s, n, t):
    return log(t / s) - 1 + (abs(m - n) + s * exp(-abs(m - n) / s)) / t


def cauchy(m, s, n, t):
    return log(((s + t) ** 2 + (m - n) ** 2) / (4 * s * t))


def gumbel(m, s, n, t):
    return log(t / s) + mp.euler * (s / t - 1) - 1 + (m - n) / t + exp((n - m) / t + lg(1 + s / t))


def weibull(s, k, t, m):
    return log(k / m) + m * log(t / s) - (k - m) * mp.euler / k + exp(m * log(s / t) + lg(m / k + 1)) - 1


def pareto(m, a, n, b):
    return log(a / b) + b * log(m / n) + b / a - 1 if m >= n else inf


def uniform(a, b, c, f):
    return log((f - c) / (b - a)) if a >= c and b <= f else inf


def tilt_log_norm(t):
    return log(t / expm1(t)) if abs(t) > TINY else -t / 2 - t**2 / 24


def tilted(s, t):
    return tilt_mean(s) * (s - t) + tilt_log_norm(s) - tilt_log_norm(t)


def von_mises(m, k, n, j):
    (log_k, ratio), (log_j, _) = bessel(k), bessel(j)
    return (log_j + j) - (log_k + k) + ratio * (k - j * mp.cos(m - n))


def covariance(name, matrix):
    """Of the matrix that a multivariate normal is given."""
    m = mp.matrix(matrix)
    if name == "scale_tril":
        n = m.rows
        low = mp.matrix(n, n)
        for i in range(n):
            for j in range(i + 1):
                low[i, j] = m[i, j]
        return low * low.T
    return mp.inverse(m) if name == "precision_matrix" else m


def trace(m):
    return sum(m[i, i] for i in range(m.rows))


def normals(loc, sigma, other, tau):
    """KL of multivariate normals."""
    gap, inverse = mp.matrix(loc) - mp.matrix(other), mp.inverse(tau)
    distance = (gap.T * inverse * gap)[0]
    return (trace(inverse * sigma) - sigma.rows + distance + log(mp.det(tau)) - log(mp.det(sigma))) / 2


def normals_renyi(alpha):
    def renyi(loc, sigma, other, tau):
        gap, mixed = mp.matrix(loc) - mp.matrix(other), alpha * tau + (1 - alpha) * sigma
        if any(mp.det(mixed[:k, :k]) <= 0 for k in range(1, mixed.rows + 1)):
            return inf
        spread = log(mp.det(mixed)) - (1 - alpha) * log(mp.det(sigma)) - alpha * log(mp.det(tau))
        return alpha * (gap.T * mp.inverse(mixed) * gap)[0] / 2 - spread / (2 * (alpha - 1))

    return renyi
