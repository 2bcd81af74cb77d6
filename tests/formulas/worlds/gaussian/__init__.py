"""Linear-Gaussian models: chains, trees and diamonds, mixtures of them, hidden variables, posteriors and bounds; all exact.

The truth stacks mean and covariance of all variables, for each choice of the finite ones.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from hypothesis import strategies as st

from ...case import Built, Case, Truth, generator, gradients_of
from ...expressions import Expression, expressions, extras_of, true_extras
from ...weights import Copied, Weights
from .models import Dense, Finite, Leaf, Model, Node, build
from .terms import Bound, Density, FiniteBound, Moment

GAUSSIANS = "abcd"


@dataclass(frozen=True)
class Gaussian(Case):
    """An expression of terms about one model.

    Attributes:
        seed: of all numbers.
        model: the model.
        terms: what is asked of it.
        expression: of the terms.
        batch: the number of data.
    """

    seed: int
    model: Model
    terms: tuple[Any, ...]
    expression: Expression
    batch: int

    def build(self, copies: int = 1) -> Built:
        w = Copied(Weights(self.seed, self.batch))
        p = build(self.model, w)
        losses = [term.build(self.model, p, w, str(i)) for i, term in enumerate(self.terms)]
        loss = self.expression.loss(losses, extras_of("c", w))
        values = self._values()
        leaves = {**w.found, **{name: t for name, t in values.items() if t.requires_grad}}
        options = {} if any(term.names(self.model) for term in self.terms) else {"batch_size": self.batch}
        return Built(loss, values, leaves, options)

    def truth(self) -> Truth:
        w = Weights(self.seed, self.batch)
        values = self._values()
        dense = Dense(self.model, w, values["u"])
        for choice in dense.choices:
            dense.stacked(choice)  # so that every parameter has a gradient, be it 0
        terms = [term.truth(dense, w, values, str(i)).expand(self.batch) for i, term in enumerate(self.terms)]
        sizes = [dense.size]
        value = self.expression.value(terms, true_extras("c", w, values.get("beta")), sizes)
        leaves = {**w.trained, **{name: t for name, t in values.items() if t.requires_grad}}
        return Truth(value.detach(), _rounded(gradients_of(value, leaves), max(sizes)), max(sizes))

    def at(self, seed: int) -> None:
        """No text says of which families a model is, so that two models of one text are no fault of printing."""

    def _values(self) -> dict[str, torch.Tensor]:
        kinds = {"u": ("real", self.model.inputs)}
        for term in self.terms:
            kinds.update(term.names(self.model))
        values = {}
        for name, (kind, size) in kinds.items():
            g = generator(self.seed, f"value {name}")
            if kind == "finite":
                values[name] = torch.eye(size)[torch.randint(size, (self.batch,), generator=g)]
            else:
                values[name] = torch.randn(self.batch, size, generator=g).requires_grad_()
        if self.expression.beta:
            values["beta"] = torch.rand((), generator=generator(self.seed, "value beta")).requires_grad_()
        return values


def _rounded(gradients: dict[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """The gradients with 0 for what is rounding: a posterior is a difference, of which much cancels."""
    return {name: torch.where(g.abs() > 1e-9 * scale, g, 0.0) for name, g in gradients.items()}


# Strategies


@cache
def _among(*options: Any) -> st.SearchStrategy:
    return st.sampled_from(options)


@st.composite
def cases(draw: Any) -> Gaussian:
    model = draw(models())
    many = draw(_among(1, 1, 1, 2))
    terms = tuple([draw(terms_of(model)) for _ in range(many)])
    return Gaussian(
        seed=draw(st.integers(0, 2**32 - 1)),
        model=model,
        terms=terms,
        expression=draw(expressions(many, 3)),
        batch=draw(_among(2, 1, 3)),
    )


@st.composite
def models(draw: Any) -> Model:
    """A tree with a finite variable or two, or a chain of copies."""
    inputs = draw(_among(1, 2))
    leaves, nodes = draw(_chains()) if draw(_among(False, False, True)) else draw(_graphs())
    finite: list[Finite] = []
    for i in range(draw(_among(0, 0, 1, 1, 2))):
        at = draw(_among(*range(len(leaves))))
        if leaves[at].choices or leaves[at].mean == "same":
            continue
        size = draw(_among(2, 3)) if i == 0 else 2
        finite.append(Finite("kl"[i], size, draw(_among("logits", "probs", "network"))))
        old = leaves[at]
        leaves[at] = Leaf(old.size, old.parents, old.mean, old.spread, size, old.given)
        nodes = [Node(n.name, n.leaf, n.parents, "kl"[i]) if n.leaf == at else n for n in nodes]
    computed, backwards = draw(_among("", "", "linear", "bent")), draw(_among(True, False))
    return Model(tuple(leaves), tuple(nodes), tuple(finite), inputs, computed, backwards)


@st.composite
def _graphs(draw: Any):
    leaves: list[Leaf] = []
    nodes = []
    for i in range(draw(_among(2, 1, 3, 4))):
        many = min(i, draw(_among(1, 0, 1, 2)))
        parents = sorted({draw(_among(*range(i))) for _ in range(many)})
        leaves.append(draw(_leaves(tuple(leaves[j].size for j in parents))))
        nodes.append(Node(GAUSSIANS[i], i, tuple(GAUSSIANS[j] for j in parents)))
    return leaves, nodes


@st.composite
def _chains(draw: Any):
    """z_0, z_1, ... with one transition, and x_0, x_1, ... with one emission; some are missing."""
    size = draw(_among(1, 2))
    leaves = [draw(_leaves((), size)), draw(_leaves((size,), size)), draw(_leaves((size,)))]
    nodes = []
    for t in range(draw(_among(2, 2, 3, 4))):
        nodes.append(Node(f"z_{t}", min(t, 1), (f"z_{t - 1}",) if t else ()))
        if draw(_among(True, True, True, False)):
            nodes.append(Node(f"x_{t}", 2, (f"z_{t}",)))
    return leaves, nodes


@st.composite
def _leaves(draw: Any, parents: tuple[int, ...], size: int = 0) -> Leaf:
    size = size or draw(_among(2, 1, 3))
    given = draw(_among(False, False, True))
    if not parents:
        mean = draw(_among("number", "constant", "trained", *(["bent"] if given else [])))
    elif len(parents) == 1 and not given:
        mean = draw(_among("linear", "flat", "affine", *(["same"] if parents[0] in (1, size) else [])))
    else:
        mean = "affine"
    if mean == "same" and parents[0] != size:
        spread = draw(_among("vector", "trained"))
    elif mean == "number":
        spread = draw(_among("number", "vector", "trained", *(["network"] if given else [])))
    else:
        scales = ("number", "vector", "trained", "vector", "trained", *(["network"] * 2 if given else []))
        spread = draw(_among(*scales, "covariance", "precision", "tril", "low rank"))
    return Leaf(size, parents, mean, spread, 0, given and (mean in ("bent", "affine") or spread == "network"))


@st.composite
def terms_of(draw: Any, model: Model) -> Any:
    """A term of a model: which variables are shown, given and hidden, and how."""
    every = draw(st.permutations([*model.sizes, *[f.name for f in model.finite]]))
    free = [v for v in every if v not in model.fixed]
    kind = draw(_among("marginal", "posterior", "ratio", "condition", "bound", "finite bound", "moment"))
    inferred = free[: draw(st.integers(1, len(free)))] if free else []
    given = [v for v in every if v not in inferred]
    given = given[: draw(st.integers(1, len(given)))] if given else []
    given += [v for v in model.fixed if v not in given]
    real = [v for v in given if model.kind(v)[0] == "real"]
    if not given or not inferred or kind == "marginal":
        shown = tuple(dict.fromkeys((*inferred, *model.fixed)))
        return Density(shown, renamed=draw(_renamings(model, shown)), shows_computed=draw(st.booleans()))
    if kind == "condition" and len(real) == len(given):
        return Density(tuple(inferred), tuple(given), kind)
    if kind == "bound":
        few = [1, 2] if not model.finite else [2, 3]
        return Bound(tuple(inferred), tuple(given), draw(_among("ELBO", "IWAE", "Renyi")), draw(_among(*few)), draw(st.booleans()))
    finite = [v for v in inferred if model.kind(v)[0] == "finite"]
    if kind == "finite bound" and finite:
        return FiniteBound(finite[0], tuple(given), draw(_among("logits", "probs", "network")))
    asked = [v for v in inferred if model.kind(v)[0] == "real"]
    if kind == "moment" and asked:
        return Moment(asked[0], tuple(given), draw(_among("mean", "variance")))
    return Density(tuple(inferred), tuple(given), "ratio" if kind == "ratio" else "posterior")


@st.composite
def _renamings(draw: Any, model: Model, shown: tuple[str, ...]):
    if draw(_among(False, False, True)) and len(shown) > 1 and model.kind(shown[0]) == model.kind(shown[1]):
        return ((shown[0], shown[1]), (shown[1], shown[0]))
    return ((shown[0], f"{shown[0]}_r"),) if draw(_among(False, False, True)) else ()
