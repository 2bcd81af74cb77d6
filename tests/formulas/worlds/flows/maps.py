"""Distributions that flows make, of random layers, against the Jacobian of the whole map.

The maps are written anew from their formulas, without log-determinants: these are of the Jacobian of the whole map, by automatic
differentiation. A planar step, whose inverse has no closed form, is asked for in the direction that it has. A bound over what a flow draws
is held against a quadrature over the noise.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pixyz.distributions import Normal
from pixyz.flows import (
    ActNorm,
    AffineMap,
    Chain,
    Coupling,
    InverseTransformedDistribution,
    LULinear,
    MaskedAutoregressive,
    Permutation,
    Planar,
    Radial,
    Reverse,
    Scale,
    ShiftMap,
    Sigmoid,
    SplineMap,
    TransformedDistribution,
    from_transform,
)

from ...weights import Copied, Weights

BINS, BOUND, SMALLEST = 2, 2.0, 1e-3


@dataclass(frozen=True)
class Layer:
    """A bijection.

    Attributes:
        kind: `"actnorm"`, `"lu"`, `"permutation"`, `"reverse"`, `"scale"`, `"coupling"`, `"autoregressive"`, `"planar"`, `"radial"`.
        map: of a coupling or an autoregressive layer: `"affine"`, `"shift"` or `"spline"`.
        swap: whether the coupling maps the first features, or the order is reversed.
        context: whether it sees the context u.
        inverted: whether it is taken the other way round.
        mask: of a coupling.
    """

    kind: str
    map: str = "affine"
    swap: bool = False
    context: bool = False
    inverted: bool = False
    mask: str = "halves"


MAPS = {"affine": AffineMap, "shift": ShiftMap, "spline": lambda: SplineMap(BINS, BOUND, smallest=SMALLEST)}
SIZES = {"affine": 2, "shift": 1, "spline": 3 * BINS - 1}


def build_layer(layer: Layer, name: str, n: int, w: Copied):
    """The layer in the library, with all its numbers replaced."""
    context = 2 if layer.context else 0
    if layer.kind == "actnorm":
        f = ActNorm(n)
        f.shift, f.log_scale = w(f"{name}.shift", n), w(f"{name}.log_scale", n)
        f.started.fill_(True)
    elif layer.kind == "lu":
        f = LULinear(n, seed=0)
        f.factors, f.bias = w(f"{name}.factors", n, n), w(f"{name}.bias", n)
        f.order, f.signs = _order(n), _signs(n)
    elif layer.kind == "permutation":
        f = Permutation(n, order=_order(n).tolist())
    elif layer.kind == "reverse":
        f = Reverse(n)
    elif layer.kind == "scale":
        f = Scale(-1.5, w.constant(f"{name}.shift", n), shape=n)
    elif layer.kind == "coupling":
        net = partial(w.linear, f"{name}.net")
        f = Coupling(n, map=MAPS[layer.map](), mask=layer.mask, swap=layer.swap, context=context, network=net)
    elif layer.kind == "autoregressive":
        f = MaskedAutoregressive(n, map=MAPS[layer.map](), order="reverse" if layer.swap else "forward", context=context, hidden=[])
        (last,) = f.layers
        size = SIZES[layer.map]
        last.weight, last.bias = w(f"{name}.weight", n * size, context + n), w(f"{name}.bias", n * size)
    else:
        f = (Planar if layer.kind == "planar" else Radial)(n)
        f.params = w(f"{name}.params", sum(f.sizes))
    return f.inverse if layer.inverted else f


def _order(n: int) -> Tensor:
    return torch.tensor([*range(1, n), 0])


def _signs(n: int) -> Tensor:
    return torch.tensor([(-1.0) ** i for i in range(n)])


def _split(n: int, layer: Layer) -> tuple[list[int], list[int]]:
    """The features that a coupling keeps, and those that it maps."""
    if layer.mask == "checkerboard":
        kept = [i for i in range(n) if i % 2 == int(layer.swap)]
        return kept, [i for i in range(n) if i not in kept]
    half, rest = [*range(n // 2)], [*range(n // 2, n)]
    return (rest, half) if layer.swap else (half, rest)


class Map:
    """A layer written anew, of values `(N, n)`.

    Args:
        layer: the layer.
        name: of its numbers.
        n: the features.
        w: the numbers.
        u: the context, `(N, 2)`.
    """

    def __init__(self, layer: Layer, name: str, n: int, w: Weights, u: Tensor) -> None:
        self.layer, self.name, self.n, self.w, self.u = layer, name, n, w, u

    def __call__(self, x: Tensor, forwards: bool) -> Tensor:
        return getattr(self, f"_{self.layer.kind}")(x, forwards != self.layer.inverted)

    def _actnorm(self, x, forwards):
        shift, log_scale = self.w(f"{self.name}.shift", self.n), self.w(f"{self.name}.log_scale", self.n)
        return (x + shift) * log_scale.exp() if forwards else x / log_scale.exp() - shift

    def _lu(self, x, forwards):
        n, factors = self.n, self.w(f"{self.name}.factors", self.n, self.n)
        lower = torch.tril(factors, -1) + torch.eye(n)
        upper = torch.triu(factors, 1) + torch.diag(_signs(n) * torch.diagonal(factors).exp())
        p = torch.zeros(n, n)
        p[torch.arange(n), _order(n)] = 1.0
        matrix, bias = p @ lower @ upper, self.w(f"{self.name}.bias", n)
        return x @ matrix.T + bias if forwards else (x - bias) @ torch.linalg.inv(matrix).T

    def _permutation(self, x, forwards):
        order = _order(self.n)
        return x[:, order if forwards else order.argsort()]

    def _reverse(self, x, forwards):
        return torch.stack([x[:, self.n - 1 - i] for i in range(self.n)], 1)

    def _scale(self, x, forwards):
        shift = self.w(f"{self.name}.shift", self.n, trained=False)
        return -1.5 * x + shift if forwards else (x - shift) / -1.5

    def _coupling(self, x, forwards):
        kept, mapped = _split(self.n, self.layer)
        size = SIZES[self.layer.map]
        if self.layer.mask == "checkerboard":
            seen = torch.stack([x[:, i] if i in kept else torch.zeros(len(x)) for i in range(self.n)], 1)
            outputs = [*range(self.n)]
        else:
            seen, outputs = x[:, kept], mapped
        h = torch.cat([seen, self.u], 1) if self.layer.context else seen
        weight = self.w(f"{self.name}.net.weight", len(outputs) * size, h.shape[1])
        params = (h @ weight.T + self.w(f"{self.name}.net.bias", len(outputs) * size)).reshape(len(x), len(outputs), size)
        found = {i: _mapped(self.layer.map, x[:, i], params[:, outputs.index(i)], forwards) for i in mapped}
        return torch.stack([found.get(i, x[:, i]) for i in range(self.n)], 1)

    def _autoregressive(self, x, forwards):
        n, size, start = self.n, SIZES[self.layer.map], 2 if self.layer.context else 0
        weight, bias = self.w(f"{self.name}.weight", n * size, start + n), self.w(f"{self.name}.bias", n * size)
        order = [*range(n)][::-1] if self.layer.swap else [*range(n)]
        known, after = {}, {}
        for at, i in enumerate(order):
            rows = slice(i * size, (i + 1) * size)
            params = bias[rows].expand(len(x), size)
            if start:
                params = params + self.u @ weight[rows, :start].T
            for j in order[:at]:
                params = params + known[j].unsqueeze(1) * weight[rows, start + j]
            after[i] = _mapped(self.layer.map, x[:, i], params, forwards)
            known[i] = x[:, i] if forwards else after[i]
        return torch.stack([after[i] for i in range(n)], 1)

    def _planar(self, x, forwards):
        n, params = self.n, self.w(f"{self.name}.params", 2 * self.n + 1)
        u, along, b = params[:n], params[n : 2 * n], params[2 * n]
        inner = (along * u).sum()
        least = LEAST + (1 - LEAST) * (1 + (inner + AT_ZERO).exp()).log()
        u = u + (least - 1 - inner) * along / (along * along).sum()
        return x + torch.outer(torch.tanh(x @ along + b), u)

    def _radial(self, x, forwards):
        n, params = self.n, self.w(f"{self.name}.params", self.n + 2)
        centre, alpha, longer = params[:n], (1 + (params[n] + AT_ZERO).exp()).log(), (1 + (params[n + 1] + AT_ZERO).exp()).log()
        beta = (1 - LEAST) * alpha * (longer - 1)
        away = x - centre
        length = (away * away).sum(1, keepdim=True).sqrt()
        if forwards:
            return x + beta * away / (alpha + length)
        b = alpha + beta - length  # r (1 + β / (α + r)) = |y - x₀|
        r = ((b * b + 4 * alpha * length).sqrt() - b) / 2
        return centre + away * (r / length)


LEAST, AT_ZERO = 1e-3, math.log(math.e - 1)
"""How far planar and radial steps stay from the edge, and where softplus is 1."""


def _mapped(kind: str, x: Tensor, params: Tensor, forwards: bool) -> Tensor:
    """A map of numbers `(N,)`, with parameters `(N, size)`."""
    if kind == "shift":
        return x + params[:, 0] if forwards else x - params[:, 0]
    if kind == "affine":
        bound = -math.log(SMALLEST)
        s = bound * torch.tanh(params[:, 1] / bound)
        return x * s.exp() + params[:, 0] if forwards else (x - params[:, 0]) / s.exp()
    return _spline(x, params, forwards)


def _spline(x: Tensor, params: Tensor, forwards: bool) -> Tensor:
    """Durkan et al. (2019), eq. 4, on [-2, 2]; the inverse by the quadratic equation, eq. 6 to 8."""
    rate = -1 / math.log(SMALLEST)
    sizes = params[:, : 2 * BINS] / (1 + params[:, : 2 * BINS].abs() * 2 * rate)
    slopes = params[:, 2 * BINS :] / (1 + params[:, 2 * BINS :].abs() * rate)
    d = torch.nn.functional.pad(slopes.exp(), (1, 1), value=1.0)
    widths, heights = 2 * BOUND * sizes[:, :BINS].softmax(1), 2 * BOUND * sizes[:, BINS:].softmax(1)
    at_x = torch.nn.functional.pad(widths.cumsum(1), (1, 0)) - BOUND
    at_y = torch.nn.functional.pad(heights.cumsum(1), (1, 0)) - BOUND
    k = ((at_x if forwards else at_y)[:, 1:-1] <= x.unsqueeze(1)).sum(1, keepdim=True)
    here = [t.gather(1, i).squeeze(1) for t, i in ((widths, k), (heights, k), (at_x, k), (at_y, k), (d, k), (d, k + 1))]
    width, height, left, bottom, d0, d1 = here
    s = height / width
    inside = x.abs() < BOUND
    t = torch.where(inside, x, 0.0)
    t = torch.where(inside, t, (left + width / 2 if forwards else bottom + height / 2).detach())
    if forwards:
        xi = (t - left) / width
        y = bottom + height * (s * xi**2 + d0 * xi * (1 - xi)) / (s + (d1 + d0 - 2 * s) * xi * (1 - xi))
        return torch.where(inside, y, x)
    gap, bent = t - bottom, d1 + d0 - 2 * s
    a, b, c = height * (s - d0) + gap * bent, height * d0 - gap * bent, -s * gap
    return torch.where(inside, left + width * 2 * c / (-b - (b * b - 4 * a * c).sqrt()), x)


ENDS = ("", "logit", "margin", "exp")
"""What stands between the layers and the data: nothing, or a map from all numbers to (0, 1), a little beyond, or above 0."""


def build_end(end: str):
    """The map from numbers to data."""
    return from_transform(torch.distributions.ExpTransform()) if end == "exp" else Sigmoid(0.05 if end == "margin" else 0.0)


def _end(end: str, t: Tensor, to_data: bool) -> Tensor:
    if end == "exp":
        return t.exp() if to_data else t.log()
    a = 0.05 if end == "margin" else 0.0
    return (1 / (1 + torch.exp(-t)) - a) / (1 - 2 * a) if to_data else torch.log((a + (1 - 2 * a) * t) / (1 - a - (1 - 2 * a) * t))


@dataclass(frozen=True)
class Flow:
    """A distribution made by a flow.

    Attributes:
        size: the number of features.
        layers: the layers.
        generates: whether they map noise to data, as in a `TransformedDistribution`; else data to noise.
        end: one of `ENDS`, on the side of the data.
        conditional: whether the noise depends on u, beside layers that do.
    """

    size: int
    layers: tuple[Layer, ...]
    generates: bool
    end: str = ""
    conditional: bool = False

    @property
    def given(self) -> bool:
        return self.conditional or any(layer.context for layer in self.layers)

    def build(self, var: str, context: str, w: Copied, name: str):
        n = self.size
        layers = [build_layer(layer, f"{name}.{i}", n, w) for i, layer in enumerate(self.layers)]
        if self.end:
            end = build_end(self.end)
            layers = [*layers, end] if self.generates else [end.inverse, *layers]
        bar = f"|{context}" if self.given else ""
        loc = w.linear(f"{name}.loc", 2, n) if self.conditional else w(f"{name}.loc", n)
        noise = Normal(f"n(e|{context})" if self.conditional else "n(e)", loc=loc, scale=w(f"{name}.scale", n, kind="positive"))
        kind = TransformedDistribution if self.generates else InverseTransformedDistribution
        return kind(noise, Chain(layers), f"p{name}({var}{bar})")

    def to_noise(self, x: Tensor, w: Weights, u: Tensor, name: str) -> Tensor:
        x = _end(self.end, x, False) if self.end else x
        return self._through(x, w, u, name, not self.generates)

    def to_data(self, e: Tensor, w: Weights, u: Tensor, name: str) -> Tensor:
        x = self._through(e, w, u, name, self.generates)
        return _end(self.end, x, True) if self.end else x

    def _through(self, x, w, u, name, forwards):
        maps = [Map(layer, f"{name}.{i}", self.size, w, u) for i, layer in enumerate(self.layers)]
        for f in maps if forwards else maps[::-1]:
            x = f(x, forwards)
        return x

    def noise(self, w: Weights, u: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """The mean and the scale of the noise."""
        n = self.size
        loc = u @ w(f"{name}.loc.weight", n, 2).T + w(f"{name}.loc.bias", n) if self.conditional else w(f"{name}.loc", n)
        return loc, w(f"{name}.scale", n, kind="positive")

    def log_density(self, x: Tensor, w: Weights, u: Tensor, name: str) -> Tensor:
        e, log_det = with_jacobian(lambda t: self.to_noise(t, w, u, name), x)
        return _normal(e, *self.noise(w, u, name)) + log_det


def with_jacobian(f, x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) and the logarithm of the absolute determinant of its Jacobian, datum by datum."""
    x = x if x.requires_grad else x.detach().requires_grad_()
    y = f(x)
    rows = [torch.autograd.grad(y[:, i].sum(), x, create_graph=True)[0] for i in range(y.shape[1])]
    return y, torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet


def _normal(x, loc, scale):
    return (-0.5 * ((x - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
