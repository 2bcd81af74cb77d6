"""Bounds on the log-likelihood with K draws, and divergences, of models with finite or normal latent variables.

The mean of a bound is a sum over all K-tuples of draws; its gradient, whatever the estimator, is that of the sum.
"""

import functools
import operator
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import nn

from ... import families
from ...case import Built, Case, by_autograd, generator
from ..estimators import Builder, model
from ..estimators.model import Likelihood, Variable
from .terms import Aggregate, Divergence, Elbo, Landing, Prior, Wake, is_summed

WARNINGS = ("estimated by the score function from one draw",)


@dataclass(frozen=True)
class Bounded(Case):
    """One or two bounds or divergences.

    Attributes:
        seed: of all numbers.
        batch: how many data.
        latent: the variables of q, parents first.
        priors: those of p, parents first.
        likelihood: p(x|z).
        terms: weights and what they weigh.
    """

    seed: int
    batch: int
    latent: tuple[Variable, ...]
    priors: tuple[Prior, ...]
    likelihood: Likelihood
    terms: tuple[tuple[float, object], ...]

    copies = 256

    @property
    def exact(self):
        return all(_is_exact(self, x) for _, x in self.terms)

    def at(self, seed):
        """Estimators and families are not printed."""
        return None

    @property
    def biased(self):
        kinds = {how.partition(":")[0] for _, x in self.terms for how in getattr(x, "how", ())}
        drawn = any(isinstance(x, Divergence) and x.name == "Renyi" and (x.how or not _has_closed_renyi(self)) for _, x in self.terms)
        return drawn or any(isinstance(x, Wake) for _, x in self.terms) or not kinds.isdisjoint(("relaxed", "straight_through"))

    def numbers(self):
        found = {
            name: t
            for v in (*self.latent, *self.priors)
            if v.where != "fixed"
            for name, t in zip(v.leaf_names().values(), v.numbers(self.seed, self.batch).values())
        }
        found["x"] = torch.randn(self.batch, 1, generator=generator(self.seed, "x"))
        return found

    def seen(self, copies):
        return torch.randint(2, (self.batch, 1), generator=generator(self.seed, "y")).double().repeat(copies, 1)

    def build(self, copies=1):
        kept = {n for v in (*self.latent, *self.priors) if v.where == "parameter" for n in v.leaf_names().values()}
        leaves = {n: nn.Parameter(t) if n in kept else t.requires_grad_() for n, t in self.numbers().items()}
        given = {n: t.repeat(copies, 1) for n, t in leaves.items() if n not in kept}
        (c, first), *others = self.terms
        b = _Builder(self, leaves)
        loss = sum((w * x.build(b) for w, x in others), first.build(b) if c == 1 else c * first.build(b))
        assert loss.is_biased == self.biased, f"is_biased is {loss.is_biased} of {loss}"
        given["y"] = self.seen(copies)
        values = {n: t for n, t in given.items() if n in loss.input_var}
        return Built(loss, values, leaves, {} if values else {"batch_size": copies * self.batch})

    def truth(self):
        def of(**leaves):
            world = model.World(self.seed, self.batch, {v.name: v for v in self.latent}, {**leaves, "y": self.seen(1)})
            world.priors, world.likelihood = self.priors, self.likelihood
            return sum(c * x.truth(world).expand(self.batch) for c, x in self.terms)

        return by_autograd(of, self.numbers())


class _Builder(Builder):
    """p and q in the library."""

    def __init__(self, case, leaves):
        self.seed = case.seed
        self.variables = {v.name: v for v in case.latent}
        self._likelihoods = {}
        made = [model.in_library(v, self.variables, case.seed, leaves) for v in case.latent]
        priors = [model.in_library(v, self.variables, case.seed, leaves) for v in case.priors]
        self.q_joint = functools.reduce(operator.mul, reversed(made))
        self.prior_joint = functools.reduce(operator.mul, reversed(priors))
        likelihood = case.likelihood.build(self)
        self.p = self._likelihoods[case.likelihood] * self.prior_joint
        assert likelihood is not None


def _has_closed_renyi(case):
    return len(case.latent) == 1 and case.latent[0].family in ("Normal", "Bernoulli", "Categorical")


def _is_finite(case):
    return all(v.family in families.FINITE for v in case.latent)


def _is_exact(case, x):
    if isinstance(x, (Landing, Wake)):
        return False
    if isinstance(x, Divergence) and not x.how:
        closed = x.name in ("KullbackLeibler", "Entropy") or (x.name in ("SquaredHellinger", "ChiSquared", "Renyi"))
        return _is_finite(case) or (closed and len(case.latent) == 1)
    return all(is_summed(v, how) and (how == "enumerate" or v.where != "fixed") for v, how in zip(case.latent, x.how))


@st.composite
def _models(draw):
    latent = []
    for name in "ab"[: draw(st.integers(1, 2))]:
        family = draw(st.sampled_from(("Bernoulli", "Categorical", "Normal", "Bernoulli") if not latent else ("Bernoulli", "Categorical")))
        size = 1 if family == "Normal" else draw(st.integers(1, 2)) + (family == "Categorical")
        parents = ("a",) if latent and draw(st.booleans()) else ()
        latent.append(Variable(name, family, size, parents, draw(st.sampled_from(("given", "networked", "parameter")))))
    if len(latent) == 2 and draw(st.booleans()) and latent[0].family != "Normal":
        latent[1] = Variable("b", "Normal", 1, latent[1].parents, latent[1].where)
    priors = []
    for v in latent:
        parents = ("a",) if priors and draw(st.booleans()) else ()
        priors.append(Prior(v.name, v.family, v.size, parents, draw(st.sampled_from(("parameter", "fixed", "given")))))
    names = tuple(v.name for v in latent)
    return tuple(latent), tuple(priors), Likelihood(names, draw(st.sampled_from(("Normal", "Bernoulli"))))


def _estimators(v, *, plain):
    if v.family == "Normal":
        return ("auto", "pathwise", "score")
    found = ("auto", "enumerate", "score", "score:0.4")
    several = v.size > (1 if v.family == "Bernoulli" else 2)
    return (*found, "rebar:0.5,1.0", "straight_through", *(() if several else ("relaxed:0.5",))) if plain else found


@st.composite
def _hows(draw, latent, *, plain):
    found, common = [], draw(st.sampled_from(("auto", "score", "", "")))
    for v in latent:
        how = common or draw(st.sampled_from(_estimators(v, plain=plain)))
        found.append("auto" if how.startswith("rebar") and any(h.startswith("rebar") for h in found) else how)
    return tuple(found)


@st.composite
def _terms(draw, latent, priors):
    finite, single = all(v.family != "Normal" for v in latent), len(latent) == 1
    pathwise = all(v.family == "Normal" for v in latent)
    kinds = ["elbo", "elbo", "iwae", "iwae", "renyi", "wake", "divergence", "divergence"] + ["landing", "dreg"] * (2 * pathwise)
    kind = draw(st.sampled_from(kinds))
    count = draw(st.integers(1, 3))
    if kind == "elbo":
        kl = draw(st.sampled_from(("sample", "auto", *(("analytic",) if single else ()))))
        # A lower limit of a divergence that is drawn has another mean.
        free = draw(st.sampled_from((0.0, 0.3))) if kl == "analytic" else 0.0
        # Part of a divergence of a chain is a closed form, which no relaxed value enters.
        plain = kl == "sample" or not any(v.parents for v in (*latent, *priors))
        return Elbo(draw(_hows(latent, plain=plain)), count, kl, draw(st.sampled_from((1.0, 1.0, 4.0, 0.5))), free)
    if kind == "iwae":
        return Aggregate(draw(_hows(latent, plain=False)), count, 0.0, "IWAE")
    if kind == "renyi":
        return Aggregate(draw(_hows(latent, plain=False)), count, draw(st.sampled_from((0.5, 2.0, -0.5))), "RenyiBound")
    if kind == "wake":
        return Wake(max(2, count))
    if kind == "landing":
        return Landing(count)
    if kind == "dreg":
        return Aggregate(("pathwise",) * len(latent), count, 0.0, "DReG")
    names = ["KullbackLeibler", "CrossEntropy", "Entropy", "JensenShannon", "SquaredHellinger", "TotalVariation"]
    if finite or single:
        names += ["Renyi"] + ["ChiSquared"] * finite
    if not finite and not single:
        names = ["KullbackLeibler", "CrossEntropy"]
    name = draw(st.sampled_from(names))
    how = () if name == "Renyi" or draw(st.booleans()) else tuple("auto" if finite else "pathwise" for _ in latent)
    if not finite and not single:
        return Elbo(("auto",) * len(latent), count, "auto", 1.0, 0.0)
    order = draw(st.sampled_from((0.5, 0.9, 2.0) if finite else (0.5, 0.9))) if name == "Renyi" else 0.0
    return Divergence(name, draw(st.booleans()), how, count, order)


@st.composite
def cases(draw):
    latent, priors, likelihood = draw(_models())
    terms = [(draw(st.sampled_from((1, -1, 0.5))), draw(_terms(latent, priors))) for _ in range(draw(st.sampled_from((1, 1, 2))))]
    return Bounded(draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 3)), latent, priors, likelihood, tuple(terms))
