"""Random variables and formulas over them: a description, what it is in the library, and what it is by finite sums and quadrature.

In an evaluation by sums a variable has the shape `(batch, points, features)`, where points are all combinations of the values of the
variables of the expectations around.
"""

from dataclasses import dataclass

import torch
from torch import nn

from pixyz import distributions
from pixyz.core import Expectation, Loss
from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import Enumerate, LogProb, MovingAverage, Rebar, Relaxed, Score, StraightThrough

from ... import families
from ...case import generator


@dataclass(frozen=True)
class Variable:
    """A random variable, q(name|t, parents).

    Attributes:
        name: one letter.
        family: its family.
        size: the number of features, or of categories.
        parents: the variables that move its parameters.
        where: the parameters are `"given"` with the data, `"networked"` likewise through a function, `"parameter"`s, or `"fixed"`.
    """

    name: str
    family: str
    size: int
    parents: tuple[str, ...]
    where: str

    letter = "q"

    def leaf_names(self):
        start = self.name if self.letter == "q" else f"{self.letter}_{self.name}"
        return {p: f"{start}_{p}" for p in families.PARAMETERS[self.family]}

    def numbers(self, seed, batch):
        """The parameters, `(batch, n)` where they are given with the data, else `(n,)`."""
        g = generator(seed, self.letter + self.name)
        shape = (batch, self.size) if self.where in ("given", "networked") else (self.size,)
        found = {}
        for p in families.PARAMETERS[self.family]:
            t = torch.randn(shape, generator=g)
            found[p] = 0.6 + 0.5 * t.sigmoid() if p in families.POSITIVE else 0.6 * t.clamp(-2, 2)
        if self.family == "Uniform":
            found["high"] = found["low"] + 0.5 + found["high"].sigmoid()
        return found

    def slopes(self, seed):
        """How each parent moves the parameters."""
        return {
            v: 0.5 * torch.randn(self.size, generator=generator(seed, f"{self.letter}{self.name}<-{v}")).clamp(-2, 2) for v in self.parents
        }

    def moved(self, params, signals, slopes):
        """The parameters that the parents' signals move, of tensors that broadcast."""
        if not signals:
            return params
        shift = sum(s * slopes[v] for v, s in signals.items())
        return {p: t * (0.4 * shift).exp() if p in families.POSITIVE else t + shift for p, t in params.items()}

    def signal(self, x):
        """One number, `(..., 1)`, of a value `(..., n)`."""
        if self.family == "Categorical":
            return (x * torch.linspace(-0.5, 1.0, self.size)).sum(-1, keepdim=True)
        if self.family in ("Bernoulli", "CategoricalIndex"):
            return x.sum(-1, keepdim=True)
        return (0.5 * x).tanh().sum(-1, keepdim=True)  # bounded, so that what depends on it has all its moments


def column(x):
    """A value with a dim for its features, as an index has none."""
    return x if x.ndim > 1 else x.unsqueeze(-1)


class _Link(nn.Module):
    """The network of a variable: parameters of its own or given, moved by the parents."""

    def __init__(self, variable, variables, seed, own):
        super().__init__()
        self.variable, self.parents, self.slopes = variable, [variables[v] for v in variable.parents], variable.slopes(seed)
        self.own = own
        for name, t in own.items():
            if isinstance(t, nn.Parameter):
                self.register_parameter(name, t)

    def forward(self, *inputs):
        names = families.PARAMETERS[self.variable.family]
        params = self.own or dict(zip(names, inputs))
        values = inputs if self.own else inputs[len(names) :]
        signals = {p.name: p.signal(column(x)) for p, x in zip(self.parents, values)}
        return self.variable.moved(params, signals, self.slopes)


def in_library(variable, variables, seed, leaves):
    """q(name|...) in the library."""
    family = getattr(distributions, variable.family)
    names = variable.leaf_names()
    if variable.where == "fixed" and not variable.parents:
        return family(f"{variable.letter}({variable.name})", **variable.numbers(seed, 1))
    if variable.where == "parameter" and not variable.parents:
        return family(f"{variable.letter}({variable.name})", **{p: leaves[n] for p, n in names.items()})
    if variable.where == "given" and not variable.parents:
        return family(f"{variable.letter}({variable.name}|{','.join(names.values())})", **names)
    own = {}
    if variable.where == "parameter":
        own = {p: leaves[n] for p, n in names.items()}
    elif variable.where == "fixed":
        own = variable.numbers(seed, 1)
    above = [*([] if own else names.values()), *variable.parents]
    return family(f"{variable.letter}({variable.name}|{','.join(above)})", _Link(variable, variables, seed, own))


def params_of(variable, world, env):
    """The parameters of a variable where its parents have values, `(batch or 1, points or 1, n)`."""
    if variable.where == "fixed":
        params = variable.numbers(world.seed, 1)
    else:
        params = {p: world.leaves[n] for p, n in variable.leaf_names().items()}
    params = {p: t.unsqueeze(-2) if t.ndim > 1 else t.reshape(1, 1, -1) for p, t in params.items()}
    signals = {v: world.variables[v].signal(env[v]) for v in variable.parents}
    return variable.moved(params, signals, variable.slopes(world.seed))


class Points(dict):
    """The values of variables at points: by name, `(batch or 1, count, n)`."""

    def __init__(self, values=(), count=1):
        super().__init__(values)
        self.count = count


@dataclass
class World:
    """What an evaluation by sums knows: the seed, the batch, the variables, and the leaves by name."""

    seed: int
    batch: int
    variables: dict
    leaves: dict


@dataclass(frozen=True)
class Function:
    """w-weighted sines, squares and hyperbolic tangents of the signals of some variables: any function, by `Loss.from_function`."""

    over: tuple[str, ...]
    shape: str

    def _of(self, signals, w):
        total = sum((i + 1) * 0.6 * s for i, s in enumerate(signals)) + 0.3
        return {"sin": torch.sin, "square": lambda t: t * t, "tanh": torch.tanh, "linear": lambda t: t}[self.shape](total) * (1 + w)

    def build(self, b):
        over = [b.variables[v] for v in self.over]

        def f(**given):
            signals = [v.signal(column(given[v.name])) for v in over]
            return self._of(signals, given["w"]).squeeze(-1)

        return Loss.from_function(f, self.shape, var=[*self.over, "w"])

    def truth(self, world, env):
        return self._of([world.variables[v].signal(env[v]) for v in self.over], world.leaves["w"].unsqueeze(1)).squeeze(-1)


@dataclass(frozen=True)
class Likelihood:
    """log p(x|...) or log p(y|...), whose parameter is the sum of the signals."""

    over: tuple[str, ...]
    family: str

    def build(self, b):
        over = [b.variables[v] for v in self.over]

        def network(*inputs):
            total = sum(v.signal(column(x)) for v, x in zip(over, inputs))
            return {"loc": total, "scale": torch.full_like(total, 1.2)} if self.family == "Normal" else {"logits": total}

        x = "x" if self.family == "Normal" else "y"
        family = {"Normal": Normal, "Bernoulli": Bernoulli}[self.family]
        return LogProb(b.likelihood(self, lambda: family(f"p({x}|{','.join(self.over)})", network)))

    def truth(self, world, env):
        total = sum(world.variables[v].signal(env[v]) for v in self.over)
        x = world.leaves["x" if self.family == "Normal" else "y"].unsqueeze(1)
        params = {"loc": total, "scale": torch.tensor([1.2])} if self.family == "Normal" else {"logits": total}
        return families.log_density(self.family, params, x)


@dataclass(frozen=True)
class LogQ:
    """log q of a variable itself, as in an entropy."""

    name: str

    def build(self, b):
        return LogProb(b.q(self.name))

    def truth(self, world, env):
        v = world.variables[self.name]
        return families.log_density(v.family, params_of(v, world, env), env[self.name])


@dataclass(frozen=True)
class Sum:
    terms: tuple[tuple[float, object], ...]

    def build(self, b):
        (c, first), *others = self.terms
        total = first.build(b) if c == 1 else c * first.build(b)
        for c, x in others:
            total = total - x.build(b) if c == -1 else total + c * x.build(b)
        return total

    def truth(self, world, env):
        return sum(c * x.truth(world, env) for c, x in self.terms)


@dataclass(frozen=True)
class Product:
    left: object
    right: object

    def build(self, b):
        return self.left.build(b) * self.right.build(b)

    def truth(self, world, env):
        return self.left.truth(world, env) * self.right.truth(world, env)


@dataclass(frozen=True)
class Squared:
    of: object

    def build(self, b):
        return self.of.build(b) ** 2

    def truth(self, world, env):
        return self.of.truth(world, env).square()


@dataclass(frozen=True)
class Stopped:
    of: object

    def build(self, b):
        return self.of.build(b).detach()

    def truth(self, world, env):
        return self.of.truth(world, env).detach()


@dataclass(frozen=True)
class Bent:
    """A smooth function that is not linear: exp(-a²/4)."""

    of: object

    def build(self, b):
        a = self.of.build(b)
        return (-(0.25 * a**2)).exp()

    def truth(self, world, env):
        return (-0.25 * self.of.truth(world, env).square()).exp()


@dataclass(frozen=True)
class Expected:
    """E of a body over some variables.

    Attributes:
        over: the variables that are drawn, parents first.
        of: the body.
        how: for each of them the estimator.
        count: K.
        hidden: those that are marginalised, and that the body does not see.
    """

    over: tuple[str, ...]
    of: object
    how: tuple[str, ...]
    count: int
    hidden: tuple[str, ...] = ()

    def build(self, b):
        q = b.joint(self.over, self.hidden)
        made = {v: estimator(how, b, v) for v, how in zip(self.over, self.how)}
        first = self.how[0]
        same = len(set(self.how)) == 1 and first in ("auto", "enumerate", "pathwise", "score", "relaxed", "straight_through", "sample")
        return Expectation(q, self.of.build(b), num_samples=self.count, estimator=first if same else made)

    def truth(self, world, env):
        inner, weights = spread(world, env, self.over, self.how)
        return (self.of.truth(world, inner) * weights).unflatten(1, (env.count, -1)).sum(-1)


def spread(world, env, names, how):
    """The points with each value of some variables for each point of before; and the weights of these, `(batch or 1, points)`."""
    total = torch.ones(1, env.count)
    for name, method in zip(names, how):
        v = world.variables[name]
        x, w = families.points(v.family, params_of(v, world, env), method_of(v, method))
        n = x.shape[-2]
        x = x.expand(*x.shape[:-3], env.count, n, x.shape[-1]) if x.ndim > 2 else x.expand(1, env.count, *x.shape)
        w = w.expand(*w.shape[:-2], env.count, n) if w.ndim > 1 else w.expand(1, env.count, n)
        values = {other: value.repeat_interleave(n, 1) for other, value in env.items()}
        env = Points({**values, name: x.flatten(1, 2)}, env.count * n)
        total = (total.unsqueeze(-1) * w).flatten(1, 2)
    return env, total


def method_of(v, how):
    """Whether values or weights carry the gradient; see `families.points`."""
    name, _, number = how.partition(":")
    if name in ("score", "enumerate", "rebar"):
        return "weight"
    if name == "relaxed":
        return f"relaxed:{number or 0.5}"
    if name == "straight_through":
        return f"lent:{number}" if number else "mean"
    if name == "sample":
        return "none"
    return "path" if v.family in families.CONTINUOUS else "weight"


def estimator(how, b, name):
    kind, _, option = how.partition(":")
    if kind == "score" and option:
        baseline = {"moving": MovingAverage, "network": lambda: b.baseline(name)}.get(option, lambda: float(option))()
        return Score(baseline=baseline)
    if kind == "relaxed":
        return Relaxed(temperature=float(option or 0.5))
    if kind == "straight_through":
        return StraightThrough(temperature=float(option)) if option else "straight_through"
    if kind == "rebar":
        temperature, scale = (option or "0.5,1.0").split(",")
        return Rebar(temperature=float(temperature), scale=float(scale))
    return Enumerate(max_enumerate=256) if kind == "enumerate" and b.seed % 2 else kind
