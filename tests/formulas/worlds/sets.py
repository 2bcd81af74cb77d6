"""Losses that compare sets, at given sets: every plan, permutation and pair written out.

What is drawn is computed from given values, so that the sets are known. A Wasserstein distance is that of the best permutation, each point
taken as many times as the sizes of the sets have in common; Sinkhorn's plan is found by scaling in numpy, and has no gradient of its own.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from pixyz import losses
from pixyz.distributions import Deterministic, Normal

from .. import families
from ..case import Built, Case, by_autograd, generator


class _Map(nn.Module):
    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix

    def forward(self, x):
        return x @ self.matrix + 0.3 * (x @ self.matrix).sin()


class _Pair(nn.Module):
    """A critic of pairs."""

    def __init__(self, matrix, keyword):
        super().__init__()
        self.matrix, self.keyword = matrix, keyword

    def forward(self, x, z):
        return _score(self.matrix, x, z) if self.keyword else _score(self.matrix, x, z).unsqueeze(-1)


def _score(matrix, x, z):
    return ((x @ matrix) * z).sum(-1).tanh() + 0.2 * (x.sum(-1) - z.sum(-1)).square()


@dataclass(frozen=True)
class Compared(Case):
    """A distance between two sets, or a bound on mutual information.

    Attributes:
        seed: of all numbers.
        sizes: of the two sets.
        features: of each variable.
        variables: how many are compared together.
        loss: the class of the library.
        option: the kernel, the order, the critic or the estimator.
        number: the bandwidths' greatest, ε, or the size of the data set.
        mapped: whether the left set is what a trained network makes of the given values.
        weight: of the loss.
    """

    seed: int
    sizes: tuple[int, int]
    features: int
    variables: int
    loss: str
    option: str
    number: float
    mapped: bool
    weight: float

    exact = True

    def at(self, seed):
        """Options are not printed."""
        return None

    def _numbers(self):
        n, m = self.sizes
        shapes = {"a0": (n, self.features), "b0": (m, self.features), "matrix": (self.features, self.features)}
        if self.variables == 2:
            shapes |= {"a1": (n, 1), "b1": (m, 1)}
        return {name: torch.randn(s, generator=generator(self.seed, name)) for name, s in shapes.items()}

    def build(self, copies=1):
        numbers = self._numbers()
        leaves = {n: nn.Parameter(t) if n == "matrix" else t.requires_grad_() for n, t in numbers.items()}
        values = {n: t for n, t in leaves.items() if n != "matrix"}
        if self.loss == "InfoNCE":
            loss = self._info_nce(leaves)
            values = {"x": values["a0"]}
        else:
            p, q = (self._side(side, leaves) for side in "ab")
            options = {
                "MMD": lambda: {"kernel": self.option, "sigma_sqr": self._bandwidths()},
                "Wasserstein": lambda: {"order": float(self.option)},
                "Sinkhorn": lambda: {"order": float(self.option), "epsilon": self.number},
            }.get(self.loss, dict)()
            loss = getattr(losses, self.loss)(p, q, **options)
        loss = loss if self.weight == 1 else self.weight * loss
        return Built(loss, {n: t for n, t in values.items() if n in loss.input_var}, leaves)

    def _bandwidths(self):
        return [self.number, 0.5] if self.number > 1 else self.number

    def _side(self, side, leaves):
        function = _Map(leaves["matrix"]) if self.mapped and side == "a" else (lambda x: x)
        p = Deterministic(f"{side}(u|{side}0)", u=_Positional(function))
        return p * Deterministic(f"{side}(v|{side}1)", v=_Positional(lambda x: x)) if self.variables == 2 else p

    def _info_nce(self, leaves):
        q = Deterministic("q(z|x)", z=lambda x: (x + 0.1).sin() + 0.5 * x)
        keyword = self.option == "function"
        critic = _Pair(leaves["matrix"], keyword)
        return losses.InfoNCE(
            q, critic if keyword else Deterministic("f(t|x,z)", t=critic), **({} if self.number < 1 else {"negatives": "z"})
        )

    def truth(self):
        # POT stops where 1e-9 of the mass is misplaced, and a plan that converges slowly is farther than that from its limit.
        return by_autograd(lambda **leaves: self.weight * self._value(leaves), self._numbers(), 1e5 if self.loss == "Sinkhorn" else 1.0)

    def _value(self, n):
        if self.loss == "InfoNCE":
            x = n["a0"]
            z = (x + 0.1).sin() + 0.5 * x
            score = lambda i, j: _score(n["matrix"], x[i : i + 1], z[j : j + 1]).squeeze(0)  # noqa: E731
            count, total = len(x), torch.zeros(())
            for i in range(count):
                others = [score(j, i) if self.number < 1 else score(i, j) for j in range(count)]
                total = total + score(i, i) - torch.stack(others).logsumexp(0) + math.log(count)
            return total / count
        u = n["a0"] @ n["matrix"] if self.mapped else n["a0"]
        x = u + 0.3 * u.sin() if self.mapped else u
        y = n["b0"]
        if self.variables == 2:
            x, y = torch.cat([x, n["a1"]], -1), torch.cat([y, n["b1"]], -1)
        return {"MMD": self._mmd, "EnergyDistance": self._energy, "Wasserstein": self._wasserstein, "Sinkhorn": self._sinkhorn}[self.loss](
            x, y
        )

    def _mmd(self, x, y):
        s = self._bandwidths()
        kernels = {"gaussian": lambda d, s: (-d / (2 * s)).exp(), "inverse_multiquadric": lambda d, s: s / (s + d)}
        k = lambda a, b: sum(kernels[self.option]((a - b).square().sum(), t) for t in (s if isinstance(s, list) else [s]))  # noqa: E731
        return _pairs(k, x, y)

    def _energy(self, x, y):
        return _pairs(lambda a, b: -_distance(a, b), x, y)

    def _wasserstein(self, x, y):
        order, common = float(self.option), math.lcm(len(x), len(y))
        a, b = x.repeat_interleave(common // len(x), 0), y.repeat_interleave(common // len(y), 0)
        cost = (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(-1).sqrt() ** order
        plans = torch.tensor(list(itertools.permutations(range(common))))
        costs = cost[torch.arange(common), plans].mean(-1)
        return costs.min() ** (1 / order)

    def _sinkhorn(self, x, y):
        return self._entropic(x, y) - 0.5 * (self._entropic(x, x) + self._entropic(y, y))

    def _entropic(self, x, y):
        cost = torch.stack([torch.stack([_distance(a, b) ** float(self.option) for b in y]) for a in x])
        kernel = np.exp(-cost.detach().numpy() / self.number) / cost.numel()
        a, b = 1 / len(x), 1 / len(y)
        v = np.ones(len(y))
        for _ in range(4000):
            u = a / (kernel @ v)
            new = b / (kernel.T @ u)
            v, moved = new, np.abs(new / v - 1).max()
            if moved < 1e-15:
                break
        plan = torch.from_numpy(u[:, None] * kernel * v)
        return (plan * cost).sum() + self.number * (plan * (plan * cost.numel()).log()).sum()


class _Positional(nn.Module):
    """A function of one variable of any name."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def _distance(a, b):
    square = (a - b).square().sum()
    return torch.zeros(()) if square == 0 else square.sqrt()


def _pairs(k, x, y):
    """E[k(x,x')] + E[k(y,y')] - 2E[k(x,y)] over pairs of different places."""
    within = lambda s: sum(k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / (len(s) * (len(s) - 1))  # noqa: E731
    return within(x) + within(y) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


@dataclass(frozen=True)
class Correlated(Case):
    """The total correlation of q(z|x), a normal distribution of two features, over a batch: the mean over its draws, by quadrature.

    Attributes:
        seed: of all numbers.
        batch: M.
        dataset_size: N.
        estimator: how the densities are estimated.
    """

    seed: int
    batch: int
    dataset_size: int
    estimator: str

    exact = False
    copies = 1

    def at(self, seed):
        """Neither N nor the estimator is printed."""
        return None

    def _numbers(self):
        return {"x": 0.5 * torch.randn(self.batch, 2, generator=generator(self.seed, "x")).clamp(-2, 2), "s": torch.tensor([0.8, 1.1])}

    def build(self, copies=1):
        numbers = self._numbers()
        leaves = {"x": numbers["x"].requires_grad_(), "s": nn.Parameter(numbers["s"])}
        q = Normal("q(z|x)", loc="x", scale=leaves["s"])
        return Built(losses.TotalCorrelation(q, self.dataset_size, estimator=self.estimator), {"x": leaves["x"]}, leaves)

    def truth(self):
        return by_autograd(self._value, self._numbers())

    def _value(self, x, s):
        m, n, total = self.batch, self.dataset_size, torch.zeros(())
        for i in range(m):
            params = {"loc": x[i].reshape(2, 1), "scale": s.reshape(2, 1)}
            z, w = families.points("Normal", params, "path", 16)
            first, second = torch.meshgrid(z[0, :, 0], z[1, :, 0], indexing="ij")
            each = []
            for j in range(m):
                part = [
                    families.log_density("Normal", {"loc": x[j, d], "scale": s[d]}, t.unsqueeze(-1)) for d, t in ((0, first), (1, second))
                ]
                own = math.log(1 / (n * m)) if self.estimator == "weighted" else math.log(1 / n if i == j else (n - 1) / (n * (m - 1)))
                each.append((part[0], part[1], own))
            joint = torch.stack([a + b + w for a, b, w in each]).logsumexp(0)
            product = torch.stack([a + w for a, _, w in each]).logsumexp(0) + torch.stack([b + w for _, b, w in each]).logsumexp(0)
            total = total + ((joint - product) * w.unsqueeze(-1) * w).sum() / m
        return total


@st.composite
def cases(draw):
    seed = draw(st.integers(0, 2**32 - 1))
    loss = draw(st.sampled_from(("MMD", "EnergyDistance", "Wasserstein", "Wasserstein", "Sinkhorn", "InfoNCE", "InfoNCE", "correlation")))
    if loss == "correlation":
        batch = draw(st.integers(2, 3))
        if draw(st.integers(0, 3)):
            loss = "MMD"
        else:
            return Correlated(seed, batch, batch + draw(st.integers(0, 5)), draw(st.sampled_from(("stratified", "weighted"))))
    sizes = draw(st.sampled_from(((2, 2), (3, 3), (2, 4), (4, 2), (2, 3), (4, 4))))
    variables = 1 if loss == "InfoNCE" else draw(st.integers(1, 2))
    option, number = "1", 0.5
    if loss == "MMD":
        option, number = draw(st.sampled_from(("gaussian", "inverse_multiquadric"))), draw(st.sampled_from((0.7, 2.0)))
    elif loss == "Wasserstein":
        option = draw(st.sampled_from(("1", "2", "3")))
    elif loss == "Sinkhorn":
        option, number = draw(st.sampled_from(("1", "2"))), draw(st.sampled_from((2.0, 5.0)))
    elif loss == "InfoNCE":
        option, number = draw(st.sampled_from(("function", "distribution"))), draw(st.sampled_from((0.5, 1.0)))
    mapped = loss != "InfoNCE" and draw(st.booleans())
    return Compared(seed, sizes, draw(st.integers(1, 2)), variables, loss, option, number, mapped, draw(st.sampled_from((1.0, 0.5))))
