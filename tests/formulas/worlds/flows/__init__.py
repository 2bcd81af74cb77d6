"""Flows of random layers with a known density: of data, in a mixture over a finite context, and as what a bound draws.

The log-determinant of the truth is that of the Jacobian of the whole map, by automatic differentiation.
"""

import math
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from pixyz.core import Loss
from pixyz.distributions import Categorical, Normal
from pixyz.losses import ELBO

from ...case import Built, Case, Truth, generator, gradients_of
from ...expressions import Expression, expressions, extras_of, true_extras
from ...weights import Copied, Weights
from .maps import ENDS, Flow, Layer, with_jacobian


@dataclass(frozen=True)
class Scored:
    """A flow that scores data.

    Attributes:
        flow: the flow.
        how: `"log"`, log p(x|u); `"mixture"`, log of the sum of p(k) p(x|k); `"bound"`, the evidence lower bound over k, summed exactly.
    """

    flow: Flow
    how: str = "log"

    def build(self, w: Copied, name: str) -> Loss:
        x, k = f"x{name}", f"k{name}"
        p = self.flow.build(x, "u" if self.how == "log" else k, w, name)
        if self.how == "log":
            return p.log_prob()
        p = p * Categorical(f"w{name}({k})", logits=w(f"{name}.w", 2))
        if self.how == "mixture":
            return p.marginalize_var(k).log_prob()
        return ELBO(p, Categorical(f"q{name}({k}|u)", logits=w.linear(f"{name}.q", 2, 2)))

    def truth(self, w: Weights, values: dict[str, Tensor], name: str) -> Tensor:
        x, u = values[f"x{name}"], values["u"]
        if self.how == "log":
            return self.flow.log_density(x, w, u, name)
        given = [self.flow.log_density(x, w, k.expand(len(x), 2), name) for k in torch.eye(2)]
        joint = torch.stack(given, -1) + w(f"{name}.w", 2).log_softmax(-1)
        if self.how == "mixture":
            return joint.logsumexp(-1)
        log_q = (u @ w(f"{name}.q.weight", 2, 2).T + w(f"{name}.q.bias", 2)).log_softmax(-1)
        return (log_q.exp() * (joint - log_q)).sum(-1)


@dataclass(frozen=True)
class Flows(Case):
    """An expression of flows that score data.

    Attributes:
        seed: of all numbers.
        terms: the flows.
        expression: of them.
        batch: the number of data.
    """

    seed: int
    terms: tuple[Scored, ...]
    expression: Expression
    batch: int

    def build(self, copies: int = 1) -> Built:
        w = Copied(Weights(self.seed, self.batch))
        loss = self.expression.loss([term.build(w, str(i)) for i, term in enumerate(self.terms)], extras_of("c", w))
        values = self._values()
        return Built(loss, values, {**w.found, **values})

    def truth(self) -> Truth:
        w, values = Weights(self.seed, self.batch), self._values()
        terms = [term.truth(w, values, str(i)) for i, term in enumerate(self.terms)]
        sizes: list[float] = []
        value = self.expression.value(terms, true_extras("c", w, values.get("beta")), sizes)
        return Truth(value.detach(), gradients_of(value, {**w.trained, **values}), max(sizes))

    def _values(self) -> dict[str, Tensor]:
        drawn = {"u": torch.randn(self.batch, 2, generator=generator(self.seed, "value u"))}
        for i, term in enumerate(self.terms):
            drawn[f"x{i}"] = _data(term.flow.end, self.batch, term.flow.size, generator(self.seed, f"value x{i}"))
        if self.expression.beta:
            drawn["beta"] = torch.rand((), generator=generator(self.seed, "value beta"))
        return {name: t.requires_grad_() for name, t in drawn.items()}

    def at(self, seed: int) -> None:
        """No text says of which layers a flow is made, so that two flows of one text are no fault of printing."""


def _data(end: str, batch: int, size: int, g: torch.Generator) -> Tensor:
    t = torch.randn(batch, size, generator=g)
    return t.sigmoid() if end in ("logit", "margin") else t.exp() if end == "exp" else t


@dataclass(frozen=True)
class Drawn(Case):
    """The evidence lower bound of a linear decoder, where the flow is the posterior that is drawn from, and the gradients of its draws.

    Attributes:
        seed: of all numbers.
        flow: of two features.
        batch: the number of data.
        bound: whether it is the bound, or the entropy of the flow alone.
    """

    seed: int
    flow: Flow
    batch: int
    bound: bool = True

    exact = False

    def build(self, copies: int = 1) -> Built:
        w = Copied(Weights(self.seed, self.batch))
        q = self.flow.build("z", "u", w, "0")
        values = self._values()
        repeated = {name: t.repeat(copies, 1) for name, t in values.items()}
        if self.bound:
            p = Normal("p(x|z)", loc=w.linear("decoder", 2, 2), scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
            loss = ELBO(p, q)
        else:
            loss = -q.log_prob().expectation(q)
        return Built(loss, repeated, {**w.found, **values}, {"batch_size": copies * self.batch})

    def truth(self) -> Truth:
        w, values = Weights(self.seed, self.batch), self._values()
        points, weights = _grid()
        count = len(points)
        u = values["u"].repeat_interleave(count, 0)
        loc, scale = self.flow.noise(w, values["u"], "0")
        e = (loc.expand(self.batch, 2).unsqueeze(1) + scale * points).flatten(0, 1)
        z, log_det = with_jacobian(partial(self.flow.to_data, w=w, u=u, name="0"), e)
        each = log_det + (0.5 * points.square().sum(-1) + math.log(2 * math.pi)).repeat(self.batch) + scale.log().sum()
        if self.bound:
            gap = values["x"].repeat_interleave(count, 0) - z @ w("decoder.weight", 2, 2).T - w("decoder.bias", 2)
            each = each - 0.5 * (gap.square() + z.square()).sum(-1) - 2 * math.log(2 * math.pi)
        value = (each.reshape(self.batch, count) * weights).sum(-1)
        return Truth(value.detach(), gradients_of(value, {**w.trained, **values}), each.detach().abs().max().item())

    def _values(self) -> dict[str, Tensor]:
        names = ("u", "x") if self.bound else ("u",)
        return {v: torch.randn(self.batch, 2, generator=generator(self.seed, f"value {v}")).requires_grad_() for v in names}

    def at(self, seed: int) -> None:
        """As of `Flows`."""


@cache
def _grid() -> tuple[Tensor, Tensor]:
    """The points and weights of a Gauss–Hermite rule of the plane."""
    x, w = (torch.from_numpy(t) for t in np.polynomial.hermite_e.hermegauss(18))
    w = w / w.sum()
    return torch.cartesian_prod(x, x), torch.cartesian_prod(w, w).prod(-1)


@cache
def _among(*options: Any) -> st.SearchStrategy:
    return st.sampled_from(options)


@st.composite
def cases(draw: Any) -> Case:
    seed = draw(st.integers(0, 2**32 - 1))
    if draw(_among(*[False] * 7, True)):
        return Drawn(seed, draw(flows("drawn", 2)), draw(_among(1, 2)), draw(_among(True, False)))
    many = draw(_among(1, 1, 1, 2))
    terms = []
    for _ in range(many):
        flow = draw(flows("scored", draw(_among(2, 3))))
        terms.append(Scored(flow, draw(_among("log", "mixture", "bound")) if flow.given else "log"))
    return Flows(seed, tuple(terms), draw(expressions(many, 3)), draw(_among(2, 1, 3)))


@st.composite
def flows(draw: Any, use: str, size: int) -> Flow:
    """A flow for its use; planar steps only where their one direction is the one that is asked for."""
    generates = draw(_among(True, False))
    planar = generates == (use == "drawn")
    layers = tuple([draw(layers_of(planar, smooth=use == "drawn")) for _ in range(draw(_among(2, 1, 3, 4)))])
    end = draw(_among("", "", *ENDS)) if use == "scored" else ""
    return Flow(size, layers, generates, end, draw(_among(False, True)))


@st.composite
def layers_of(draw: Any, planar: bool, smooth: bool) -> Layer:
    """A layer; smooth ones only where a quadrature has to be exact and draws must have no heavy tails."""
    kinds = ("coupling", "autoregressive", "coupling", "autoregressive", "actnorm", "lu", "permutation", "reverse", "scale")
    kind = draw(_among(*kinds, *(["planar"] if planar else []), *([] if smooth else ["radial"])))
    inverted = kind != "planar" and draw(_among(False, True))
    if kind not in ("coupling", "autoregressive"):
        return Layer(kind, inverted=inverted)
    mask = draw(_among("halves", "checkerboard")) if kind == "coupling" else "halves"
    maps = ("shift",) if smooth else ("affine", "shift", "spline")
    return Layer(kind, draw(_among(*maps)), draw(_among(False, True)), draw(_among(False, True)), inverted, mask)
