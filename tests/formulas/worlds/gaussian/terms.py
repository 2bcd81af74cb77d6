"""Log-densities, bounds and moments of a linear-Gaussian model, as the library derives them, and the truth of each."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixyz.core import Loss
from pixyz.losses import ELBO, IWAE, RenyiBound

from ...weights import Copied, Weights
from .models import Dense, Finite, Model, finite

Kinds = dict[str, tuple[str, int]]
"""The values that a term asks for, by name: "real" or "finite", and the number of features."""


@dataclass(frozen=True)
class Density:
    """log p of some variables given others; those that are not named are marginalised out.

    Attributes:
        shown: the variables.
        given: those behind the bar.
        how: `"posterior"`, `"ratio"`, a joint divided by a marginal, or `"condition"`, at constants; nothing for a marginal.
        renamed: the variables that get another name, as a swap or alone.
        shows_computed: whether what is computed on the way is a variable too.
    """

    shown: tuple[str, ...]
    given: tuple[str, ...] = ()
    how: str = ""
    renamed: tuple[tuple[str, str], ...] = ()
    shows_computed: bool = False

    def build(self, model: Model, p, w: Copied, name: str) -> Loss:
        p = _only(p, model, (*self.shown, *self.given), shows_computed=self.shows_computed)
        if self.how == "posterior":
            p = p.posterior(list(self.shown))
        elif self.how == "ratio":
            p = p / p.marginalize_var(list(self.shown))
        elif self.how == "condition":
            p = p.condition(**{v: w.constant(f"{name} at {v}", model.sizes[v]) for v in self.given})
        if self.renamed:
            p = p.replace_var(**dict(self.renamed))
        return p.log_prob()

    def names(self, model: Model) -> Kinds:
        new = dict(self.renamed)
        asked = self.shown if self.how == "condition" else (*self.shown, *self.given)
        return {new.get(v, v): model.kind(v) for v in asked}

    def truth(self, dense: Dense, w: Weights, values: dict[str, Tensor], name: str) -> Tensor:
        new = dict(self.renamed)
        asked = {v: values[new.get(v, v)] for v in self.shown}
        if self.how == "condition":
            asked.update({v: w(f"{name} at {v}", dense.model.sizes[v], trained=False).expand(w.batch, -1) for v in self.given})
        else:
            asked.update({v: values[new.get(v, v)] for v in self.given})
        top = dense.log_density(asked)
        return top - dense.log_density({v: asked[v] for v in self.given}) if self.given else top


@dataclass(frozen=True)
class Bound:
    """A bound at the exact posterior, which is log p whatever is drawn; so is its gradient.

    Attributes:
        drawn: what is drawn from the posterior.
        given: what is given.
        kind: `"ELBO"`, `"IWAE"` or `"Renyi"`.
        draws: K.
        split: whether the posterior is written as that of the first given the others, times that of the others.
    """

    drawn: tuple[str, ...]
    given: tuple[str, ...]
    kind: str = "ELBO"
    draws: int = 2
    split: bool = False

    def build(self, model: Model, p, w: Copied, name: str) -> Loss:
        new = {v: f"{v}_{name}" for v in self.drawn}
        p = _only(p, model, (*self.drawn, *self.given)).replace_var(**new)
        first, *others = new.values()
        if self.split and others:
            q = p.posterior(first) * p.marginalize_var(first).posterior(others)
        else:
            q = p.posterior(list(new.values()))
        if self.kind == "ELBO":
            return ELBO(p, q, num_samples=self.draws)
        return IWAE(p, q, num_samples=self.draws) if self.kind == "IWAE" else RenyiBound(p, q, 0.5, num_samples=self.draws)

    def names(self, model: Model) -> Kinds:
        return {v: model.kind(v) for v in self.given}

    def truth(self, dense: Dense, w: Weights, values: dict[str, Tensor], name: str) -> Tensor:
        return dense.log_density({v: values[v] for v in self.given})


@dataclass(frozen=True)
class FiniteBound:
    """The evidence lower bound over a finite variable, which is summed out exactly.

    Attributes:
        variable: the finite variable.
        given: what is given.
        how: of q, as of `Finite`.
    """

    variable: str
    given: tuple[str, ...]
    how: str = "logits"

    def build(self, model: Model, p, w: Copied, name: str) -> Loss:
        p = _only(p, model, (self.variable, *self.given)).replace_var(**{self.variable: f"{self.variable}_{name}"})
        # A constant q would be drawn, for nothing in it is trained.
        return ELBO(p, finite(self._q(model, name), "q", model, w), estimator="enumerate")

    def names(self, model: Model) -> Kinds:
        return {v: model.kind(v) for v in self.given}

    def truth(self, dense: Dense, w: Weights, values: dict[str, Tensor], name: str) -> Tensor:
        q = self._q(dense.model, name)
        log_q = dense.log_prior(q, "q")
        given = {v: values[v] for v in self.given}
        every = torch.eye(q.size, dtype=torch.float64)
        log_p = torch.stack([dense.log_density({**given, self.variable: k.expand(w.batch, -1)}) for k in every], -1)
        return (log_q.exp() * (log_p - log_q)).sum(-1)

    def _q(self, model: Model, name: str) -> Finite:
        return Finite(f"{self.variable}_{name}", model.kind(self.variable)[1], self.how)


@dataclass(frozen=True)
class Moment:
    """The sum over the features of E or Var of a Gaussian variable given others, as a function in a formula.

    Attributes:
        variable: whose moment it is.
        given: what is given, at least one variable.
        what: `"mean"` or `"variance"`.
    """

    variable: str
    given: tuple[str, ...]
    what: str = "mean"

    def build(self, model: Model, p, w: Copied, name: str) -> Loss:
        q = _only(p, model, (self.variable, *self.given)).posterior(self.variable)
        # What says nothing about the variable is not behind the bar.
        inputs = q.cond_var or self.given[:1]
        # A moment is planned when it is asked for first, which must not be while a compiled loss is traced.
        q.mean({v: torch.eye(model.inputs if v == "u" else model.kind(v)[1])[:1] for v in inputs})
        return Loss.from_function(_Statistic(q, self.what), f"{self.what}_{name}", var=inputs)

    def names(self, model: Model) -> Kinds:
        return {v: model.kind(v) for v in self.given}

    def truth(self, dense: Dense, w: Weights, values: dict[str, Tensor], name: str) -> Tensor:
        mean, variance = dense.moments(self.variable, {v: values[v] for v in self.given})
        return (mean if self.what == "mean" else variance).sum(-1)


class _Statistic(nn.Module):
    """A moment of a distribution, for each datum."""

    def __init__(self, p, what):
        super().__init__()
        self.p, self.what = p, what

    def forward(self, **values):
        found = getattr(self.p, self.what)(values).sum(-1)
        return found.expand(next(iter(values.values())).shape[0])


def _only(p, model: Model, kept, *, shows_computed: bool = False):
    """p without the other variables."""
    others = [v for v in (*model.sizes, *[f.name for f in model.finite]) if v not in kept and v in p.var]
    if "h" in p.var and not shows_computed:
        others.append("h")
    return p.marginalize_var(others) if others else p
