"""Leaves of every family, in mixtures, products, chains and under other names, at ordinary values; all exact.

Densities are held against their formulas, entropies and divergences against `torch.distributions`.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from pixyz.core import Loss
from pixyz.distributions import Categorical, Components, Truncated, ZeroInflated
from pixyz.losses import Entropy, KullbackLeibler

from ...case import Built, Case, Truth, generator, gradients_of
from ...expressions import Expression, expressions, extras_of, true_extras
from ...weights import Copied, Weights
from .densities import FAMILIES, VECTORS, Params, Row, above, entropy, kl, log_density

FIXED = ("simplex", "sphere")
"""Kinds of parameters whose numbers hang together: a gradient by each of them has no meaning, so they come from constants and networks."""


@dataclass(frozen=True)
class Leaf:
    """A family with parameters of some sources.

    Attributes:
        family: its name among `FAMILIES`.
        sources: for each parameter `"constant"`, `"trained"`, `"network"` of u, or `"named"`, a given variable.
    """

    family: str
    sources: tuple[str, ...]

    @property
    def row(self) -> Row:
        return FAMILIES[self.family]

    @property
    def given(self) -> list[str]:
        """What stands behind its bar."""
        named = [f"v_{kind.replace(' ', '_')}" for kind, source in zip(self.row.params.values(), self.sources) if source == "named"]
        return [*(["u"] if "network" in self.sources else []), *dict.fromkeys(named)]

    def build(self, text: str, name: str, n: int, w: Copied):
        """The leaf; `text` is its letter and variable, `p(x)`."""
        bar = f"|{','.join(self.given)})" if self.given else ")"
        params = {}
        for (parameter, kind), source in zip(self.row.params.items(), self.sources):
            at, size = f"{name}.{parameter}", 1 if kind == "one positive" else n
            if source == "named":
                params[parameter] = f"v_{kind.replace(' ', '_')}"
            elif source == "network":
                params[parameter] = Link(w.linear(at, 2, size), kind)
            else:
                free = w(at, size) if source == "trained" else w.constant(at, size)
                params[parameter] = linked(free.detach(), kind)
                if kind == "one positive":
                    params[parameter] = params[parameter].squeeze(-1)
                if source == "trained":
                    params[parameter] = w.found[at] = nn.Parameter(params[parameter])
        return self.row.family(text.replace(")", bar), **params, **self.row.options)

    def params(self, name: str, n: int, w: Weights, values: dict[str, Tensor]) -> Params:
        """The parameters, `(B or 1, n)`."""
        found = {}
        for (parameter, kind), source in zip(self.row.params.items(), self.sources):
            at, size = f"{name}.{parameter}", 1 if kind == "one positive" else n
            if source == "named":
                t = values[f"v_{kind.replace(' ', '_')}"]
            elif source == "network":
                t = linked(values["u"] @ w(f"{at}.weight", size, 2).T + w(f"{at}.bias", size), kind)
            elif source == "trained":
                t = w.derived(at, lambda t, kind=kind: linked(t, kind).squeeze(-1) if kind == "one positive" else linked(t, kind), size)
                t = t.reshape(1, -1)
            else:
                t = linked(w(at, size, trained=False), kind).unsqueeze(0)
            found[parameter] = t.squeeze(-1) if kind == "one positive" and self.row.values == "sphere" else t
        return found


class Link(nn.Module):
    """A linear network of u, made to give numbers of a kind."""

    def __init__(self, net: nn.Linear, kind: str) -> None:
        super().__init__()
        self.net, self.kind = net, kind

    def forward(self, u):
        t = linked(self.net(u), self.kind)
        return t.squeeze(-1) if self.kind == "one positive" else t


def linked(t: Tensor, kind: str) -> Tensor:
    """Numbers of a kind, from any numbers."""
    if kind in ("positive", "one positive"):
        return (0.5 * t).exp()
    if kind == "above":
        return 1 + t.exp()
    if kind == "below":
        return -t.exp()
    if kind == "unit":
        return t.sigmoid()
    if kind == "simplex":
        return t.softmax(-1)
    return t / t.norm(dim=-1, keepdim=True) if kind == "sphere" else t


def _values(kind: str, batch: int, n: int, g: torch.Generator) -> Tensor:
    if kind in ("count", "level", "coin", "one-hot", "index", "counts of 4"):
        most = {"count": 5, "level": 5, "coin": 2}.get(kind, n)
        shape = {"one-hot": (batch,), "index": (batch,), "counts of 4": (batch, 4)}.get(kind, (batch, n))
        drawn = torch.randint(most, shape, generator=g)
        if kind == "counts of 4":
            return torch.eye(n)[drawn].sum(1)
        return torch.eye(n)[drawn] if kind == "one-hot" else drawn / 4 if kind == "level" else drawn if kind == "index" else drawn.double()
    return linked(torch.randn(batch, n, generator=g), kind)


@dataclass(frozen=True)
class Asked:
    """What is asked of leaves of one family.

    Attributes:
        what: `"log"`, `"masked"`, `"mixture"`, `"responsibilities"`, `"product"`, `"renamed"`, `"entropy"`, `"KL"`, `"truncated"`,
            `"inflated"`.
        one: the first leaf.
        other: the second, of the same family.
    """

    what: str
    one: Leaf
    other: Leaf

    def build(self, n: int, w: Copied, name: str) -> Loss:
        x, y = f"x{name}", f"y{name}"
        p = self.one.build(f"p{name}({x})", f"a{name}", n, w)
        q = self.other.build(f"q{name}({x})", f"b{name}", n, w)
        if self.what == "truncated":
            return Truncated(p, lower=-0.5 if self.one.row.values == "real" else 0.25).log_prob()
        if self.what == "inflated":
            return ZeroInflated(p, gate=w(f"gate{name}", n, kind="unit")).log_prob()
        k = f"k{name}"
        mixture = Components([p, q], k) * Categorical(f"w{name}({k})", logits=w(f"w{name}", 2))
        return {
            "log": p.log_prob,
            "masked": lambda: p.log_prob(mask="mask"),
            "mixture": mixture.marginalize_var(k).log_prob,
            "responsibilities": mixture.posterior(k).log_prob,
            "product": (p * q.replace_var(**{x: y})).log_prob,
            "renamed": p.replace_var(**{x: y}).log_prob,
            "entropy": lambda: Entropy(p),
            "KL": lambda: KullbackLeibler(p, q),
        }[self.what]()

    def truth(self, n: int, w: Weights, values: dict[str, Tensor], name: str) -> Tensor:
        row = self.one.row
        p, q = self.one.params(f"a{name}", n, w, values), self.other.params(f"b{name}", n, w, values)
        weights = torch.zeros(2) if self.what in ("truncated", "inflated") else w(f"w{name}", 2).log_softmax(-1)
        if self.what == "entropy":
            return entropy(row, p)
        if self.what == "KL":
            return kl(row, p, q)
        x, y = values[f"x{name}"], values[f"y{name}"]
        if self.what in ("log", "renamed"):
            return log_density(row, p, y if self.what == "renamed" else x)
        if self.what == "masked":
            return torch.where(values["mask"], row.log_density(p, x), 0.0).sum(-1)
        if self.what == "product":
            return log_density(row, p, x) + log_density(row, q, y)
        if self.what == "truncated":
            return log_density(row, p, x) - torch.log(above(row, p, -0.5 if row.values == "real" else 0.25)).expand(x.shape).sum(-1)
        if self.what == "inflated":
            gate = w(f"gate{name}", n, kind="unit")
            return torch.log(gate * (x == 0) + (1 - gate) * torch.exp(row.log_density(p, x))).sum(-1)
        joint = torch.stack([log_density(row, p, x), log_density(row, q, x)], -1) + weights
        return (joint.log_softmax(-1) * values[f"k{name}"]).sum(-1) if self.what == "responsibilities" else joint.logsumexp(-1)


@dataclass(frozen=True)
class Families(Case):
    """An expression of terms about leaves.

    Attributes:
        seed: of all numbers.
        size: the number of features.
        terms: what is asked.
        expression: of the terms.
        batch: the number of data.
    """

    seed: int
    size: int
    terms: tuple[Asked, ...]
    expression: Expression
    batch: int

    def build(self, copies: int = 1) -> Built:
        w = Copied(Weights(self.seed, self.batch))
        loss = self.expression.loss([t.build(self.size, w, str(i)) for i, t in enumerate(self.terms)], extras_of("c", w))
        values = self._values()
        leaves = {**w.found, **{name: t for name, t in values.items() if t.requires_grad}}
        return Built(loss, values, leaves, {"batch_size": self.batch})

    def truth(self) -> Truth:
        w, values = Weights(self.seed, self.batch), self._values()
        terms = [term.truth(self.size, w, values, str(i)).expand(self.batch) for i, term in enumerate(self.terms)]
        sizes: list[float] = []
        value = self.expression.value(terms, true_extras("c", w, values.get("beta")), sizes)
        leaves = {**w.trained, **{name: t for name, t in values.items() if t.requires_grad}}
        return Truth(value.detach(), gradients_of(value, leaves), max(sizes))

    def at(self, seed: int) -> None:
        """No text says of which families a model is, so that two models of one text are no fault of printing."""

    def _values(self) -> dict[str, Tensor]:
        def g(name):
            return generator(self.seed, f"value {name}")

        b, n = self.batch, self.size
        values = {"u": torch.randn(b, 2, generator=g("u")).requires_grad_(), "mask": torch.rand(b, n, generator=g("mask")) > 0.4}
        for i, term in enumerate(self.terms):
            for v in () if term.what in ("entropy", "KL") else (f"x{i}", f"y{i}"):
                kind = term.one.row.values
                x = _values(kind, b, n, g(v))
                if term.what == "truncated":
                    x = x.abs() + 0.25 if kind in ("real", "positive") else x
                values[v] = x if kind in VECTORS or kind in ("count", "coin", "level") else x.requires_grad_()
            values[f"k{i}"] = torch.eye(2)[torch.randint(2, (b,), generator=g(f"k{i}"))]
            for leaf in (term.one, term.other):
                for kind, source in zip(leaf.row.params.values(), leaf.sources):
                    if source == "named":
                        v = f"v_{kind.replace(' ', '_')}"
                        values[v] = linked(torch.randn(b, n, generator=g(v)), kind).requires_grad_()
        if self.expression.beta:
            values["beta"] = torch.rand((), generator=g("beta")).requires_grad_()
        return values


@cache
def _among(*options: Any) -> st.SearchStrategy:
    return st.sampled_from(options)


TRUNCATED = ("Normal", "Laplace", "Cauchy", "Gumbel", "Exponential", "Weibull")
INFLATED = ("Poisson", "Geometric of probs", "Geometric of logits", "NegativeBinomial", "Binomial of logits")


@st.composite
def cases(draw: Any) -> Families:
    many = draw(_among(1, 1, 2))
    terms = tuple([draw(_asked()) for _ in range(many)])
    return Families(draw(st.integers(0, 2**32 - 1)), draw(_among(2, 3)), terms, draw(expressions(many, 3)), draw(_among(2, 1, 3)))


@st.composite
def _asked(draw: Any) -> Asked:
    what = draw(_among("log", "mixture", "responsibilities", "product", "renamed", "masked", "entropy", "KL", "truncated", "inflated"))
    known = {"truncated": TRUNCATED, "inflated": INFLATED}.get(what, tuple(FAMILIES))
    if what in ("entropy", "KL"):
        known = tuple(name for name, row in FAMILIES.items() if what in row.knows)
    if what == "masked":
        known = tuple(name for name, row in FAMILIES.items() if row.values not in VECTORS)
    family = draw(_among(*known))
    return Asked(what, draw(_leaves(family)), draw(_leaves(family)))


@st.composite
def _leaves(draw: Any, family: str) -> Leaf:
    sources = []
    for kind in FAMILIES[family].params.values():
        free = ("constant", "network") if kind in FIXED else ("constant", "trained", "network", "named")
        sources.append(draw(_among(*(free if kind != "one positive" else free[:3]))))
    return Leaf(family, tuple(sources))
