# ruff: noqa: E501
"""Rows of pixyz.flows: every bijection in both directions, and every ready-made flow, its density and its draws."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import AffineTransform, ComposeTransform, SigmoidTransform, TanhTransform

from pixyz.core import Expectation, Loss
from pixyz.distributions import Distribution, Laplace, Normal
from pixyz.flows import (
    FFJORD,
    IAF,
    MAF,
    NSF,
    ActNorm,
    AffineMap,
    BatchNormFlow,
    Bijection,
    Chain,
    CircularSplineMap,
    ContinuousFlow,
    Coupling,
    Glow,
    InverseTransformedDistribution,
    InvertibleConv1x1,
    Logit,
    LULinear,
    MaskedAutoregressive,
    MonotoneMap,
    MultiScale,
    Permutation,
    Planar,
    Radial,
    RealNVP,
    Reverse,
    Scale,
    ShiftMap,
    Sigmoid,
    SplineMap,
    Squeeze,
    TransformedDistribution,
    dequantize,
    from_transform,
    testing,
)
from pixyz.losses import ELBO

from .row import BATCH, Row, differentiated, f64, free, wave

SMALL = {"hidden": [5]}
CONTEXT = wave(BATCH, 2, shift=3.0)


class Double(Bijection):
    """A bijection of one's own: y = 2 x."""

    def push(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return 2 * x, x.new_tensor(2.0).log() * x[0].numel()

    def pull(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return y / 2, -y.new_tensor(2.0).log() * y[0].numel()


class Stretch(MonotoneMap):
    """A map of one's own, y = exp(a) x."""

    size = 1

    def push(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        a = parameters[..., 0]
        return a.exp() * x, a

    def pull(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        a = parameters[..., 0]
        return (-a).exp() * y, -a


def angles(x: Tensor) -> Tensor:
    return torch.pi * torch.tanh(x)


def continuous(**options: Any) -> ContinuousFlow:
    return ContinuousFlow(2, time=0.5, **{"hidden": [5], "solver": "rk4", "steps": 4, **options})


# how it is made, the features, the context, and what brings numbers into the domain
BIJECTIONS: dict[str, tuple[Callable[[], Bijection], tuple[int, ...], int, Callable[[Tensor], Tensor]]] = {
    name: (case[0], case[1], case[2] if len(case) > 2 else 0, case[3] if len(case) > 3 else lambda x: x)
    for name, case in {
        "ActNorm": (lambda: ActNorm(3), (3,)),
        "ActNorm of constants": (lambda: ActNorm(3, trained=False), (3,)),
        "ActNorm of images": (lambda: ActNorm((2, 2, 2)), (2, 2, 2)),
        "Bijection of one's own": (lambda: Double(3), (3,)),
        "Chain": (lambda: Chain([ActNorm(4), Coupling(4, context=2, **SMALL), Permutation(4, seed=0), Coupling(4, **SMALL)]), (4,), 2),
        "ContinuousFlow, euler": (lambda: continuous(solver="euler"), (2,)),
        "ContinuousFlow, midpoint": (lambda: continuous(solver="midpoint"), (2,)),
        "ContinuousFlow, rk4": (lambda: continuous(), (2,)),
        "ContinuousFlow, rk4, a context": (lambda: continuous(context=2), (2,), 2),
        "ContinuousFlow, rk4, an estimated trace": (lambda: continuous(trace="hutchinson"), (2,)),
        "ContinuousFlow, dopri5": (lambda: continuous(solver="dopri5", tolerance=1e-3), (2,)),
        "ContinuousFlow, dopri5, adjoint": (lambda: continuous(solver="dopri5", tolerance=1e-3, adjoint=True), (2,)),
        "Coupling, shift": (lambda: Coupling(3, map=ShiftMap(), **SMALL), (3,)),
        "Coupling, affine": (lambda: Coupling(3, map=AffineMap(), **SMALL), (3,)),
        "Coupling, affine, a context": (lambda: Coupling(3, context=2, swap=True, **SMALL), (3,), 2),
        "Coupling, affine, checkerboard": (lambda: Coupling(4, mask="checkerboard", **SMALL), (4,)),
        "Coupling, affine, images": (lambda: Coupling((2, 2, 2), context=2, **SMALL), (2, 2, 2), 2),
        "Coupling, spline": (lambda: Coupling(3, map=SplineMap(4, 2.0), **SMALL), (3,)),
        "Coupling, circular spline": (lambda: Coupling(4, map=CircularSplineMap(4), context=2, **SMALL), (4,), 2, angles),
        "Coupling, a map of one's own": (lambda: Coupling(3, map=Stretch(), **SMALL), (3,)),
        "from_transform": (lambda: from_transform(ComposeTransform([AffineTransform(f64(0.5, 1.0), f64(2.0, -0.5)), SigmoidTransform()]), 2), (2,)),
        "from_transform of a tanh": (lambda: from_transform(TanhTransform(), 3), (3,)),
        "InvertibleConv1x1": (lambda: InvertibleConv1x1((3, 2, 1), seed=0), (3, 2, 1)),
        "LULinear": (lambda: LULinear(4, seed=0), (4,)),
        "Logit": (lambda: Logit(), (3,), 0, torch.sigmoid),
        "Logit with a margin": (lambda: Logit(0.05), (3,), 0, torch.sigmoid),
        "MaskedAutoregressive": (lambda: MaskedAutoregressive(3, **SMALL), (3,)),
        "MaskedAutoregressive, a context": (lambda: MaskedAutoregressive(3, context=2, order="reverse", hidden=[5, 4]), (3,), 2),
        "MaskedAutoregressive, spline": (lambda: MaskedAutoregressive(3, map=SplineMap(4, 3.0), order=[2, 0, 1], **SMALL), (3,)),
        "MaskedAutoregressive, circular spline": (lambda: MaskedAutoregressive(2, map=CircularSplineMap(4), **SMALL), (2,), 0, angles),
        "MultiScale": (lambda: MultiScale([Squeeze((1, 4, 2)) >> ActNorm((4, 2, 1)), Coupling((2, 2, 1), context=2, **SMALL)]), (1, 4, 2), 2),
        "Permutation": (lambda: Permutation(4, order=[1, 3, 0, 2]) >> Coupling(4, **SMALL), (4,)),
        "Planar": (lambda: Planar(3), (3,)),
        "Planar, a context": (lambda: Planar(3, context=2, **SMALL), (3,), 2),
        "Radial": (lambda: Radial(3), (3,)),
        "Radial, a context": (lambda: Radial(3, context=2, **SMALL), (3,), 2),
        "Reverse": (lambda: Reverse() >> Coupling(3, **SMALL), (3,)),
        "Scale": (lambda: Scale(2.0, f64(0.0, 1.0, 2.0)), (3,)),
        "Sigmoid": (lambda: Sigmoid(0.05), (3,)),
        "Squeeze": (lambda: Squeeze((1, 2, 4)) >> Coupling((4, 1, 2), **SMALL), (1, 2, 4)),
    }.items()
}  # fmt: skip


def noise(shape: tuple[int, ...]) -> Distribution:
    return Normal("n(z)", loc=0.1, scale=1.2, features_shape=shape)


def pushed(name: str) -> Row:
    """The density of data that a bijection makes noise of; the first batch initialises."""
    make, shape, context, values = BIJECTIONS[name]
    f, x = testing.moved(make()), values(wave(BATCH, *shape))
    p = InverseTransformedDistribution(noise(f.out_shape or shape), f, "p(x|y)" if context else "p(x)")
    return Row(p.log_prob(), {"x": differentiated(x), **({"y": differentiated(CONTEXT)} if context else {})})


def pulled(name: str) -> Row:
    """The density of data that a bijection makes of noise, by its inverse."""
    make, shape, context, values = BIJECTIONS[name]
    x, y = values(wave(BATCH, *shape)), CONTEXT if context else None
    f = testing.moved(make(), x, y)
    with torch.no_grad():
        data, _ = f.forward_and_log_det(x, y)
    p = TransformedDistribution(noise(shape), f, "p(x|y)" if context else "p(x)")
    return Row(p.log_prob(), {"x": differentiated(data), **({"y": differentiated(CONTEXT)} if context else {})})


FLOWS: dict[str, Callable[..., TransformedDistribution]] = {
    "RealNVP": lambda text, **o: RealNVP(text, features=2, transforms=2, **SMALL, **o),
    "NSF": lambda text, **o: NSF(text, features=2, transforms=2, bins=4, **SMALL, **o),
    "NSF, autoregressive": lambda text, **o: NSF(text, features=2, transforms=2, bins=4, kind="autoregressive", **SMALL, **o),
    "MAF": lambda text, **o: MAF(text, features=2, transforms=2, **SMALL, **o),
    "IAF": lambda text, **o: IAF(text, features=2, transforms=2, **SMALL, **o),
    "FFJORD": lambda text, **o: FFJORD(text, features=2, solver="midpoint", steps=3, **SMALL, **o),
}
IMAGES: dict[str, Callable[..., TransformedDistribution]] = {
    "Glow": lambda text, **o: Glow(text, features=(1, 4, 4), transforms=1, hidden=[4], **o),
    "RealNVP of images": lambda text, **o: RealNVP(text, features=(1, 2, 4), transforms=2, hidden=[4], **o),
    "NSF of images": lambda text, **o: NSF(text, features=(2, 2, 2), transforms=1, hidden=[4], bins=4, **o),
}
EVERY = {**FLOWS, **IMAGES}


def made(name: str, conditional: bool = False, **options: Any) -> TransformedDistribution:
    p = EVERY[name]("p(x|y)" if conditional else "p(x)", **({"context": 2} if conditional else {}), **options)
    testing.moved(p.generator)
    return p


def density(name: str, conditional: bool = False, **options: Any) -> Row:
    p = made(name, conditional, **options)
    x = 1.5 * wave(BATCH, *p.generator.out_shape) + 0.2
    return Row(p.log_prob(), {"x": differentiated(x), **({"y": differentiated(CONTEXT)} if conditional else {})})


def draws(name: str, conditional: bool = False) -> Row:
    """A function of draws, and their log-density, which the pass that makes them knows."""
    p = made(name, conditional)
    p.initialize({"x": 1.5 * wave(4, *p.generator.out_shape) + 0.2, **({"y": wave(4, 2)} if conditional else {})})
    of_x = Loss.from_function(lambda x: torch.cos(x).flatten(1).sum(-1), "f", var=["x"])
    return Row(
        Expectation(p, of_x + 0.1 * p.log_prob(), num_samples=2), {"y": CONTEXT} if conditional else {}, None if conditional else BATCH
    )


def batch_norm(training: bool) -> Row:
    f = testing.moved(BatchNormFlow(3), wave(5, 3), None)
    f.forward_and_log_det(wave(5, 3))
    p = InverseTransformedDistribution(noise((3,)), f.train(training), "p(x)")
    return Row(p.log_prob(), {"x": differentiated(wave(BATCH, 3))})


def flow_as_posterior() -> Row:
    """A bound whose q is an inverse autoregressive flow."""
    q = IAF("q(z|x)", features=2, transforms=2, context=3, **SMALL)
    testing.moved(q.generator)
    p = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=free(0.7)) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    return Row(ELBO(p, q, num_samples=2), {"x": differentiated(wave(BATCH, 3))})


def flow_as_prior() -> Row:
    q = Normal("q(z|x)", loc=nn.Linear(3, 2), scale=free([0.6, 0.8]))
    prior = NSF("p(z)", features=2, transforms=1, bins=4, **SMALL)
    testing.moved(prior.generator)
    p = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=free(0.7)) * prior
    return Row(ELBO(p, q), {"x": wave(BATCH, 3)})


def dequantized() -> Row:
    f = Scale(0.9, 0.05, bounds=(0.0, 1.0)) >> Logit() >> testing.moved(Coupling(3, **SMALL))
    p = InverseTransformedDistribution(noise((3,)), f, "p(x)")
    return Row(p.log_prob(), {"x": dequantize(torch.tensor([[0, 3, 7], [1, 2, 5], [6, 4, 0]]), 8)})


def as_a_transform_of_torch() -> Row:
    f = testing.moved(Coupling(3, map=SplineMap(4), **SMALL))
    p = TransformedDistribution(noise((3,)), from_transform(f.as_transform(), 3), "p(x)")
    return Row(p.log_prob(), {"x": wave(BATCH, 3)})


ROWS: dict[str, Callable[[], Row]] = {
    **{f"{name}: data to noise": partial(pushed, name) for name in BIJECTIONS},
    **{f"{name}: noise to data": partial(pulled, name) for name in BIJECTIONS if "Planar" not in name},
    **{f"{name}: log-density": partial(density, name) for name in EVERY},
    **{f"{name}, a condition: log-density": partial(density, name, True) for name in EVERY},
    **{f"{name}: draws": partial(draws, name) for name in EVERY},
    **{f"{name}, a condition: draws": partial(draws, name, True) for name in FLOWS},
    "MAF of Laplace noise: log-density": lambda: density("MAF", base=Laplace("n(z)", loc=0.0, scale=1.0, dim=2)),
    "BatchNormFlow in training": partial(batch_norm, True),
    "BatchNormFlow in evaluation": partial(batch_norm, False),
    "IAF as a posterior": flow_as_posterior,
    "NSF as a prior": flow_as_prior,
    "dequantize": dequantized,
    "a bijection as a transform of torch": as_a_transform_of_torch,
}
