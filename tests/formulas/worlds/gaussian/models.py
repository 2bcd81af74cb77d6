"""Linear-Gaussian models and mixtures of them: what they are, what they are in the library, and their dense densities.

The truth knows nothing of factors: mean and covariance of all variables are stacked, and every density is that of a part of them, for
each choice of the finite variables.
"""

import functools
import itertools
import math
import operator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixyz.distributions import Affine, Categorical, Components, Deterministic, LowRankMultivariateNormal, MultivariateNormal, Normal

from ...weights import Copied, Weights


@dataclass(frozen=True)
class Leaf:
    """One conditional, p(v|...), which may stand in several places.

    Attributes:
        size: the number of features.
        parents: the sizes of the variables that it is linear in.
        mean: `"linear"`, `"flat"` without a bias, `"affine"`, `"same"` as its parent; `"number"`, `"constant"` or `"trained"` without
            parents; `"bent"`, a network of u that is not linear; `"named"`, the given variable m.
        spread: `"number"`, `"vector"`, `"trained"`, `"network"` of u; `"covariance"`, `"precision"`, `"tril"`, `"low rank"`.
        choices: how many components a finite variable chooses from; 0 for none.
        given: whether u stands behind its bar.
    """

    size: int
    parents: tuple[int, ...] = ()
    mean: str = "number"
    spread: str = "number"
    choices: int = 0
    given: bool = False


@dataclass(frozen=True)
class Node:
    """A variable and its leaf.

    Attributes:
        name: of the variable.
        leaf: its number.
        parents: the variables that it is linear in.
        chooser: the finite variable that chooses its component.
    """

    name: str
    leaf: int
    parents: tuple[str, ...] = ()
    chooser: str = ""


@dataclass(frozen=True)
class Finite:
    """A finite variable: its name, its number of values, and `"probs"`, `"logits"` that are trained, or a `"network"` of the input."""

    name: str
    size: int
    how: str = "logits"


@dataclass(frozen=True)
class Model:
    """A model: its leaves, its variables, parents first, and the finite ones.

    Attributes:
        leaves: the conditionals.
        nodes: the variables.
        finite: the finite variables.
        inputs: the number of features of u.
        computed: how the leaves' input is made of u: `""`, it is u; else it is h, `"linear"` or `"bent"` in u.
        backwards: whether the product is written from the children to the parents.
    """

    leaves: tuple[Leaf, ...]
    nodes: tuple[Node, ...]
    finite: tuple[Finite, ...] = ()
    inputs: int = 1
    computed: str = ""
    backwards: bool = True

    @property
    def input_name(self) -> str:
        """What leaves call their input."""
        return "h" if self.computed else "u"

    @property
    def uses_input(self) -> bool:
        """Whether anything depends on u."""
        return any(self.leaves[n.leaf].given for n in self.nodes) or any(f.how == "network" for f in self.finite)

    @property
    def sizes(self) -> dict[str, int]:
        """The number of features of each Gaussian variable."""
        return {n.name: self.leaves[n.leaf].size for n in self.nodes}

    def kind(self, name: str) -> tuple[str, int]:
        """Whether a variable is "real" or "finite", and its number of features."""
        found = next((f for f in self.finite if f.name == name), None)
        return ("finite", found.size) if found else ("real", self.sizes[name])

    @property
    def fixed(self) -> tuple[str, ...]:
        """The variables on which components depend: these are not known to be linear together, so nothing above them is hidden."""
        return tuple(dict.fromkeys(v for n in self.nodes if n.chooser for v in n.parents))


class Bent(nn.Module):
    """tanh(A t + b), of which the library knows nothing."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, t):
        return self.net(t).tanh()


class OfU(Bent):
    """exp(A u + b), or tanh, of the variable u alone."""

    def forward(self, u):
        return self.net(u).exp()


class OfH(Bent):
    """The same of h."""

    def forward(self, h):
        return self.net(h).exp()


class BentOfU(Bent):
    def forward(self, u):
        return self.net(u).tanh()


class BentOfH(Bent):
    def forward(self, h):
        return self.net(h).tanh()


def build(model: Model, w: Copied):
    """The model in the library, a product of its conditionals."""
    uses = [n.leaf for n in model.nodes]
    made, factors = {}, []
    for node in model.nodes:
        leaf = model.leaves[node.leaf]
        if uses.count(node.leaf) == 1:
            factors.append(_conditional(leaf, f"l{node.leaf}", node.name, node.parents, node.chooser, model, w))
            continue
        formal = (f"v{node.leaf}", *[f"{c}{node.leaf}" for c in "st"[: len(node.parents)]])
        if node.leaf not in made:
            made[node.leaf] = _conditional(leaf, f"l{node.leaf}", formal[0], formal[1:], node.chooser, model, w)
        factors.append(made[node.leaf].replace_var(**dict(zip(formal, (node.name, *node.parents)))))
    for f in model.finite:
        factors.insert(0, finite(f, "p", model, w))
    if model.computed and model.uses_input:
        net = w.linear("h", model.inputs, model.inputs)
        factors.insert(0, Deterministic("f(h|u)", h=net if model.computed == "linear" else Bent(net)))
    return functools.reduce(operator.mul, factors[::-1] if model.backwards else factors)


def finite(f: Finite, letter: str, model: Model, w: Copied):
    """p(k), or p(k|u)."""
    name = f"{letter} {f.name}"
    if f.how == "probs":
        probs = w.constant(name, f.size).softmax(0)
        return Categorical(f"{letter}({f.name})", probs=probs)
    if f.how == "logits":
        return Categorical(f"{letter}({f.name})", logits=w(name, f.size))
    given = model.input_name if letter == "p" else "u"
    return Categorical(f"{letter}({f.name}|{given})", logits=w.linear(name, model.inputs, f.size))


def _conditional(leaf: Leaf, name: str, var: str, parents, chooser: str, model: Model, w: Copied):
    given = (*parents, *([model.input_name] if leaf.given else []))
    text = f"p({var}|{','.join(given)})" if given else f"p({var})"
    if not leaf.choices:
        return family_of(leaf, name, text, parents, model, w)
    parts = [family_of(leaf, f"{name}.{j}", text, parents, model, w) for j in range(leaf.choices)]
    return Components(parts, chooser)


def family_of(leaf: Leaf, name: str, text: str, parents, model: Model, w: Copied):
    n, u = leaf.size, model.inputs
    bent_of, spread_of = (BentOfH, OfH) if model.computed else (BentOfU, OfU)
    params = {
        "number": lambda: w.constant(f"{name}.loc").item(),
        "constant": lambda: w.constant(f"{name}.loc", n),
        "trained": lambda: w(f"{name}.loc", n),
        "bent": lambda: bent_of(w.linear(f"{name}.loc u", u, n)),
        "linear": lambda: w.linear(f"{name}.loc {0}", leaf.parents[0], n),
        "flat": lambda: w.linear(f"{name}.loc {0}", leaf.parents[0], n, bias=False),
        "same": lambda: parents[0],
        "affine": lambda: _affine(leaf, name, parents, model, w),
        "named": lambda: "m",
    }
    spreads = {
        "number": lambda: {"scale": w.constant(f"{name}.scale", kind="positive").item()},
        "vector": lambda: {"scale": w.constant(f"{name}.scale", n, kind="positive")},
        "trained": lambda: {"scale": w(f"{name}.scale", n, kind="positive")},
        "network": lambda: {"scale": spread_of(w.linear(f"{name}.scale u", u, n))},
        "covariance": lambda: {"covariance_matrix": w(f"{name}.scale", n, kind="covariance")},
        "precision": lambda: {"precision_matrix": w.constant(f"{name}.scale", n, kind="covariance")},
        "tril": lambda: {"scale_tril": w(f"{name}.scale", n, kind="tril")},
        "low rank": lambda: {"cov_factor": w(f"{name}.factor", n, 1), "cov_diag": w(f"{name}.diag", n, kind="positive")},
    }
    families = {"covariance": MultivariateNormal, "precision": MultivariateNormal, "tril": MultivariateNormal}
    family = families.get(leaf.spread, LowRankMultivariateNormal if leaf.spread == "low rank" else Normal)
    options = {"dim": n} if leaf.mean == "number" and leaf.spread == "number" else {}
    return family(text, loc=params[leaf.mean](), **spreads[leaf.spread](), **options)


def _affine(leaf: Leaf, name: str, parents, model: Model, w: Copied):
    sizes = dict(zip(parents, leaf.parents))
    if leaf.given:
        sizes[model.input_name] = model.inputs
    net = Affine(leaf.size, bias=leaf.spread != "vector", **sizes)
    for i, v in enumerate(sizes):
        at = "u" if v == model.input_name else i
        net.maps[v].weight = w(f"{name}.loc {at}.weight", leaf.size, sizes[v])
    if net.bias is not None:
        net.bias = w(f"{name}.bias", leaf.size)
    return net


# The truth


class Dense:
    """The densities of a model, from the mean and the covariance of all its variables.

    Args:
        model: the model.
        w: its numbers.
        u: its input, `(B, inputs)`.

    Attributes:
        size: the largest log-density so far, of which a posterior's is a difference.
    """

    def __init__(self, model: Model, w: Weights, u: Tensor) -> None:
        self.model, self.w, self.u = model, w, u
        self.input = self._computed(u) if model.uses_input else u
        self.size = 1.0
        self.choices = list(itertools.product(*[range(f.size) for f in model.finite]))
        self._stacked: dict[tuple[int, ...], tuple[Tensor, Tensor, dict[str, slice]]] = {}

    def log_density(self, values: dict[str, Tensor]) -> Tensor:
        """log p of these variables given u, all others summed and integrated out, `(B,)`; finite ones are one-hot."""
        return self.by_choice(values).logsumexp(-1)

    def by_choice(self, values: dict[str, Tensor]) -> Tensor:
        """log p of these variables and of each choice of the finite ones, `(B, choices)`."""
        names = [n.name for n in self.model.nodes if n.name in values]
        found = []
        for choice in self.choices:
            total = self._log_weight(choice, values)
            if names:
                mean, cov, at = self.stacked(choice)
                index = torch.cat([torch.arange(at[v].start, at[v].stop) for v in names])
                x = torch.cat([values[v] for v in names], -1)
                log_density = normal(x, mean[..., index], cov[..., index, :][..., index])
                self.size = max(self.size, log_density.detach().abs().max().item())
                total = total + log_density
            found.append(total)
        return torch.stack(torch.broadcast_tensors(*found), -1)

    def moments(self, name: str, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """E and Var of one Gaussian variable given these and u, `(B, features)`."""
        names = [n.name for n in self.model.nodes if n.name in values]
        weights = self.by_choice(values).softmax(-1)
        first, second = 0, 0
        for i, choice in enumerate(self.choices):
            mean, cov, at = self.stacked(choice)
            own = at[name]
            m, c = mean[..., own], cov[..., own, own]
            if names:
                index = torch.cat([torch.arange(at[v].start, at[v].stop) for v in names])
                x = torch.cat([values[v] for v in names], -1)
                gain = torch.linalg.solve(cov[..., index, :][..., index], cov[..., index, own]).mT
                m = m + (gain @ (x - mean[..., index]).unsqueeze(-1)).squeeze(-1)
                c = c - gain @ cov[..., index, own]
            p = weights[..., i : i + 1]
            first = first + p * m
            second = second + p * (c.diagonal(dim1=-2, dim2=-1) + m.square())
        return first, second - first.square()

    def log_prior(self, f: Finite, letter: str = "p") -> Tensor:
        """log p of the values of a finite variable, `(size,)` or `(B, size)`."""
        name = f"{letter} {f.name}"
        if f.how == "probs":
            return self.w(name, f.size, trained=False).log_softmax(-1)
        if f.how == "logits":
            return self.w(name, f.size).log_softmax(-1)
        given = self.input if letter == "p" else self.u
        return self._linear(name, given, self.model.inputs, f.size).log_softmax(-1)

    def _log_weight(self, choice, values):
        total = torch.zeros((), dtype=torch.float64)
        for f, i in zip(self.model.finite, choice):
            total = total + self.log_prior(f)[..., i]
            if f.name in values:
                total = torch.where(values[f.name][..., i] > 0, total, -math.inf)
        return total

    def stacked(self, choice) -> tuple[Tensor, Tensor, dict[str, slice]]:
        """The mean `(B or 1, D)`, the covariance and the place of each variable, for one choice of the finite ones."""
        if choice in self._stacked:
            return self._stacked[choice]
        chosen = dict(zip([f.name for f in self.model.finite], choice))
        mean = torch.zeros(1, 0, dtype=torch.float64)
        cov = torch.zeros(1, 0, 0, dtype=torch.float64)
        at: dict[str, slice] = {}
        for node in self.model.nodes:
            leaf = self.model.leaves[node.leaf]
            name = f"l{node.leaf}" + (f".{chosen[node.chooser]}" if leaf.choices else "")
            offset, maps, noise = self.parts(leaf, name)
            a = torch.zeros(leaf.size, mean.shape[-1], dtype=torch.float64)
            for v, m in zip(node.parents, maps):
                place = at[v]
                a = a + torch.nn.functional.pad(m, (place.start, mean.shape[-1] - place.stop))
            own = offset + mean @ a.T
            across = a @ cov
            top, noise = torch.broadcast_tensors(across @ a.T, noise)
            batch = torch.broadcast_shapes(cov.shape[:-2], noise.shape[:-2])
            cov, across, corner = (t.expand(*batch, *t.shape[-2:]) for t in (cov, across, top + noise))
            at[node.name] = slice(mean.shape[-1], mean.shape[-1] + leaf.size)
            cov = torch.cat([torch.cat([cov, across.mT], -1), torch.cat([across, corner], -1)], -2)
            both = torch.broadcast_shapes(mean.shape[:-1], own.shape[:-1])
            mean = torch.cat([mean.expand(*both, -1), own.expand(*both, -1)], -1)
        self._stacked[choice] = mean, cov, at
        return self._stacked[choice]

    def _computed(self, u):
        if not self.model.computed:
            return u
        h = self._linear("h", u, self.model.inputs, self.model.inputs)
        return h if self.model.computed == "linear" else h.tanh()

    def _linear(self, name, t, inputs, outputs):
        return t @ self.w(f"{name}.weight", outputs, inputs).T + self.w(f"{name}.bias", outputs)

    def parts(self, leaf: Leaf, name: str) -> tuple[Tensor, list[Tensor], Tensor]:
        """The mean's offset `(B or 1, n)`, the maps of the parents, and the covariance of the noise."""
        w, n, u = self.w, leaf.size, self.model.inputs
        maps = [torch.ones(n, m, dtype=torch.float64) if m == 1 else torch.eye(n, dtype=torch.float64) for m in leaf.parents]
        offset = torch.zeros(1, n, dtype=torch.float64)
        if leaf.mean == "number":
            offset = w(f"{name}.loc", trained=False).expand(1, n)
        elif leaf.mean in ("constant", "trained"):
            offset = w(f"{name}.loc", n, trained=leaf.mean == "trained").expand(1, n)
        elif leaf.mean == "bent":
            offset = self._linear(f"{name}.loc u", self.input, u, n).tanh()
        elif leaf.mean in ("linear", "flat", "affine"):
            maps = [w(f"{name}.loc {i}.weight", n, m) for i, m in enumerate(leaf.parents)]
            if leaf.mean == "linear":
                offset = w(f"{name}.loc 0.bias", n).expand(1, n)
            elif leaf.mean == "affine":
                offset = 0 if leaf.spread == "vector" else w(f"{name}.bias", n)
                if leaf.given:
                    offset = offset + self.input @ w(f"{name}.loc u.weight", n, u).T
                offset = torch.zeros(1, n, dtype=torch.float64) + offset
        return offset, maps, self._noise(leaf, name)

    def _noise(self, leaf: Leaf, name: str) -> Tensor:
        w, n = self.w, leaf.size
        if leaf.spread == "number":
            return (w(f"{name}.scale", kind="positive", trained=False) ** 2 * torch.eye(n, dtype=torch.float64)).unsqueeze(0)
        if leaf.spread in ("vector", "trained"):
            return (w(f"{name}.scale", n, kind="positive", trained=leaf.spread == "trained") ** 2).diag().unsqueeze(0)
        if leaf.spread == "network":
            return torch.diag_embed((2 * self._linear(f"{name}.scale u", self.input, self.model.inputs, n)).exp())
        if leaf.spread == "low rank":
            factor = w(f"{name}.factor", n, 1)
            return (factor @ factor.T + w(f"{name}.diag", n, kind="positive").diag()).unsqueeze(0)
        if leaf.spread == "tril":
            tril = w(f"{name}.scale", n, kind="tril").tril()
            return (tril @ tril.T).unsqueeze(0)
        trained = leaf.spread == "covariance"
        matrix = w(f"{name}.scale", n, kind="covariance", trained=trained)
        matrix = (matrix + matrix.T) / 2  # as its gradient is symmetric in the library
        return (matrix if trained else torch.linalg.inv(matrix)).unsqueeze(0)


def normal(x: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
    """log N(x; mean, cov), `(B,)`."""
    tril = torch.linalg.cholesky(cov)
    gap = torch.linalg.solve_triangular(tril, (x - mean).unsqueeze(-1), upper=False).squeeze(-1)
    return -0.5 * (gap.square().sum(-1) + x.shape[-1] * math.log(2 * math.pi)) - tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
