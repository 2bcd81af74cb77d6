"""Divergences and entropies of normal distributions of every kind, products of experts and mixtures; all in closed form.

The truth takes a dense mean and covariance of each side, whatever its family is.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from pixyz.core import Loss
from pixyz.distributions import Categorical, MixtureModel, MixtureOfNormal, Normal, ProductOfNormal
from pixyz.losses import ChiSquared, Entropy, KullbackLeibler, Renyi, SquaredHellinger, Wasserstein

from ..case import Built, Case, Truth, generator, gradients_of
from ..expressions import Expression, expressions, extras_of, true_extras
from ..weights import Copied, Weights
from .gaussian.models import Dense, Leaf, Model, family_of, normal

LARGEST = 50.0
"""Divergences that may be infinite are cut here."""


@dataclass(frozen=True)
class Divergence:
    """A divergence of two normal distributions of one family.

    Attributes:
        kind: `"KL"`, `"Renyi"`, `"Jeffreys"`, `"Hellinger"`, `"chi"`, `"W"`, `"entropy"` of the left side.
        left: the left side.
        right: the right side.
        alpha: the order of a Rényi divergence.
    """

    kind: str
    left: Leaf
    right: Leaf
    alpha: float = 0.5

    def build(self, at: "Place", w: Copied, name: str) -> Loss:
        q, p = (at.leaf(leaf, f"{letter}(z_{name})", f"{letter}{name}", w) for leaf, letter in ((self.left, "q"), (self.right, "p")))
        return {
            "KL": lambda: KullbackLeibler(q, p),
            "Jeffreys": lambda: KullbackLeibler(q, p) + KullbackLeibler(p, q),
            "Renyi": lambda: Renyi(q, p, self.alpha).clamp(max=LARGEST),
            "Hellinger": lambda: SquaredHellinger(q, p),
            "chi": lambda: ChiSquared(q, p).clamp(max=LARGEST),
            "W": lambda: Wasserstein(q, p, conditional=bool(q.cond_var or p.cond_var)),
            "entropy": lambda: Entropy(q),
        }[self.kind]()

    def truth(self, at: "Place", w: Weights, values: dict[str, Tensor], name: str) -> Tensor:
        q, p = (at.moments(leaf, f"{letter}{name}", w, values) for leaf, letter in ((self.left, "q"), (self.right, "p")))
        return {
            "KL": lambda: kl(q, p),
            "Jeffreys": lambda: kl(q, p) + kl(p, q),
            "Renyi": lambda: renyi(q, p, self.alpha).clamp(max=LARGEST),
            "Hellinger": lambda: 1 - torch.exp(-renyi(q, p, 0.5) / 2),
            "chi": lambda: (torch.exp(renyi(q, p, 2.0).clamp(max=LARGEST)) - 1).clamp(max=LARGEST),  # so that the exponential is finite
            "W": lambda: wasserstein(q, p),
            "entropy": lambda: 0.5 * log_det(2 * math.pi * math.e * q[1]),
        }[self.kind]()


@dataclass(frozen=True)
class Chain:
    """KL[q(z|k)q(k|u) || p(z|k)p(k)], by the chain rule: of the finite variable exactly, given each of its values in closed form.

    Attributes:
        size: the number of values of k.
        left: z given k, on the left, whose mean is linear in k.
        right: z on the right; given k as well, if `depends`.
        depends: whether p(z|k) depends on k.
    """

    size: int
    left: Leaf
    right: Leaf
    depends: bool

    def build(self, at: "Place", w: Copied, name: str) -> Loss:
        k, z = f"k_{name}", f"z_{name}"
        q = Normal(f"q({z}|{k})", loc=w.linear(f"q{name}", self.size, at.size), scale=w(f"q{name}.scale", at.size, kind="positive"))
        if self.depends:
            p = Normal(f"p({z}|{k})", loc=w.linear(f"p{name}", self.size, at.size), scale=w(f"p{name}.scale", at.size, kind="positive"))
        else:
            p = at.leaf(self.right, f"p({z})", f"p{name}", w)
        q = q * Categorical(f"q({k}|u)", logits=w.linear(f"qk{name}", at.model.inputs, self.size))
        return KullbackLeibler(q, p * Categorical(f"p({k})", logits=w(f"pk{name}", self.size)))

    def truth(self, at: "Place", w: Weights, values: dict[str, Tensor], name: str) -> Tensor:
        log_q = (values["u"] @ w(f"qk{name}.weight", self.size, at.model.inputs).T + w(f"qk{name}.bias", self.size)).log_softmax(-1)
        log_p = w(f"pk{name}", self.size).log_softmax(-1)
        total = 0.0
        for k in range(self.size):
            q = self._given(at, w, f"q{name}", k)
            p = self._given(at, w, f"p{name}", k) if self.depends else at.moments(self.right, f"p{name}", w, values)
            total = total + log_q[:, k].exp() * (log_q[:, k] - log_p[k] + kl(q, p))
        return total

    def _given(self, at, w, name, k):
        mean = w(f"{name}.weight", at.size, self.size)[:, k] + w(f"{name}.bias", at.size)
        return mean.unsqueeze(0), w(f"{name}.scale", at.size, kind="positive").square().diag().unsqueeze(0)


@dataclass(frozen=True)
class Product:
    """A product of normal experts: its log-density, entropy, or divergence from a normal distribution.

    Attributes:
        experts: what is multiplied.
        prior: `"standard"`, `"none"` or `"normal"`.
        asked: `"log"`, `"entropy"`, `"KL"`, or `"reversed"` for the KL of the other side from it.
        other: the other side.
        only: whether the experts that depend on nothing but u are asked for alone.
    """

    experts: tuple[Leaf, ...]
    prior: str
    asked: str
    other: Leaf
    only: bool = False

    def build(self, at: "Place", w: Copied, name: str) -> Loss:
        z = f"z_{name}" if self.asked != "log" else "z"
        experts = [at.leaf(leaf, f"q{name}{i}({z})", f"q{name}.{i}", w) for i, leaf in enumerate(self.experts)]
        prior = {"standard": "standard", "none": None}.get(self.prior)
        if self.prior == "normal":
            prior = Normal(f"r{name}({z})", loc=w(f"r{name}.loc", at.size), scale=w(f"r{name}.scale", at.size, kind="positive"))
        q = ProductOfNormal(experts, prior=prior, name=f"s{name}")
        if self.only:
            q = q.given_only("u", name=f"s{name}u")
        p = at.leaf(self.other, f"p{name}({z})", f"p{name}", w)
        return {
            "log": q.log_prob,
            "entropy": lambda: Entropy(q),
            "KL": lambda: KullbackLeibler(q, p),
            "reversed": lambda: KullbackLeibler(p, q),
        }[self.asked]()

    def truth(self, at: "Place", w: Weights, values: dict[str, Tensor], name: str) -> Tensor:
        parts = [at.moments(leaf, f"q{name}.{i}", w, values) for i, leaf in enumerate(self.experts)]
        if self.only:
            parts = [part for part, leaf in zip(parts, self.experts) if leaf.mean != "named"]
        eye = torch.eye(at.size).unsqueeze(0)
        if self.prior == "standard":
            parts.append((torch.zeros(1, at.size), eye))
        if self.prior == "normal":
            parts.append(
                (w(f"r{name}.loc", at.size).unsqueeze(0), w(f"r{name}.scale", at.size, kind="positive").square().diag().unsqueeze(0))
            )
        precision = sum(torch.linalg.inv(cov) for _, cov in parts)
        cov = torch.linalg.inv(precision)
        weighted = sum((torch.linalg.inv(c) @ m.unsqueeze(-1)) for m, c in parts)
        q = (cov @ weighted).squeeze(-1), cov
        p = at.moments(self.other, f"p{name}", w, values)
        return {
            "log": lambda: normal(values["z"], *q),
            "entropy": lambda: 0.5 * log_det(2 * math.pi * math.e * q[1]),
            "KL": lambda: kl(q, p),
            "reversed": lambda: kl(p, q),
        }[self.asked]()


@dataclass(frozen=True)
class Mixture:
    """A mixture's log-density, or that of its responsibilities.

    Attributes:
        parts: the components.
        how: `"learned"`, weights that are trained; `"given"`, that depend on u; `"constant"`, a `MixtureOfNormal`.
        responsibilities: whether log p(k|z) is asked for.
    """

    parts: tuple[Leaf, ...]
    how: str
    responsibilities: bool

    def build(self, at: "Place", w: Copied, name: str) -> Loss:
        n = len(self.parts)
        parts = [at.leaf(leaf, f"p{name}{i}(z)", f"p{name}.{i}", w) for i, leaf in enumerate(self.parts)]
        k = f"k{n}"
        if self.how == "constant":
            p = MixtureOfNormal(parts, weights=w.constant(f"weights{name}", n).softmax(0), index=k, name=f"p{name}")
        else:
            logits = w(f"logits{name}", n) if self.how == "learned" else w.linear(f"logits{name}", at.model.inputs, n)
            p = MixtureModel(
                parts, Categorical(f"w{name}({k}|u)" if self.how == "given" else f"w{name}({k})", logits=logits), name=f"p{name}"
            )
        return p.posterior(k).log_prob() if self.responsibilities else p.log_prob()

    def truth(self, at: "Place", w: Weights, values: dict[str, Tensor], name: str) -> Tensor:
        n = len(self.parts)
        if self.how == "given":
            logits = values["u"] @ w(f"logits{name}.weight", n, at.model.inputs).T + w(f"logits{name}.bias", n)
        else:
            logits = w(f"weights{name}" if self.how == "constant" else f"logits{name}", n, trained=self.how == "learned")
        logs = [normal(values["z"], *at.moments(leaf, f"p{name}.{i}", w, values)) for i, leaf in enumerate(self.parts)]
        joint = torch.stack(torch.broadcast_tensors(*logs), -1) + logits.log_softmax(-1)
        return (joint.log_softmax(-1) * values[f"k{n}"]).sum(-1) if self.responsibilities else joint.logsumexp(-1)


class Place:
    """What the terms of a formula have in common: the number of features, and the input."""

    def __init__(self, size: int, inputs: int) -> None:
        self.size, self.model = size, Model((), (), (), inputs)

    def leaf(self, leaf: Leaf, text: str, name: str, w: Copied):
        """A leaf in the library."""
        given = ",".join([*(["u"] if leaf.given else []), *(["m"] if leaf.mean == "named" else [])])
        return family_of(leaf, name, text.replace(")", f"|{given})") if given else text, (), self.model, w)

    def moments(self, leaf: Leaf, name: str, w: Weights, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Its mean `(B or 1, n)` and its covariance."""
        offset, _, noise = Dense(self.model, w, values["u"]).parts(leaf, name)
        return values["m"] if leaf.mean == "named" else offset, noise


def log_det(cov: Tensor) -> Tensor:
    return torch.linalg.slogdet(cov).logabsdet


def _quadratic(matrix: Tensor, gap: Tensor) -> Tensor:
    return (gap.unsqueeze(-2) @ torch.linalg.solve(matrix, gap.unsqueeze(-1)))[..., 0, 0]


def kl(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    """KL[p || q] from means and covariances."""
    (m, s), (n, t) = p, q
    trace = torch.linalg.solve(t, s).diagonal(dim1=-2, dim2=-1).sum(-1)
    return 0.5 * (trace + _quadratic(t, m - n) - m.shape[-1] + log_det(t) - log_det(s))


def renyi(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor], alpha: float) -> Tensor:
    """The Rényi divergence, `LARGEST` + 1 where it is infinite."""
    (m, s), (n, t) = p, q
    mixed = alpha * t + (1 - alpha) * s
    finite = torch.linalg.eigvalsh(mixed.detach())[..., :1] > 0
    mixed = torch.where(finite.unsqueeze(-1), mixed, torch.eye(m.shape[-1]))
    logs = log_det(mixed) - (1 - alpha) * log_det(s) - alpha * log_det(t)
    return torch.where(finite.squeeze(-1), 0.5 * alpha * _quadratic(mixed, m - n) - logs / (2 * (alpha - 1)), LARGEST + 1)


def wasserstein(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    """The 2-Wasserstein distance; the trace of a root by the eigenvalues of S_p S_q."""
    (m, s), (n, t) = p, q
    root = torch.linalg.cholesky(t)
    eigenvalues = torch.linalg.eigvalsh(root.mT @ s @ root)
    trace = (s + t).diagonal(dim1=-2, dim2=-1).sum(-1) - 2 * eigenvalues.sqrt().sum(-1)
    return ((m - n).square().sum(-1) + trace).sqrt()


@dataclass(frozen=True)
class Normals(Case):
    """An expression of terms about normal distributions.

    Attributes:
        seed: of all numbers.
        size: the number of features of all variables.
        terms: what is asked.
        expression: of the terms.
        batch: the number of data.
        inputs: the number of features of u.
    """

    seed: int
    size: int
    terms: tuple[Any, ...]
    expression: Expression
    batch: int
    inputs: int = 2

    def build(self, copies: int = 1) -> Built:
        w = Copied(Weights(self.seed, self.batch))
        at = Place(self.size, self.inputs)
        loss = self.expression.loss([t.build(at, w, str(i)) for i, t in enumerate(self.terms)], extras_of("c", w))
        values = self._values()
        leaves = {**w.found, **{name: t for name, t in values.items() if t.requires_grad}}
        return Built(loss, values, leaves, {"batch_size": self.batch})

    def truth(self) -> Truth:
        w = Weights(self.seed, self.batch)
        values, at = self._values(), Place(self.size, self.inputs)
        terms = []
        for i, term in enumerate(self.terms):
            found = term.truth(at, w, values, str(i))
            alone = (
                isinstance(term, Divergence) and term.kind == "W" and not any(x.given or x.mean == "named" for x in (term.left, term.right))
            )
            terms.append(found.sum() if alone else found.expand(self.batch))
        sizes: list[float] = []
        value = self.expression.value(terms, true_extras("c", w, values.get("beta")), sizes)
        leaves = {**w.trained, **{name: t for name, t in values.items() if t.requires_grad}}
        return Truth(value.detach(), gradients_of(value, leaves), max(sizes))

    def at(self, seed: int) -> None:
        """No text says of which families a model is, so that two models of one text are no fault of printing."""

    def _values(self) -> dict[str, Tensor]:
        def drawn(name, *shape):
            return torch.randn(shape, generator=generator(self.seed, f"value {name}")).requires_grad_()

        values = {v: drawn(v, self.batch, n) for v, n in (("u", self.inputs), ("m", self.size), ("z", self.size))}
        for n in (2, 3):
            index = torch.randint(n, (self.batch,), generator=generator(self.seed, f"value k{n}"))
            values[f"k{n}"] = torch.eye(n)[index]
        if self.expression.beta:
            values["beta"] = drawn("beta")
        return values


@cache
def _among(*options: Any) -> st.SearchStrategy:
    return st.sampled_from(options)


@st.composite
def cases(draw: Any) -> Normals:
    size, many = draw(_among(2, 1, 3)), draw(_among(1, 1, 2))
    terms = tuple([draw(_terms(size)) for _ in range(many)])
    expression = draw(expressions(many, 3))
    return Normals(draw(st.integers(0, 2**32 - 1)), size, terms, expression, draw(_among(2, 1, 3)), draw(_among(1, 2)))


@st.composite
def _terms(draw: Any, size: int) -> Any:
    kind = draw(_among("divergence", "divergence", "chain", "product", "mixture"))
    if kind == "divergence":
        family = draw(_among("normal", "multivariate", "low rank"))
        sides = draw(_leaves(size, family)), draw(_leaves(size, family))
        which = draw(_among("KL", "Renyi", "Jeffreys", "Hellinger", "chi", "W", "entropy"))
        return Divergence(which, *sides, draw(_among(0.5, 0.3, 0.9, 1.5, 2.0)))
    if kind == "chain":
        left, right = draw(_leaves(size, "normal")), draw(_leaves(size, "normal"))
        return Chain(draw(_among(2, 3)), left, right, draw(_among(True, False)))
    if kind == "product":
        experts = [draw(_leaves(size, "normal", simple=False)) for _ in range(draw(_among(2, 1, 3)))]
        only = any(x.mean == "named" for x in experts) and any(x.given and x.mean != "named" for x in experts) and draw(_among(True, False))
        if only:
            experts = [x for x in experts if not (x.given and x.mean == "named")]
        asked = draw(_among("log", "entropy", "KL", "reversed"))
        return Product(tuple(experts), draw(_among("standard", "none", "normal")), asked, draw(_leaves(size, "normal")), only)
    how = draw(_among("learned", "given", "constant"))
    family = "normal" if how == "constant" else draw(_among("normal", "multivariate", "low rank", "any"))
    each = [
        draw(_leaves(size, draw(_among("normal", "multivariate", "low rank")) if family == "any" else family))
        for _ in range(draw(_among(2, 3)))
    ]
    return Mixture(tuple(each), how, draw(_among(False, True)))


@st.composite
def _leaves(draw: Any, size: int, family: str, simple: bool = True) -> Leaf:
    mean = draw(_among("constant", "trained", "affine", "bent", "named"))
    spreads = {"normal": ("vector", "trained", "network", "number"), "multivariate": ("covariance", "precision", "tril")}
    spread = draw(_among(*spreads.get(family, (family,))))
    if mean == "affine" and spread == "number":
        mean = "bent"
    return Leaf(size, (), mean, spread, 0, mean in ("affine", "bent") or spread == "network")
