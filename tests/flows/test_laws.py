"""Every bijection obeys the laws of `pixyz.flows.testing`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import TanhTransform

import pixyz.flows as flows
from pixyz.flows import (
    FFJORD,
    ActNorm,
    BatchNormFlow,
    Bijection,
    Chain,
    CircularSplineMap,
    ContinuousFlow,
    Coupling,
    Glow,
    InvertibleConv1x1,
    Logit,
    LULinear,
    MaskedAutoregressive,
    MonotoneMap,
    MultiScale,
    Permutation,
    Planar,
    Radial,
    Reverse,
    Scale,
    ShiftMap,
    Sigmoid,
    SplineMap,
    Squeeze,
    from_transform,
    testing,
)


def angles(x: Tensor) -> Tensor:
    return torch.pi * torch.tanh(x)


BATCH = 5
SMALL = {"hidden": [6]}
TRACED_IN_PARTS = {"traceable": False}
"""Of bijections whose parts run as one graph in other rows, or in `test_ready_made.py`: a trace takes seconds."""


@dataclass
class Case:
    """A bijection, the features of what is mapped, and how far it can be held to the laws."""

    make: Callable[[], Bijection]
    shape: tuple[int, ...]
    context: int = 0
    values: Callable[[Tensor], Tensor] = lambda x: x
    """Puts normal numbers into the domain."""
    options: dict[str, Any] = field(default_factory=dict)

    def data(self, batch=BATCH, device=None):
        x = self.values(torch.randn(batch, *self.shape, dtype=torch.float64, device=device))
        return x, torch.randn(batch, self.context, dtype=torch.float64, device=device) if self.context else None

    def on(self, device):
        """Makes it there."""
        return lambda: self.make().to(device)


CASES = {
    "ActNorm": Case(lambda: ActNorm(3), (3,)),
    "ActNorm(1)": Case(lambda: ActNorm(1), (1,)),
    "ActNorm(constant)": Case(lambda: ActNorm(3, trained=False), (3,)),
    "ActNorm(image)": Case(lambda: ActNorm((2, 3, 4)), (2, 3, 4)),
    "Permutation": Case(lambda: Permutation(5), (5,)),
    "Permutation(image)": Case(lambda: Permutation((4, 2, 2)), (4, 2, 2)),
    "Permutation(given)": Case(lambda: Permutation(3, order=[1, 2, 0]), (3,)),
    "Reverse": Case(lambda: Reverse(3), (3,)),
    "Reverse(any)": Case(lambda: Reverse(), (3, 2, 2)),
    "Coupling(shift)": Case(lambda: Coupling(3, map=ShiftMap(), **SMALL), (3,)),
    "Coupling(affine)": Case(lambda: Coupling(3, **SMALL), (3,)),
    "Coupling(affine, context)": Case(lambda: Coupling(3, context=2, **SMALL), (3,), 2),
    "Coupling(affine, swap)": Case(lambda: Coupling(5, swap=True, context=1, **SMALL), (5,), 1),
    "Coupling(affine, two)": Case(lambda: Coupling(2, **SMALL), (2,)),
    "Coupling(affine, checkerboard)": Case(lambda: Coupling(5, mask="checkerboard", **SMALL), (5,)),
    "Coupling(affine, checkerboard, swap)": Case(lambda: Coupling(4, mask="checkerboard", swap=True, context=2, **SMALL), (4,), 2),
    "Coupling(affine, image)": Case(lambda: Coupling((2, 2, 3), **SMALL), (2, 2, 3)),
    "Coupling(affine, image, context)": Case(lambda: Coupling((3, 2, 2), context=2, **SMALL), (3, 2, 2), 2),
    "Coupling(affine, image, checkerboard)": Case(lambda: Coupling((1, 4, 3), mask="checkerboard", context=2, **SMALL), (1, 4, 3), 2),
    "Coupling(spline)": Case(lambda: Coupling(3, map=SplineMap(4, 2.0), **SMALL), (3,)),
    "Coupling(spline, context)": Case(lambda: Coupling(4, map=SplineMap(5, 3.0), context=2, **SMALL), (4,), 2, options=TRACED_IN_PARTS),
    "Coupling(spline, checkerboard)": Case(
        lambda: Coupling(4, map=SplineMap(2, 3.0), mask="checkerboard", **SMALL), (4,), options=TRACED_IN_PARTS
    ),
    "Coupling(spline, image)": Case(lambda: Coupling((2, 2, 2), map=SplineMap(3, 3.0), **SMALL), (2, 2, 2), options=TRACED_IN_PARTS),
    "Coupling(network)": Case(lambda: Coupling(3, network=lambda n, m: torch.nn.Linear(n, m)), (3,)),
    "Inverse": Case(lambda: Coupling(3, map=SplineMap(4), context=2, **SMALL).inverse, (3,), 2),
    "Chain": Case(lambda: ActNorm(4) >> Coupling(4, context=2, **SMALL) >> Permutation(4) >> Coupling(4, **SMALL), (4,), 2),
    "Chain(inverse)": Case(lambda: (ActNorm(3) >> Coupling(3, **SMALL) >> Reverse(3)).inverse, (3,)),
    "MaskedAutoregressive": Case(lambda: MaskedAutoregressive(4, **SMALL), (4,)),
    "MaskedAutoregressive(context)": Case(lambda: MaskedAutoregressive(3, context=2, order="reverse", hidden=[7, 6]), (3,), 2),
    "MaskedAutoregressive(spline)": Case(
        lambda: MaskedAutoregressive(3, map=SplineMap(4, 3.0), order=[2, 0, 1], **SMALL), (3,), options=TRACED_IN_PARTS
    ),
    "MaskedAutoregressive(spline, context)": Case(
        lambda: MaskedAutoregressive(3, map=SplineMap(3, 3.0), context=2, **SMALL), (3,), 2, options=TRACED_IN_PARTS
    ),
    "MaskedAutoregressive(one, context)": Case(lambda: MaskedAutoregressive(1, context=2, **SMALL), (1,), 2),
    "MaskedAutoregressive(spline, one, context)": Case(
        lambda: MaskedAutoregressive(1, map=SplineMap(4, 3.0), context=2, order="reverse", hidden=[6, 5]), (1,), 2, options=TRACED_IN_PARTS
    ),
    "MaskedAutoregressive(circular)": Case(
        lambda: MaskedAutoregressive(3, map=CircularSplineMap(4), **SMALL), (3,), 0, angles, options=TRACED_IN_PARTS
    ),
    "MaskedAutoregressive(inverse)": Case(lambda: MaskedAutoregressive(3, context=2, **SMALL).inverse, (3,), 2),
    "Coupling(circular)": Case(lambda: Coupling(4, map=CircularSplineMap(4), context=2, **SMALL), (4,), 2, angles),
    "LULinear": Case(lambda: LULinear(4, seed=0), (4,)),
    "LULinear(one)": Case(lambda: LULinear(1, seed=0), (1,)),
    "InvertibleConv1x1": Case(lambda: InvertibleConv1x1((3, 2, 2), seed=0), (3, 2, 2)),
    "Planar": Case(lambda: Planar(3), (3,)),
    "Planar(context)": Case(lambda: Planar(3, context=2, **SMALL), (3,), 2),
    "Radial": Case(lambda: Radial(3), (3,)),
    "Radial(context)": Case(lambda: Radial(3, context=2, **SMALL), (3,), 2),
    "BatchNormFlow": Case(lambda: BatchNormFlow(3).eval(), (3,)),
    "BatchNormFlow(image)": Case(lambda: BatchNormFlow((2, 3, 3)).eval(), (2, 3, 3)),
    "Squeeze": Case(lambda: Squeeze((2, 4, 6)), (2, 4, 6), options={"depth": None}),
    "MultiScale": Case(
        lambda: MultiScale([Squeeze((1, 4, 4)) >> ActNorm((4, 2, 2)), Coupling((2, 2, 2), context=2, **SMALL)]),
        (1, 4, 4),
        2,
        options={"depth": None},
    ),
    "Glow": Case(
        lambda: Glow("p(x|y)", features=(1, 4, 4), transforms=1, context=2, **SMALL).generator.inverse,
        (1, 4, 4),
        2,
        options={"depth": None, **TRACED_IN_PARTS},
    ),
    "FFJORD": Case(
        lambda: FFJORD("p(x)", features=2, solver="midpoint", steps=3, **SMALL).generator.inverse,
        (2,),
        options={"tolerance": 5e-2, "depth": None, **TRACED_IN_PARTS},
    ),
    "Logit": Case(lambda: Logit(), (3,), 0, torch.sigmoid, {"depth": None}),
    "Logit(margin)": Case(lambda: Logit(0.05), (3, 2), 0, torch.sigmoid, {"depth": None}),
    "Logit(both ends)": Case(lambda: Logit(), (3,), 0, lambda x: torch.sigmoid(5 * x), {"depth": None}),
    "Sigmoid": Case(lambda: Sigmoid(0.05), (3,), options={"depth": None}),
    "Sigmoid(both ends)": Case(lambda: Sigmoid(), (3,), 0, lambda x: 30 * x.clamp(-1, 1), {"depth": None, "tolerance": 1e-3}),
    "Scale": Case(lambda: Scale(2.0, torch.tensor([0.0, 1.0, 2.0])), (3,), options={"depth": None}),
    # The error of a step of 0.25 stays below the tolerance, and each step more is the same graph once more, which takes seconds to trace.
    "ContinuousFlow": Case(lambda: ContinuousFlow(3, steps=1, time=0.25, **SMALL), (3,), options={"tolerance": 1e-6, "depth": None}),
    "ContinuousFlow(context)": Case(
        lambda: ContinuousFlow(2, steps=1, time=0.25, context=2, **SMALL),
        (2,),
        2,
        options={"tolerance": 1e-6, "depth": None, **TRACED_IN_PARTS},
    ),
    "from_transform": Case(lambda: from_transform(TanhTransform(), 3), (3,), options={"depth": None}),
    "from_transform(as_transform)": Case(lambda: from_transform(Coupling(3, map=SplineMap(4), **SMALL).as_transform(), 3), (3,)),
    "Chain(one)": Case(lambda: Chain([Reverse(2)]), (2,)),
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_laws(name, device):
    case = CASES[name]
    options = {**case.options, **({} if device.type == "cpu" else {"traceable": False})}  # a trace is the same on every device
    testing.check(case.on(device), *case.data(device=device), sizes=(), **options)


ROUNDING = {
    "LULinear": {"sizes": (1, 5, 20)},  # with 50, gradients pass exp(100), which float32 cannot hold
    "Glow": {"sizes": (1, 5)},  # with 50, two layers of exp(50) leave what float32 can hold
    # One step is held to float64 as many are; with parameters of 50 it would be no solution.
    "FFJORD": {"sizes": (5,), "make": lambda: FFJORD("p(x)", features=2, solver="euler", steps=1, **SMALL).generator.inverse},
    "ContinuousFlow": {"sizes": (1, 5), "make": lambda: ContinuousFlow(3, solver="midpoint", steps=1, **SMALL)},
    "ContinuousFlow(context)": {"sizes": (5,), "make": lambda: ContinuousFlow(2, solver="euler", steps=1, context=2, **SMALL)},
}
"""Of which bijections float32 is held to float64 otherwise than by default."""


@pytest.mark.parametrize("name", CASES)
def test_float32_is_as_exact_as_it_can_be(name, device):
    case = CASES[name]
    options = {"make": case.make, **ROUNDING.get(name, {})}
    make = options.pop("make")
    bounds = {m.bound for m in make().modules() if isinstance(m, SplineMap)}
    if "circular" in name:
        options["period"] = 2 * torch.pi
    elif bounds:
        options["interval"] = (-max(bounds), max(bounds))
    testing.check_precision(lambda: make().to(device), *case.data(100, device), **options)


def test_the_table_is_complete():
    """Every public bijection is in a row that is traced, and most with a context where they take one; and every map of numbers."""
    traced = [case for case in CASES.values() if case.options.get("traceable", True)]
    public = {f for name in flows.__all__ if isinstance(f := getattr(flows, name), type) and issubclass(f, Bijection)}
    held = {f for case in traced for f in _parts(case.make())}
    assert {f.__name__ for f in public - {Bijection}} == {f.__name__ for f in held & public}
    maps = {f for name in flows.__all__ if isinstance(f := getattr(flows, name), type) and issubclass(f, MonotoneMap)}
    assert maps - {MonotoneMap} == {type(m) for case in traced for m in case.make().modules() if isinstance(m, MonotoneMap)}
    assert set(ROUNDING) <= set(CASES)


def _parts(f):
    return {type(f)} | ({type(f.inverse)} if type(f).__name__ == "Inverse" else set())


def test_the_suite_is_public():
    """What the module offers is what it lists."""
    assert {name for name in vars(testing) if name.startswith("check")} | {"moved"} == set(testing.__all__)
