"""Bounds and divergences: in the library, and by sums over all draws."""

import math
from dataclasses import dataclass

import torch

from pixyz import losses

from ... import families
from ..estimators import model
from ..estimators.model import Points, params_of, spread


@dataclass(frozen=True)
class Prior(model.Variable):
    """A factor of the generative model, p(name|parents)."""

    letter = "p"


def log_q(world, env):
    """log q of all latent variables."""
    return sum(families.log_density(v.family, params_of(v, world, env), env[v.name]) for v in world.variables.values())


def log_prior(world, env):
    """log p of all latent variables."""
    return sum(families.log_density(v.family, params_of(v, world, env), env[v.name]) for v in world.priors)


def log_ratio(world, env):
    """log p(x,z)/q(z)."""
    return world.likelihood.truth(world, env) + log_prior(world, env) - log_q(world, env)


def is_summed(v, how):
    """Whether a variable is summed over."""
    return v.family in families.FINITE and how in ("auto", "enumerate")


def _estimator(b, how):
    made = {v: model.estimator(h, b, v) for v, h in zip(b.variables, how)}
    return how[0] if len(set(how)) == 1 and ":" not in how[0] else made


@dataclass(frozen=True)
class Elbo:
    """The evidence lower bound, in one of its forms.

    Attributes:
        how: the estimator of each variable.
        count: K.
        kl: the form.
        beta: the weight of the divergence.
        free_bits: what it is at least.
    """

    how: tuple[str, ...]
    count: int
    kl: str
    beta: float
    free_bits: float

    def build(self, b):
        options = {"kl": self.kl, "beta": self.beta, "free_bits": self.free_bits}
        return losses.ELBO(b.p, b.q_joint, num_samples=self.count, estimator=_estimator(b, self.how), **options)

    def truth(self, world):
        env, weights = spread(world, Points(), tuple(world.variables), self.how)
        if self.kl != "sample" and not any(v.parents for v in (*world.variables.values(), *world.priors)):
            closed = tuple("auto" for _ in self.how)  # a closed form, whatever the estimator of the other term
            inner, probs = spread(world, Points(), tuple(world.variables), closed)
        else:
            inner, probs = env, weights
        divergence = (probs * (log_q(world, inner) - log_prior(world, inner))).sum(-1)
        if self.free_bits:
            divergence = divergence.clamp(min=self.free_bits)
        return (weights * world.likelihood.truth(world, env)).sum(-1) - self.beta * divergence


@dataclass(frozen=True)
class Aggregate:
    """The importance-weighted bound, that of Rényi, or the doubly reparametrised one, which is the same in the mean.

    What is summed over stands outside of the mean over K draws if nothing that is drawn stands above it, else inside. Of one draw there
    is no mean, and each is the ELBO.

    Attributes:
        how: the estimator of each variable.
        count: K.
        order: α; 0 for IWAE.
        name: the function of the library.
    """

    how: tuple[str, ...]
    count: int
    order: float
    name: str

    def build(self, b):
        if self.name == "DReG":
            return losses.DReG(b.p, b.q_joint, num_samples=self.count)
        order = (self.order,) if self.name == "RenyiBound" else ()
        return getattr(losses, self.name)(b.p, b.q_joint, *order, num_samples=self.count, estimator=_estimator(b, self.how))

    def truth(self, world):
        outside, drawn, inside, below = [], [], [], set()
        for v, how in zip(world.variables.values(), self.how):
            if not is_summed(v, how):
                drawn.append((v.name, how))
                below.add(v.name)
            elif below.isdisjoint(v.parents):
                outside.append((v.name, how))
            else:
                inside.append((v.name, how))
                below.add(v.name)
        env, sizes, weights = Points(), [], []
        for group in (outside, drawn, inside):
            before = env.count
            env, w = spread(world, env, *(zip(*group) if group else ((), ())))
            weights.append(w)
            sizes.append(env.count // before)
        scale = 1 - self.order
        f = log_ratio(world, env).expand(world.batch, env.count).unflatten(1, sizes)
        probs = weights[2].expand(world.batch, -1).unflatten(1, sizes)
        if self.count == 1:
            f = (probs * f).sum(-1)
        elif sizes[2] > 1:
            f = (probs.log() + scale * f).logsumexp(-1) / scale
        else:
            f = f.squeeze(-1)
        within = weights[1].expand(world.batch, -1).unflatten(1, sizes[:2])
        return (weights[0] * _over_tuples(f, within, self.count, scale)).sum(-1)


def _over_tuples(f, weights, count, scale):
    """E of the power mean of K independent draws, of values and weights `(batch, outside, S)`, by all K-tuples."""

    def along(t, k):
        return t.reshape(*t.shape[:2], *[t.shape[2] if i == k else 1 for i in range(count)])

    total = torch.stack(torch.broadcast_tensors(*[along(scale * f, k) for k in range(count)])).logsumexp(0)
    probability = math.prod(along(weights, k) for k in range(count))
    return (probability * (total - math.log(count)) / scale).flatten(2).sum(-1)


@dataclass(frozen=True)
class Landing:
    """The evidence lower bound by its path derivative, whose gradient is that of the bound in the mean."""

    count: int

    def build(self, b):
        return losses.StickingTheLanding(b.p, b.q_joint, num_samples=self.count)

    def truth(self, world):
        env, weights = spread(world, Points(), tuple(world.variables), ("pathwise",) * len(world.variables))
        return (weights * log_ratio(world, env)).sum(-1)


@dataclass(frozen=True)
class Wake:
    """The wake phases of reweighted wake-sleep: neither the draws nor their weights have a gradient."""

    count: int

    def build(self, b):
        return losses.ReweightedWakeSleep(b.p, b.q_joint, num_samples=self.count)

    def truth(self, world):
        env, weights = spread(world, Points(), tuple(world.variables), ("sample",) * len(world.variables))
        ratio = log_ratio(world, env).detach().expand(world.batch, -1)
        both = (world.likelihood.truth(world, env) + log_prior(world, env) + log_q(world, env)).expand(world.batch, -1)
        weights = weights.expand(world.batch, -1)

        def along(t, k):
            return t.reshape(t.shape[0], *[t.shape[1] if i == k else 1 for i in range(self.count)])

        share = torch.stack(torch.broadcast_tensors(*[along(ratio, k) for k in range(self.count)])).softmax(0)
        total = sum(share[k] * along(both, k) for k in range(self.count))
        return (math.prod(along(weights, k) for k in range(self.count)) * total).flatten(1).sum(-1)


INTEGRANDS = {
    "JensenShannon": lambda p, q: 0.5 * (p * _log(2 * p / (p + q)) + q * _log(2 * q / (p + q))),
    "TotalVariation": lambda p, q: 0.5 * (p - q).abs(),
    "SquaredHellinger": lambda p, q: 0.5 * (p.sqrt() - q.sqrt()).square(),
    "ChiSquared": lambda p, q: (p - q).square() / q,
    "KullbackLeibler": lambda p, q: p * _log(p / q),
    "CrossEntropy": lambda p, q: -p * _log(q),
    "Entropy": lambda p, q: -p * _log(p),
}


def _log(t):
    return t.log()


@dataclass(frozen=True)
class Divergence:
    """Of q from the prior, or the other way round: a sum over all outcomes, or an integral over a fine grid.

    Attributes:
        name: the class of the library.
        swapped: whether the prior stands on the left.
        how: the estimator of each variable; the closed form where it is empty and one is known.
        count: K.
        order: α of the Rényi divergence, else 0.
    """

    name: str
    swapped: bool
    how: tuple[str, ...]
    count: int
    order: float = 0.0

    def build(self, b):
        sides = (b.prior_joint, b.q_joint) if self.swapped else (b.q_joint, b.prior_joint)
        options = {"num_samples": self.count, "estimator": _estimator(b, self.how) if self.how else "auto"}
        if self.name in ("KullbackLeibler", "SquaredHellinger", "ChiSquared", "Renyi"):
            options["analytic"] = not self.how
        if self.name == "Entropy":
            return losses.Entropy(sides[0], analytic=not self.how, **options)
        if self.name == "Renyi":
            return losses.Renyi(*sides, self.order, **options)
        return getattr(losses, self.name)(*sides, **options)

    def truth(self, world):
        env, step = Points(), 1.0
        for v in world.variables.values():
            if v.family == "Normal":
                x = torch.arange(-14.0, 14.0, 0.02).reshape(1, -1, 1)
                env, step = Points({v.name: x}, x.shape[1]), step * 0.02
            else:
                s = families.support(v.family, v.size)
                values = {other: x.repeat_interleave(len(s), 1) for other, x in env.items()}
                env = Points({**values, v.name: s.repeat(env.count, 1).unsqueeze(0)}, env.count * len(s))
        left, right = (log_prior, log_q) if self.swapped else (log_q, log_prior)
        log_p, log_r = left(world, env), right(world, env)
        if self.name == "Renyi":
            found = (self.order * log_p + (1 - self.order) * log_r).logsumexp(-1) + math.log(step)
            return found / (self.order - 1)
        if self.name == "TotalVariation" or step == 1.0:
            return (INTEGRANDS[self.name](log_p.exp(), log_r.exp()) * step).sum(-1)
        return (_by_logarithms(self.name, log_p, log_r) * step).sum(-1)


def _by_logarithms(name, a, b):
    """The integrand from the logarithms of densities, which may be below all numbers."""
    p, q = a.exp(), b.exp()
    if name == "JensenShannon":
        m = torch.logaddexp(a, b) - math.log(2)
        return 0.5 * (p * (a - m) + q * (b - m))
    return {
        "SquaredHellinger": lambda: 0.5 * ((a / 2).exp() - (b / 2).exp()).square(),
        "ChiSquared": lambda: (2 * a - b).exp() - 2 * p + q,
        "KullbackLeibler": lambda: p * (a - b),
        "CrossEntropy": lambda: -p * b,
        "Entropy": lambda: -p * a,
    }[name]()
