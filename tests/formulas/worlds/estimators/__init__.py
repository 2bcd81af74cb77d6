"""Expectations of random functions, by every estimator of a gradient, alone, nested and multiplied.

A value and a gradient are those of a sum over all outcomes, or of a quadrature, in which each variable's gradient flows where its
estimator lets it flow. What says that it is not biased uses no estimator that is.
"""

import functools
import operator
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import nn

from ... import families
from ...case import Built, Case, by_autograd, generator
from . import model
from .model import Bent, Expected, Function, Likelihood, LogQ, Points, Product, Squared, Stopped, Sum, Variable

WARNINGS = ("estimated by the score function from one draw", "does not use")


@dataclass(frozen=True)
class Estimated(Case):
    """A formula whose expectations are estimated.

    Attributes:
        seed: of all numbers.
        batch: how many data.
        variables: what is drawn, parents first.
        formula: the formula.
    """

    seed: int
    batch: int
    variables: tuple[Variable, ...]
    formula: object

    copies = 512

    @property
    def exact(self):
        by_name = {v.name: v for v in self.variables}
        return all(
            by_name[v].family in families.FINITE and (how == "enumerate" or (how == "auto" and by_name[v].where != "fixed"))
            for e in _expectations(self.formula)
            for v, how in zip(e.over, e.how)
        )

    @property
    def biased(self):
        """Whether a value or a gradient may differ, in the mean, from that of the formula."""
        return any(_loses(self, e) for e in _expectations(self.formula)) or any(
            next(_expectations(x), None) is not None for x in _all(self.formula) if isinstance(x, Bent)
        )

    def at(self, seed):
        """Estimators and families are not printed, so that formulas with different values print alike."""
        return None

    def numbers(self):
        found = {
            name: t
            for v in self.variables
            if v.where != "fixed"
            for name, t in zip(v.leaf_names().values(), v.numbers(self.seed, self.batch).values())
        }
        for name, size in (("w", 0.5), ("x", 1.0)):
            found[name] = size * torch.randn(self.batch, 1, generator=generator(self.seed, name))
        return found

    def build(self, copies=1):
        kept = {n for v in self.variables if v.where == "parameter" for n in v.leaf_names().values()}
        leaves = {n: nn.Parameter(t) if n in kept else t.requires_grad_() for n, t in self.numbers().items()}
        given = {n: t.repeat(copies, 1) for n, t in leaves.items() if n not in kept}
        builder = Builder(self, leaves)
        loss = self.formula.build(builder)
        assert loss.is_biased == self.biased, f"is_biased is {loss.is_biased} of {loss}"
        used = {*loss.input_var}
        given["y"] = self.seen(copies)
        return Built(loss, {n: t for n, t in given.items() if n in used}, leaves, {"batch_size": copies * self.batch} if not used else {})

    def seen(self, copies):
        return torch.randint(2, (self.batch, 1), generator=generator(self.seed, "y")).double().repeat(copies, 1)

    def truth(self):
        def of(**leaves):
            variables = {v.name: v for v in self.variables}
            world = model.World(self.seed, self.batch, variables, {**leaves, "y": self.seen(1)})
            return self.formula.truth(world, Points()).squeeze(-1).expand(self.batch)

        return by_autograd(of, self.numbers())


class Builder:
    """What a formula is built of in the library."""

    def __init__(self, case, leaves):
        self.seed = case.seed
        self.variables = {v.name: v for v in case.variables}
        self._likelihoods = {}
        self._made = {v.name: model.in_library(v, self.variables, case.seed, leaves) for v in case.variables}

    def q(self, name):
        return self._made[name]

    def likelihood(self, description, make):
        """The same distribution for the same description: two that print alike are rejected."""
        return self._likelihoods.setdefault(description, make())

    def joint(self, names, hidden):
        q = functools.reduce(operator.mul, [self._made[n] for n in reversed(names)])
        return q.marginalize_var(list(hidden)) if hidden else q

    def baseline(self, name):
        """A network for the baseline of a score: of what the variable is given, or of nothing."""
        return _Guess()


class _Guess(nn.Module):
    """A baseline that learns."""

    def __init__(self):
        super().__init__()
        self.number = nn.Parameter(torch.tensor(0.2))

    def forward(self, *inputs):
        if not inputs:
            return self.number
        return self.number + 0.3 * sum(x.double().reshape(len(x), -1).sum(-1) for x in inputs)


def _children(x):
    if isinstance(x, Sum):
        return [y for _, y in x.terms]
    if isinstance(x, Product):
        return [x.left, x.right]
    return [x.of] if hasattr(x, "of") else []


def _all(x):
    yield x
    for y in _children(x):
        yield from _all(y)


def _seen(x, variables):
    """The variables that a term has values of."""
    if isinstance(x, LogQ):
        return (x.name, *variables[x.name].parents)
    if isinstance(x, Expected):
        return [p for v in x.over for p in variables[v].parents]
    return getattr(x, "over", ())


def _expectations(x):
    return (y for y in _all(x) if isinstance(y, Expected))


def _loses(case, e):
    """Whether an expectation has an estimator that is biased for it: a plain draw is so only where something could get a gradient."""
    by_name = {v.name: v for v in case.variables}
    for name, how in zip(e.over, e.how):
        kind = how.partition(":")[0]
        if kind in ("relaxed", "straight_through"):
            return True
        if kind == "sample" and _has_above(by_name, name):
            return True
    return False


def _has_above(by_name, name):
    """Whether a parameter, trained or not, or a given variable stands in or above a variable."""
    v = by_name[name]
    return v.where != "fixed" or any(_has_above(by_name, p) for p in v.parents)


FAMILIES = (
    *("Bernoulli", "Categorical", "Bernoulli", "Categorical", "Normal", "CategoricalIndex"),
    *("Poisson", "Laplace", "Geometric", "Exponential", "Uniform"),
)


@st.composite
def variables(draw):
    """One to three variables."""
    found = []
    for name in "abc"[: draw(st.sampled_from((1, 1, 2, 2, 3)))]:
        several = len(found) > 0
        family = draw(st.sampled_from(FAMILIES))
        if family in ("Bernoulli", "Categorical", "CategoricalIndex"):
            size = draw(st.integers(1 if family == "Bernoulli" else 2, 2 if family == "Bernoulli" else 3))
        else:
            size = 1
        parents = tuple(v.name for v in found if draw(st.booleans())) if several else ()
        where = draw(st.sampled_from(("given", "networked", "parameter", "parameter", "fixed")))
        found.append(Variable(name, family, size, parents, where))
    return tuple(found)


def estimators_of(v, *, single):
    """Those that serve a variable; REBAR and relaxed values of one coin or two categories, whose noise has one dimension."""
    found = ["auto", "sample"]
    if v.family in families.FINITE:
        found += ["enumerate"]
    if v.family in families.CONTINUOUS:
        found += ["pathwise", "pathwise"]
    if v.family != "Uniform" or (v.where == "fixed" and not v.parents):  # where its support moves, the library rejects a score
        found += ["score", "score:0.4", "score:moving", "score:network"]
    if v.family != "CategoricalIndex":
        found += ["straight_through"]
    if v.family in ("Bernoulli", "Categorical"):
        found += ["rebar:0.5,1.0", "rebar:0.8,0.6"] if single else []
        if v.size == (1 if v.family == "Bernoulli" else 2):
            found += ["relaxed:0.5", "relaxed:1.0", "straight_through:0.6"]
    return found


@st.composite
def bodies(draw, over, known):
    """A sum of terms that depend on the variables: deterministic functions of them."""

    def term():
        names = tuple(v.name for v in known if draw(st.booleans())) or (over[-1].name,)
        kind = draw(st.sampled_from(("function", "function", "likelihood", "density", "stopped", "product", "bent")))
        function = Function(names, draw(st.sampled_from(("sin", "square", "tanh", "linear"))))
        if kind == "likelihood":
            return Likelihood(names, draw(st.sampled_from(("Normal", "Bernoulli"))))
        if kind == "density":
            return LogQ(draw(st.sampled_from(over)).name)
        if kind == "stopped":
            return Stopped(function)
        if kind == "product":
            return Product(function, Likelihood(names, "Normal"))
        return Bent(function) if kind == "bent" else function

    found = tuple((draw(st.sampled_from((1, -1, 0.5))), term()) for _ in range(draw(st.sampled_from((1, 1, 2, 3)))))
    return found[0][1] if len(found) == 1 else Sum(found)


@st.composite
def expectations(draw, over, known, body=None):
    """E over some variables, of a body over these and others, each by an estimator of its own or all by one."""
    of = draw(bodies(over, known)) if body is None else body
    how, rebar = [], False
    common = draw(st.sampled_from(("auto", "auto", "score", "enumerate", "relaxed:0.5", "sample", "", "", "", "")))
    for v in over:
        fitting = estimators_of(v, single=not rebar)
        chosen = common if common in fitting else draw(st.sampled_from(fitting)) if not common else "auto"
        rebar = rebar or chosen.startswith("rebar")
        how.append(chosen)
    by_name = {v.name: v for v in known}
    seen = {n for x in _all(of) for n in _seen(x, by_name)}
    hidden = tuple(v.name for v in over if v.name not in seen and any(v.name in x.parents for x in over))
    return Expected(tuple(v.name for v in over), of, tuple(how), draw(st.integers(1, 3)), hidden if draw(st.booleans()) else ())


@st.composite
def cases(draw):
    seed = draw(st.integers(0, 2**32 - 1))
    found = draw(variables())
    shape = draw(st.sampled_from(("plain", "plain", "nested", "nested", "sum", "product", "square", "stopped", "bent", "inner square")))
    split = draw(st.integers(1, len(found) - 1)) if shape in ("nested", "inner square") and len(found) > 1 else 0
    if split:
        outer, inner = found[:split], found[split:]
        part = draw(expectations(inner, found))
        part = Squared(part) if shape == "inner square" else Sum(((1, part), (-1, draw(bodies(outer, outer)))))
        formula = draw(expectations(outer, found, part))
    else:
        formula = draw(expectations(found, found))
        if shape in ("sum", "product", "stopped"):
            other = draw(expectations(found, found))
            pair = {"sum": lambda: Sum(((1, formula), (-1, other))), "product": lambda: Product(formula, other)}
            formula = pair.get(shape, lambda: Product(Stopped(formula), other))()
        elif shape == "square":
            formula = Squared(formula)
    case = Estimated(seed, draw(st.integers(1, 3)), found, formula)
    return Estimated(seed, case.batch, found, Bent(formula)) if shape == "bent" and case.exact else case
