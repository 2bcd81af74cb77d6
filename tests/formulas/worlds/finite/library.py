"""The described models and objectives, written in the library."""

import zlib

import torch
from torch import nn

from pixyz.core import Loss, Parameter, log_mean_exp, logsumexp, maximum, minimum
from pixyz.distributions import Bernoulli, Categorical, CategoricalIndex, Deterministic, MixtureModel
from pixyz.losses import (
    ELBO,
    IWAE,
    NLL,
    ChiSquared,
    CrossEntropy,
    Entropy,
    JensenShannon,
    KullbackLeibler,
    LogRatio,
    Prob,
    Renyi,
    RenyiBound,
    SquaredHellinger,
    TotalVariation,
)

from .formula import KINDS, REAL, Computed, Conditioned, Leaf, Marginal, Mixture, Posterior, Product, Quotient, Renamed, letter_of
from .tables import bits, computed_states, weights_given

FAMILIES = {
    "coin": Bernoulli,
    "coins": Bernoulli,
    "two": Categorical,
    "three": Categorical,
    "index": CategoricalIndex,
    "pair": Categorical,
}


def values_of(kind):
    """The value of each state, `(states, *features)`."""
    if kind in ("coin", "coins"):
        return bits(KINDS[kind][0][0])
    if kind == "index":
        return torch.arange(3.0)
    if kind == "pair":
        one = torch.eye(2)
        return torch.stack([torch.stack([one[s // 2], one[s % 2]]) for s in range(4)])
    return torch.eye(KINDS[kind][1])


def states_of(kind, value):
    """The states of values, `(N,)`."""
    if kind == "index":
        return value.long()
    if kind == "coin":
        return value[:, 0].long()
    if kind == "coins":
        return (2 * value[:, 0] + value[:, 1]).long()
    if kind == "pair":
        first, second = value.argmax(-1).unbind(-1)
        return 2 * first + second
    return value.argmax(-1)


class Logits(nn.Module):
    """The logits, or the probabilities, of a leaf for given values of its parents."""

    def __init__(self, case, leaf, table, slope, as_probs):
        super().__init__()
        self.table, self.parents, self.as_probs = table, leaf.parents, as_probs
        self.kinds = [None if letter_of(v) == REAL else case.kind(v) for v in leaf.parents]
        self.own = case.kind(leaf.var)
        if slope is not None:
            self.slope = slope

    def forward(self, *given):
        finite = [states_of(kind, value) for kind, value in zip(self.kinds, given) if kind]
        logits = self.table[tuple(finite)] if finite else self.table.expand(len(given[0]), *self.table.shape)
        for kind, value in zip(self.kinds, given):
            if kind is None:
                logits = logits + (value @ self.slope.flatten(1)).reshape(logits.shape)
        return probs_of(self.own, logits) if self.as_probs else logits


def probs_of(kind, logits):
    return logits.sigmoid() if kind in ("coin", "coins") else logits.softmax(-1)


class Function(nn.Module):
    """A table of numbers, as a function of variables."""

    def __init__(self, case, table, names):
        super().__init__()
        self.table, self.names, self.kinds = table, names, [case.kind(v) for v in names]

    def forward(self, **given):
        return self.table[tuple(states_of(kind, given[v]) for v, kind in zip(self.names, self.kinds))]


class Library:
    """Builds distributions and losses; what has one description is one object.

    Args:
        case: the case.
        leaves: the trained and the given numbers, by name.
    """

    def __init__(self, case, leaves):
        self.case, self.leaves, self.made = case, leaves, {}

    def distribution(self, p):
        if p not in self.made:
            self.made[p] = self._distribution(p)
        return self.made[p]

    def _distribution(self, p):
        match p:
            case Leaf():
                return self._leaf(p, f"{p.letter}({p.var}{'|' if p.parents else ''}{','.join(p.parents)})")
            case Computed():
                made = computed_states(self.case, p)
                kinds, values = [self.case.kind(v) for v in p.parents], values_of(self.case.kind(p.var))

                def network(*given):
                    return {p.var: values[made[tuple(states_of(k, v) for k, v in zip(kinds, given))]]}

                return Deterministic(f"f({p.var}|{','.join(p.parents)})", network)
            case Product():
                found = self.distribution(p.parts[0])
                for part in p.parts[1:]:
                    found = found * self.distribution(part)
                return found
            case Marginal():
                return self.distribution(p.of).marginalize_var(list(p.hidden))
            case Posterior():
                return self.distribution(p.of).posterior(list(p.var))
            case Quotient():
                whole = self.distribution(p.of)
                above = [v for v in whole.var if v not in p.below]
                return whole / whole.marginalize_var(above)
            case Conditioned():
                return self.distribution(p.of).condition(**{p.var: values_of(self.case.kind(p.var))[p.state]})
            case Renamed():
                whole = self.distribution(p.of)
                names = {old: new for old, new in p.names if old in (*whole.var, *whole.cond_var)}  # what it does not depend on is gone
                return whole.replace_var(**names) if names else whole
            case Mixture():
                parts = [self._leaf(part, f"c({p.var}{'|' if p.parents else ''}{','.join(p.parents)})") for part in p.parts]
                return MixtureModel(parts, self.distribution(p.prior))

    def _leaf(self, leaf, text):
        """In one of several ways to write it, which one follows from its name and the seed."""
        family, table = FAMILIES[self.case.kind(leaf.var)], self.leaves[leaf.text]
        way = zlib.crc32(f"{leaf.text}{self.case.seed}".encode()) % 4
        if not leaf.parents:
            return family(text, logits=table)
        network = Logits(self.case, leaf, table, self.leaves.get(leaf.text + "'"), as_probs=way >= 2)
        name = "probs" if way >= 2 else "logits"
        if way % 2:
            return family(text, **{name: network})

        class Conditional(family):
            def __init__(self):
                super().__init__(var=[leaf.var], cond_var=leaf.parents, name=text.split("(")[0])
                self.network = network

            def forward(self, **given):
                return {name: self.network(*[given[v] for v in leaf.parents])}

        return Conditional()

    def loss(self, term):
        """The loss of a term, `globals` having a function for each operation."""
        parts = [self.loss(part) if hasattr(part, "op") else self.distribution(part) for part in term.parts]
        return OPERATIONS[term.op](self, *parts, *term.options)

    def function(self, name, *of):
        key = (name, of)
        if key not in self.made:
            network = Function(self.case, self.leaves[f"{name}({','.join(of)})"], of)
            self.made[key] = Loss.from_function(network, name, var=of)
        return self.made[key]


def _expectation(library, q, f, how):
    return f.expectation(q) if how == "auto" else f.expectation(q, estimator="enumerate")


def _elbo(library, likelihood, prior, q, kl, beta, free_bits):
    return ELBO(likelihood * prior, q, kl=kl, beta=beta, free_bits=free_bits)


def _constant_var(library, f, name, state):
    value = values_of(library.case.kind(name))[state]
    return f.constant_var({name: value.expand(library.case.batch, *value.shape)})


OPERATIONS = {
    "number": lambda b, c: c,
    "add": lambda b, x, y: x + y,
    "sub": lambda b, x, y: x - y,
    "mul": lambda b, x, y: x * y,
    "div": lambda b, x, y: x / y,
    "neg": lambda b, x: -x,
    "power": lambda b, x, n: x**n,
    "of_base": lambda b, x, base: base**x,
    "powers": lambda b, x, y: x**y,
    "exp": lambda b, x: x.exp(),
    "log": lambda b, x: x.log(),
    "abs": lambda b, x: abs(x),
    "minimum": lambda b, *parts: minimum(*parts),
    "maximum": lambda b, *parts: maximum(*parts),
    "clamp": lambda b, x, low, high: x.clamp(min=low, max=high),
    "logsumexp": lambda b, *parts: logsumexp(*parts),
    "log_mean_exp": lambda b, *parts: log_mean_exp(*parts),
    "stop": lambda b, x: x.detach(),
    "weighted": lambda b, x: x * weights_given(b.case),
    "mean": lambda b, x: x.mean(),
    "sum": lambda b, x: x.sum(),
    "log_prob": lambda b, p: p.log_prob(),
    "prob": lambda b, p: Prob(p),
    "nll": lambda b, p: NLL(p),
    "masked": lambda b, p: p.log_prob(mask="m"),
    "function": Library.function,
    "parameter": lambda b: Parameter("beta"),
    "expectation": _expectation,
    "constant_var": _constant_var,
    "entropy": lambda b, p, analytic: Entropy(p, analytic=analytic),
    "cross_entropy": lambda b, q, p: CrossEntropy(q, p),
    "log_ratio": lambda b, p, q: LogRatio(p, q),
    "kl": lambda b, q, p, analytic: KullbackLeibler(q, p, analytic=analytic),
    "renyi": lambda b, p, q, alpha, analytic: Renyi(p, q, alpha, analytic=analytic),
    "chi_squared": lambda b, p, q, analytic: ChiSquared(p, q, analytic=analytic),
    "hellinger": lambda b, p, q, analytic: SquaredHellinger(p, q, analytic=analytic),
    "jensen_shannon": lambda b, p, q: JensenShannon(p, q),
    "total_variation": lambda b, p, q: TotalVariation(p, q),
    "elbo": _elbo,
    "iwae": lambda b, p, q: IWAE(p, q, num_samples=3, estimator="enumerate"),
    "renyi_bound": lambda b, p, q: RenyiBound(p, q, 0.5, num_samples=3, estimator="enumerate"),
}
