"""Sums over the steps of ragged sequences, along which variables are drawn, computed or known; against a loop over each datum and step.

The loop follows all paths: at each step every path goes on with each value of what is drawn there, or with each point of a quadrature.
"""

import math
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import nn

from pixyz import distributions
from pixyz.core import Expectation, Loss
from pixyz.distributions import Deterministic, Normal
from pixyz.losses import ELBO, IWAE, IterativeLoss, LogProb, Parameter

from .. import families
from ..case import Built, Case, by_autograd, generator
from .estimators import model

WARNINGS = ("estimated by the score function from one draw",)
NODES = 14


def _column(x):
    return x if x.ndim > 1 else x.unsqueeze(-1)


class _Network(nn.Module):
    """A function of its parameters and its inputs, by name."""

    def __init__(self, function, names, **parameters):
        super().__init__()
        self.function, self.names = function, names
        for name, t in parameters.items():
            self.register_parameter(name, t)

    def forward(self, *inputs):
        return self.function(dict(self.named_parameters()), dict(zip(self.names, inputs)))


@dataclass(frozen=True)
class Sequence(Case):
    """A sum over steps.

    Attributes:
        seed: of all numbers.
        batch: how many sequences.
        steps: T, of the longest.
        family: of z, `"Bernoulli"`, `"Categorical"` or `"Normal"`; `"known"` where nothing is drawn, and each x follows from that before.
        size: of z.
        how: the estimator.
        count: K.
        form: `"elbo"`, `"analytic"`, `"iwae"` or `"function"`.
        recurrent: whether a deterministic h is handed on as well.
        around: whether the first z is drawn, by an expectation around the sum.
        timed: whether networks see the number of the step.
        discounted: whether each step counts γ^t.
        masked: whether the sequences end at different steps; what fills them up is nan.
        sliced: whether `slice_step` takes the steps from the series.
    """

    seed: int
    batch: int
    steps: int
    family: str
    size: int
    how: str
    count: int
    form: str
    recurrent: bool
    around: bool
    timed: bool
    discounted: bool
    masked: bool
    sliced: bool

    copies = 256

    @property
    def summed(self):
        """Whether z is summed over."""
        return self.family in families.FINITE and self.how in ("auto", "enumerate") and not self.recurrent

    @property
    def exact(self):
        return self.family == "known" or (self.summed and not self.around)

    def at(self, seed):
        """Families, estimators and networks are not printed."""
        return None

    @property
    def lengths(self):
        if not self.masked:
            return [self.steps] * self.batch
        return torch.randint(1, self.steps + 1, (self.batch,), generator=generator(self.seed, "lengths")).tolist()

    def _numbers(self):
        n = self.size
        shapes = {"qb": (n,), "qa": (n,), "qx": (n,), "pb": (n,), "pa": (n,), "e": (2,), "x": (self.batch, self.steps + self.sliced, 1)}
        shapes["h_prev"] = (self.batch, 1)
        if self.family == "Normal":
            shapes["z_prev"] = (self.batch, 1)
        found = {name: 0.7 * torch.randn(s, generator=generator(self.seed, name)) for name, s in shapes.items()}
        if self.around:
            found["z_prev"] = found["z_prev"][:1].reshape(1)
        found["g"] = torch.tensor(0.8)
        if self.masked:
            for b, length in enumerate(self.lengths):
                found["x"][b, length:] = torch.nan
        return found

    def _first(self):
        """What stands before the first step where it takes finitely many values."""
        values = families.support(self.family, self.size)
        return values[torch.randint(len(values), (self.batch,), generator=generator(self.seed, "first"))]

    def signal(self, z):
        if self.family == "Categorical":
            return (z * torch.linspace(-0.5, 1.0, self.size)).sum(-1, keepdim=True)
        return z.sum(-1, keepdim=True)

    def _q(self, p, v):
        shift = p["qa"] * self.signal(v["z_prev"]).tanh() + p["qx"] * v["x"].tanh()
        shift = shift + (0.5 * v["h_prev"] if self.recurrent else 0) + (0.2 * _column(v["t"]) if self.timed else 0)
        return self._params(p["qb"] + shift)

    def _prior(self, p, v):
        return self._params(p["pb"] + p["pa"] * self.signal(v["z_prev"]).tanh())

    def _params(self, t):
        return {"loc": t, "scale": 0.6 + 0.2 * t.tanh()} if self.family == "Normal" else {"logits": t}

    def _emission(self, p, v):
        loc = p["e"][:1] * self.signal(v["z"]) + (v["h"] if self.recurrent else 0) + (0.3 * _column(v["t"]) if self.timed else 0)
        return {"loc": loc, "scale": 0.7 + 0.1 * (p["e"][1:] + 0 * loc).tanh()}

    def _follows(self, p, v):
        """The next x of the one before."""
        loc = p["e"][:1] * v["x_prev"].tanh() + (0.3 * _column(v["t"]) if self.timed else 0)
        return {"loc": loc, "scale": 0.7 + 0.1 * (p["e"][1:] + 0 * loc).tanh()}

    def _h(self, v):
        return (0.8 * self.signal(v["z"]) + 0.5 * v["h_prev"]).tanh()

    def _cost(self, v):
        """The cost of a step by a function."""
        return (self.signal(v["z"]) * 0.9 + v["x"] - 0.4 * self.signal(v["z_prev"])).tanh().squeeze(-1)

    def build(self, copies=1):
        numbers = self._numbers()
        kept = {"qb", "qa", "qx", "pb", "pa", "e"}
        if self.around:
            kept.add("z_prev")
        leaves = {n: nn.Parameter(t) if n in kept else t.requires_grad_() for n, t in numbers.items()}
        time = ["t"] if self.timed else []
        options = {"timestep_var": "t"} if self.timed or self.discounted or self.sliced else {}
        if self.masked:
            options["mask"] = "m"
        step = self._known_step(leaves, time, options) if self.family == "known" else self._drawn_step(leaves, time, options)
        loss = IterativeLoss(step, series_var="x", **options)
        if self.around:
            start = Normal("q(z_prev)", loc=leaves["z_prev"], scale=0.5)
            loss = loss.expectation(start)
        biased = self.how.startswith(("relaxed", "straight")) and self.family != "known"
        assert loss.is_biased == biased, f"is_biased is {loss.is_biased} of {loss}"
        values = {n: t.repeat(copies, *[1] * (t.ndim - 1)) if t.ndim else t for n, t in leaves.items() if n not in kept}
        if self.family in families.FINITE:
            values["z_prev"] = self._first().repeat(copies, 1)
        if self.family == "known" and not self.sliced:
            values["x_prev"] = leaves["h_prev"].repeat(copies, 1)
        values["m"] = torch.tensor([[float(t < length) for t in range(self.steps)] for length in self.lengths]).repeat(copies, 1)
        return Built(loss, {n: t for n, t in values.items() if n in loss.input_var}, leaves)

    def _weight(self):
        return Parameter("g") ** Parameter("t")

    def _known_step(self, leaves, time, options):
        names = ["x_prev", *time]
        p = Normal(f"p(x|{','.join(names)})", _Network(self._follows, names, e=leaves["e"]))
        if self.sliced:
            p = Normal(f"p(now|{','.join(names)})", _Network(self._follows, names, e=leaves["e"]))
            rows = lambda x, t: {"now": x[torch.arange(len(x)), t + 1], "x_prev": x[torch.arange(len(x)), t]}  # noqa: E731
            options |= {"slice_step": Deterministic("rows(now,x_prev|x,t)", rows), "max_iter": self.steps}
        else:
            options["update_value"] = {"x": "x_prev"}
        return self._weight() * LogProb(p) if self.discounted else LogProb(p)

    def _drawn_step(self, leaves, time, options):
        family = getattr(distributions, self.family)
        names = ["x", "z_prev", *(["h_prev"] if self.recurrent else []), *time]
        q = family(f"q(z|{','.join(names)})", _Network(self._q, names, **{n: leaves[n] for n in ("qb", "qa", "qx")}))
        prior = family("p(z|z_prev)", _Network(self._prior, ["z_prev"], pb=leaves["pb"], pa=leaves["pa"]))
        above = ["z", *(["h"] if self.recurrent else []), *time]
        see = Normal(f"p(x|{','.join(above)})", _Network(self._emission, above, e=leaves["e"]))
        updates = {"z": "z_prev"}
        if self.recurrent:
            q = q * Deterministic("rnn(h|z,h_prev)", h=lambda z, h_prev: self._h({"z": z, "h_prev": h_prev}))
            updates["h"] = "h_prev"
        options["update_value"] = updates
        estimator = self.how if ":" not in self.how else {"z": model.estimator(self.how, self, "z")}
        drawing = {"num_samples": self.count, "estimator": estimator}
        if self.form == "function":
            cost = Loss.from_function(lambda **v: self._cost(v), "cost", var=["x", "z", "z_prev"])
            return Expectation(q, self._weight() * cost if self.discounted else cost, **drawing)
        if self.form == "iwae":
            return IWAE(see * prior, q, **drawing)
        return ELBO(see * prior, q, kl="auto" if self.form == "analytic" else "sample", **drawing)

    def truth(self):
        def of(**leaves):
            return torch.stack([self._of_datum(b, length, leaves) for b, length in enumerate(self.lengths)])

        return by_autograd(of, self._numbers())

    def _of_datum(self, b, length, p):
        if self.family == "known":
            return self._of_known(b, length, p)
        method = model.method_of(model.Variable("z", self.family, self.size, (), "given"), self.how)
        weights = torch.ones(1)
        v = {"h_prev": p["h_prev"][b : b + 1], "z_prev": p["z_prev"][b : b + 1] if self.family == "Normal" and not self.around else None}
        if self.family in families.FINITE:
            v["z_prev"] = self._first()[b : b + 1]
        if self.around:
            start = {"loc": p["z_prev"].reshape(1, 1), "scale": torch.full((1, 1), 0.5)}
            x, weights = families.points("Normal", start, "path", NODES)
            v |= {"z_prev": x.flatten(0, 1), "h_prev": v["h_prev"].expand(NODES, 1)}
        outside = len(weights)
        total = torch.zeros(outside)
        paths = torch.zeros(outside)
        for t in range(length):
            v |= {"x": p["x"][b, t : t + 1], "t": torch.tensor([float(t)])}
            params = self._q(p, v)
            z, w = families.points(self.family, params, method, NODES)
            n = z.shape[-2]
            z = z.expand(len(weights), n, z.shape[-1]).flatten(0, 1)
            grow = lambda s, n=n: s.repeat_interleave(n, 0)  # noqa: E731
            weights = grow(weights) * w.expand(len(weights), n).flatten()
            v |= {"z": z, "z_prev": grow(v["z_prev"]), "h_prev": grow(v["h_prev"])}
            v["h"] = self._h(v)
            cost = self._step_cost(p, v, {k: grow(s.expand(len(z) // n, -1)) for k, s in params.items()}, t)
            paths = grow(paths) + cost
            total = total + (weights * cost).unflatten(0, (outside, -1)).sum(-1)
            v |= {"z_prev": z, "h_prev": v["h"]}
        if self.form == "iwae" and not self.summed:
            return _over_sequences(paths.unflatten(0, (outside, -1)), weights.unflatten(0, (outside, -1)), self.count)
        return total.sum()

    def _step_cost(self, p, v, params, t):
        if self.form == "function":
            return self._cost(v) * (p["g"] ** t if self.discounted else 1)
        log_q = families.log_density(self.family, params, v["z"])
        prior = families.log_density(self.family, self._prior(p, v), v["z"])
        return families.log_density("Normal", self._emission(p, v), v["x"]) + prior - log_q

    def _of_known(self, b, length, p):
        total, before = torch.zeros(()), p["h_prev"][b : b + 1]
        for t in range(length):
            x = p["x"][b : b + 1, t]
            if self.sliced:
                before, x = x, p["x"][b : b + 1, t + 1]
            params = self._follows(p, {"x_prev": before, "t": torch.tensor([float(t)])})
            total = total + families.log_density("Normal", params, x).sum() * (p["g"] ** t if self.discounted else 1)
            before = x
        return total


def _over_sequences(f, weights, count):
    """E of log mean exp of K sequences, of totals and probabilities `(1, paths)`."""
    f, weights = f.squeeze(0), weights.squeeze(0)

    def along(t, k):
        return t.reshape([len(t) if i == k else 1 for i in range(count)])

    mean = torch.stack(torch.broadcast_tensors(*[along(f, k) for k in range(count)])).logsumexp(0) - math.log(count)
    return (math.prod(along(weights, k) for k in range(count)) * mean).sum()


@st.composite
def cases(draw):
    family = draw(st.sampled_from(("known", "Bernoulli", "Categorical", "Bernoulli", "Normal")))
    size = {"Bernoulli": 1, "Categorical": draw(st.integers(2, 3))}.get(family, 1)
    recurrent = family != "known" and draw(st.booleans()) and draw(st.booleans())
    form = draw(st.sampled_from(("elbo", "analytic", "function", "iwae")))
    if family == "known":
        how = "auto"
    elif family == "Normal":
        how = draw(st.sampled_from(("auto", "pathwise", "score")))
    else:
        smooth = ("straight_through", *(("relaxed:0.5",) if size == 1 else ())) if form in ("elbo", "function") else ()
        how = draw(st.sampled_from(("auto", "auto", "score", *(() if recurrent else ("enumerate",)), "score:0.4", *smooth)))
    around = family == "Normal" and form != "iwae" and draw(st.booleans())
    count = draw(st.integers(1, 2 if form == "iwae" else 3))
    steps = draw(st.integers(1, 4))
    if family == "Normal" or how.startswith("relaxed"):
        steps = min(steps, 1 if form == "iwae" else 2)
    elif form == "iwae":
        steps = min(steps, 3)
    if form == "iwae" and how == "score:0.4":
        how = "score"
    sliced = family == "known" and draw(st.booleans())
    return Sequence(
        seed=draw(st.integers(0, 2**32 - 1)),
        batch=draw(st.integers(1, 3)),
        steps=steps,
        family=family,
        size=size,
        how=how,
        count=count,
        form=form,
        recurrent=recurrent,
        around=around,
        timed=draw(st.booleans()),
        discounted=(family == "known" or form == "function") and draw(st.booleans()),
        masked=not sliced and draw(st.booleans()),
        sliced=sliced,
    )
