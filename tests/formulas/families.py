"""Families by their own formulas: log-densities, means, and the points at which an expectation is a sum.

Each point has a value and a weight. Where the gradient of an expectation comes from is whether the values or the weights carry it: a draw
by a path has the gradient in its value, the score and the sum over a support in the weight, a plain draw in neither.
"""

import functools
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F

PARAMETERS = {
    "Bernoulli": ("logits",),
    "Categorical": ("logits",),
    "CategoricalIndex": ("logits",),
    "Poisson": ("rate",),
    "Geometric": ("logits",),
    "Normal": ("loc", "scale"),
    "Laplace": ("loc", "scale"),
    "Exponential": ("rate",),
    "Uniform": ("low", "high"),
}
POSITIVE = ("rate", "scale")
FINITE = ("Bernoulli", "Categorical", "CategoricalIndex")
COUNTS = ("Poisson", "Geometric")
CONTINUOUS = ("Normal", "Laplace", "Exponential", "Uniform")


def log_density(family, params, x):
    """log p(x), summed over the features: parameters and x are `(..., n)`; of `CategoricalIndex`, x is `(..., 1)`."""
    if family == "Bernoulli":
        return (x * F.logsigmoid(params["logits"]) + (1 - x) * F.logsigmoid(-params["logits"])).sum(-1)
    if family == "Categorical":
        return (x * params["logits"].log_softmax(-1)).sum(-1)
    if family == "CategoricalIndex":
        table = params["logits"].log_softmax(-1)
        shape = torch.broadcast_shapes(table.shape[:-1], x.shape[:-1])
        return table.expand(*shape, -1).gather(-1, x.long().expand(*shape, 1)).squeeze(-1)
    if family == "Poisson":
        return (x * params["rate"].log() - params["rate"] - (x + 1).lgamma()).sum(-1)
    if family == "Geometric":
        return (F.logsigmoid(params["logits"]) + x * F.logsigmoid(-params["logits"])).sum(-1)
    if family == "Normal":
        z = (x - params["loc"]) / params["scale"]
        return (-0.5 * z * z - params["scale"].log() - 0.5 * math.log(2 * math.pi)).sum(-1)
    if family == "Laplace":
        return (-(x - params["loc"]).abs() / params["scale"] - (2 * params["scale"]).log()).sum(-1)
    if family == "Exponential":
        return (params["rate"].log() - params["rate"] * x).sum(-1)
    if family == "Uniform":
        return (-(params["high"] - params["low"]).log() + 0 * x).sum(-1)
    raise LookupError(family)


def mean(family, params):
    """E[x], `(..., n)`."""
    if family == "Bernoulli":
        return params["logits"].sigmoid()
    if family == "Categorical":
        return params["logits"].softmax(-1)
    if family == "Geometric":
        return (-params["logits"]).exp()
    if family == "Exponential":
        return 1 / params["rate"]
    if family == "Uniform":
        return (params["low"] + params["high"]) / 2
    return params["rate"] if family == "Poisson" else params["loc"]


@functools.cache
def _rule(name, count):
    points, weights = {
        "hermite": np.polynomial.hermite_e.hermegauss,
        "laguerre": np.polynomial.laguerre.laggauss,
        "legendre": np.polynomial.legendre.leggauss,
    }[name](count)
    x, w = torch.from_numpy(points), torch.from_numpy(weights)
    return x, w / w.sum()


def _on_the_unit_interval(count):
    x, w = _rule("legendre", count)
    return (x + 1) / 2, w


@functools.cache
def support(family, size):
    """All values of a finite family, or enough of the counts, `(S, n)`."""
    if family == "Bernoulli":
        return torch.tensor(list(itertools.product((0.0, 1.0), repeat=size)), dtype=torch.float64)
    if family == "Categorical":
        return torch.eye(size, dtype=torch.float64)
    if family == "CategoricalIndex":
        return torch.arange(size, dtype=torch.float64).unsqueeze(-1)
    return torch.arange(25 if family == "Poisson" else 50, dtype=torch.float64).unsqueeze(-1)


def _by_path(family, params, count):
    """Values that carry the gradient, and weights that do not; of one feature."""
    if family == "Normal":
        x, w = _rule("hermite", count)
        return params["loc"].unsqueeze(-2) + params["scale"].unsqueeze(-2) * x.unsqueeze(-1), w
    if family == "Uniform":
        x, w = _on_the_unit_interval(count)
        low, high = params["low"].unsqueeze(-2), params["high"].unsqueeze(-2)
        return low + (high - low) * x.unsqueeze(-1), w
    x, w = _rule("laguerre", count)
    if family == "Exponential":
        return x.unsqueeze(-1) / params["rate"].unsqueeze(-2), w
    x, w = torch.cat([-x, x]), torch.cat([w, w]) / 2
    return params["loc"].unsqueeze(-2) + params["scale"].unsqueeze(-2) * x.unsqueeze(-1), w


def _logits_of_two(family, params):
    """Of a coin, or of the first of two categories, `(...)`."""
    logits = params["logits"]
    return logits.squeeze(-1) if family == "Bernoulli" else logits[..., 0] - logits[..., 1]


def _both(family, first):
    return first.unsqueeze(-1) if family == "Bernoulli" else torch.stack([first, 1 - first], -1)


def _relaxed(family, params, temperature):
    """Over logistic noise L, by the trapezoidal rule: its density is analytic, so that the error falls exponentially."""
    noise = torch.arange(-18.0, 18.01, 0.5, dtype=torch.float64)
    w = noise.sigmoid() * (-noise).sigmoid()
    soft = ((_logits_of_two(family, params).unsqueeze(-1) + noise) / temperature).sigmoid()
    return _both(family, soft), w / w.sum()


def _lent_by_relaxed(family, params, temperature, count):
    """Hard values with the gradient of the relaxed draw of the same noise: half of the points for each hard value."""
    logits = _logits_of_two(family, params).unsqueeze(-1)
    x, w = _on_the_unit_interval(count)
    p = logits.detach().sigmoid()  # of a one: where u > 1 - p
    u = torch.cat([(1 - p) * x, 1 - p * x], -1)
    weight = torch.cat([(1 - p) * w, p * w], -1)
    hard = torch.cat([torch.zeros_like(x), torch.ones_like(x)]).expand(u.shape)
    soft = ((logits + torch.logit(u)) / temperature).sigmoid()
    return _both(family, hard + soft - soft.detach()), weight


def points(family, params, method, count=20):
    """The values `(..., S, n)` and weights `(..., S)` of what is drawn by a method.

    Args:
        family: its name.
        params: by name, `(..., n)`.
        method: `"path"`, `"weight"` (the score, the sum over a support, REBAR), `"none"`, `"mean"` (straight-through), `"relaxed"` or
            `"lent"` (straight-through by the relaxed draw).
        count: how many points a rule for a continuous variable has. A temperature follows after a colon: `"relaxed:0.5"`.
    """
    kind, _, number = method.partition(":")
    if kind == "relaxed":
        return _relaxed(family, params, float(number))
    if kind == "lent":
        return _lent_by_relaxed(family, params, float(number), count)
    if family in CONTINUOUS:
        values, weights = _by_path(family, params, count)
        if kind == "path":
            return values, weights
        values = values.detach()
        if kind == "weight":
            log_q = log_density(family, {k: p.unsqueeze(-2) for k, p in params.items()}, values)
            weights = weights * (log_q - log_q.detach()).exp()
    else:
        values = support(family, params["logits" if "logits" in params else "rate"].shape[-1])
        weights = log_density(family, {k: p.unsqueeze(-2) for k, p in params.items()}, values).exp()
        weights = weights / weights.sum(-1, keepdim=True)  # of counts, what lies beyond the support that is summed
        if kind != "weight":
            weights = weights.detach()
    if kind == "mean":
        lent = mean(family, params).unsqueeze(-2)
        values = values + lent - lent.detach()
    return values, weights
