"""Each misuse of a bijection has one clear error, raised as early as it can be known."""

import re

import pytest
import torch
from torch import nn

from pixyz.core import FormulaError, IntractableError, KindError, ParameterError, ShapeError, SupportError
from pixyz.distributions import Interval, Normal
from pixyz.flows import (
    NSF,
    ActNorm,
    AffineMap,
    Bijection,
    Chain,
    Coupling,
    InvertibleConv1x1,
    Logit,
    MaskedAutoregressive,
    MultiScale,
    Permutation,
    Planar,
    Reverse,
    Scale,
    SplineMap,
    Squeeze,
    TransformedDistribution,
    dequantize,
)


class Square(Bijection):
    """y = x² on [0, 1], without an inverse."""

    domain = codomain = Interval("in [0, 1]", lower=0.0, upper=1.0)
    pull_passes = None

    def push(self, x, context):
        return x.square(), (2 * x).log().sum(1)


class Half(Square):
    """One that says it has an inverse, and does not write it."""

    pull_passes = 1


class Root(Square):
    """y = √x by its inverse."""

    push_passes, pull_passes = None, 1

    def pull(self, y, context):
        return Square.push(self, y, context)


def x(*shape):
    return torch.rand(*shape)


def after_doubling():
    return Coupling(4).double().forward_and_log_det(x(5, 4))


MISUSES = {
    # what is built
    "no features": (lambda: ActNorm(0), KindError, "ActNorm: features must be a positive whole number, or a shape of them; got 0."),
    "half a feature": (lambda: ActNorm([1.5]), KindError, "ActNorm: features must be a positive whole number"),
    "negative context": (
        lambda: Coupling(2, context=-1),
        KindError,
        "Coupling: context is how many features it has, a whole number; got -1.",
    ),
    "one feature": (lambda: Coupling(1), ShapeError, "Coupling: with a single feature there is no half that could map the other"),
    "one channel": (lambda: Coupling((1, 4, 4)), ShapeError, "with a single channel there is no half"),
    "checkerboard of one": (
        lambda: Coupling((3, 1, 1), mask="checkerboard"),
        ShapeError,
        "a checkerboard needs at least two numbers or pixels",
    ),
    "a mask that is none": (
        lambda: Coupling(4, mask="stripes"),
        ParameterError,
        'mask must be "halves" or "checkerboard"; got \'stripes\'',
    ),
    "a map that is none": (
        lambda: Coupling(4, map=nn.Linear(1, 1)),
        KindError,
        "map must be a MonotoneMap, like SplineMap(); got a Linear.",
    ),
    "sizes that are none": (lambda: Coupling(4, hidden=64), KindError, "hidden must be a list of positive sizes, like [64, 64]; got 64."),
    "a network that is none": (lambda: Coupling(4, network=lambda n, m: torch.sin), KindError, "network must make an nn.Module; it made a"),
    "features of rank 2": (
        lambda: Coupling((2, 3)),
        ShapeError,
        "A network takes vectors (D,) or images (C, H, W); these features have 2 dims.",
    ),
    "one bin": (lambda: SplineMap(1), KindError, "SplineMap: bins must be a whole number of at least 2; got 1."),
    "no interval": (lambda: SplineMap(4, 0.0), KindError, "SplineMap: bound must be positive; got 0.0."),
    "a slope of 0": (lambda: AffineMap(0.0), KindError, "AffineMap: smallest is the least slope, between 0 and 1, such as 1e-3; got 0.0."),
    "no permutation": (lambda: Permutation(3, order=[0, 1, 1]), ShapeError, "order must have each number from 0 to 2 once; got [0, 1, 1]."),
    "a map of an autoregressive layer": (
        lambda: MaskedAutoregressive(3, map=nn.Linear(1, 1)),
        KindError,
        "MaskedAutoregressive: map must be a MonotoneMap, like SplineMap(); got a Linear.",
    ),
    "sizes of an autoregressive layer": (
        lambda: MaskedAutoregressive(3, hidden=[8, 0]),
        KindError,
        "MaskedAutoregressive: hidden must be a list of positive sizes, like [64, 64]; got [8, 0].",
    ),
    "an order that is none": (
        lambda: MaskedAutoregressive(3, order="backward"),
        ParameterError,
        'order must be "forward", "reverse" or a list of numbers; got \'backward\'.',
    ),
    "an order that leaves one out": (
        lambda: MaskedAutoregressive(3, order=[2, 0, 0]),
        ParameterError,
        "MaskedAutoregressive: order must have each number from 0 to 2 once; got [2, 0, 0].",
    ),
    "a network of masked layers": (
        lambda: NSF("p(x)", features=2, kind="autoregressive", network=nn.Linear),
        ParameterError,
        "NSF: network= is for couplings; the networks of autoregressive layers are masked.",
    ),
    "vectors for images": (
        lambda: InvertibleConv1x1([4]),
        ShapeError,
        "InvertibleConv1x1 takes images (C, H, W); the features are (4,). Use LULinear for vectors.",
    ),
    "images for vectors": (lambda: Planar((3, 4, 4)), ShapeError, "Planar takes vectors (D,); the features are (3, 4, 4)."),
    "a squeeze by 0": (lambda: Squeeze((1, 4, 4), factor=0), KindError, "Squeeze: factor must be a positive whole number; got 0."),
    "a squeeze of a vector": (lambda: Squeeze([4]), ShapeError, "Squeeze takes images (C, H, W); the features are (4,)."),
    "a squeeze that does not fit": (
        lambda: Squeeze((1, 4, 5)),
        ShapeError,
        "Squeeze: the height and the width must be divisible by 2; they are 4 and 5. Pad or crop the images.",
    ),
    "bounds of several scales": (
        lambda: Scale(torch.ones(2), bounds=(0.0, 1.0)),
        ShapeError,
        "Scale: bounds are the same for all features, so scale and shift must be numbers.",
    ),
    "bounds the wrong way round": (
        lambda: Scale(2.0, bounds=(1.0, 0.0)),
        SupportError,
        "Scale: bounds are the least and the greatest number, in this order; got (1.0, 0.0).",
    ),
    "a margin of a half": (
        lambda: Logit(0.5),
        SupportError,
        "Logit: alpha, the margin at both ends, must be in [0, 1/2); got 0.5.",
    ),
    "a negative margin": (lambda: Logit(-0.1), SupportError, "must be in [0, 1/2); got -0.1."),
    "one level": (
        lambda: dequantize(torch.zeros(2), 1),
        KindError,
        "dequantize: levels, how many values there are, must be a whole number of at least 2; got 1.",
    ),
    "a level too many": (
        lambda: dequantize(torch.tensor([0, 4]), 4),
        SupportError,
        "dequantize: v must be a whole number from 0 to 3, but 1 of 2 are not (from 0 to 4).",
    ),
    "no scale": (lambda: MultiScale([]), FormulaError, "MultiScale takes at least one bijection; got none."),
    "a scale that is a network": (lambda: MultiScale([nn.Linear(2, 2)]), KindError, "MultiScale takes bijections; got a Linear."),
    "a scale without a shape": (
        lambda: MultiScale([ActNorm(4), Reverse()]),
        ShapeError,
        "MultiScale: scale 1, the Reverse, takes any features; make its layers with a shape.",
    ),
    "a scale of one feature": (
        lambda: MultiScale([ActNorm(1), ActNorm(1)]),
        ShapeError,
        "a single feature or channel has no half that could go on; a scale gives features (1,).",
    ),
    "scales that do not fit": (
        lambda: MultiScale([ActNorm(4), ActNorm(3)]),
        ShapeError,
        "MultiScale: a scale takes features (3,), but the half that the one before it leaves is (2,).",
    ),
    "an empty chain": (lambda: Chain([]), FormulaError, "Chain takes at least one bijection; got none."),
    "a chain of a network": (lambda: Chain([nn.Linear(2, 2)]), KindError, "Chain takes bijections; got a Linear."),
    "layers that do not fit": (
        lambda: ActNorm(3) >> Coupling(4),
        ShapeError,
        "layer 1, the Coupling, takes features (4,), but the ActNorm before",
    ),
    "contexts that differ": (lambda: Coupling(4, context=2) >> Coupling(4, context=3), ShapeError, "all layers get the same context, but"),
    "a domain too small": (
        lambda: ActNorm(3) >> Square(3),
        SupportError,
        "layer 1, the Square, takes what is in [0, 1], but what comes from before",
    ),
    # what is mapped
    "wrong features": (lambda: ActNorm(3)(x(5, 4)), ShapeError, "ActNorm: x has features (4,), but the ActNorm takes features (3,)."),
    "wrong features back": (
        lambda: ActNorm(3).inverse_and_log_det(x(5, 4)),
        ShapeError,
        "y has features (4,), but the ActNorm gives features (3,).",
    ),
    "features of an inverse": (lambda: ActNorm(3).inverse(x(5, 4)), ShapeError, "but the ActNorm gives features (3,)."),
    "an end of the domain that is open": (lambda: Logit()(torch.ones(1, 2)), SupportError, "must be in (0, 1), but 2 of 2 are not"),
    "the other end": (lambda: Logit()(torch.zeros(1, 2)), SupportError, "must be in (0, 1), but 2 of 2 are not"),
    "no pull": (lambda: Half(2).inverse_and_log_det(x(5, 2)), NotImplementedError, "Half must write pull, or say pull_passes = None."),
    "no forward direction": (
        lambda: Root(2).forward_and_log_det(x(5, 2)),
        IntractableError,
        "Root: the Root has no forward direction in closed form; only its inverse_and_log_det is known.",
    ),
    "a number in place of a batch": (
        lambda: TransformedDistribution(Normal("p(z)", loc=0.0, scale=1.0), ActNorm(2), "p(x)").log_likelihood({"x": 0.5}),
        ShapeError,
        "p(x): x has shape (); a value is (batch, *features).",
    ),
    "no batch": (lambda: Reverse()(torch.tensor(1.0)), ShapeError, "the Reverse takes (batch, *features)."),
    "context missing": (lambda: Coupling(4, context=2)(x(5, 4)), ShapeError, "needs a context of 2 features; none is given."),
    "context missing in a chain": (lambda: (Coupling(4, context=2) >> Reverse(4))(x(5, 4)), ShapeError, "needs a context of 2 features"),
    "context of a wrong width": (
        lambda: Coupling(4, context=2)(x(5, 4), x(5, 3)),
        ShapeError,
        "the context has features (3,), but the Coupling takes (2,).",
    ),
    "context of another batch": (lambda: Coupling(4, context=2)(x(5, 4), x(1, 2)), ShapeError, "x has batch 5, the context has batch 1."),
    "context for none": (lambda: Coupling(4)(x(5, 4), x(5, 3)), ShapeError, "takes no context; make it with context=3, or give none."),
    "context of two dims for none": (lambda: Coupling(4)(x(5, 4), x(5, 2, 3)), ShapeError, "make it with context=3, or give none."),
    "another dtype": (
        after_doubling,
        KindError,
        "x is torch.float32 on cpu, the parameters of the Coupling are torch.float64 on cpu. Convert one",
    ),
    "outside the domain": (
        lambda: Square(2)(x(5, 2) + 1),
        SupportError,
        "Square: x, which the Square takes, must be in [0, 1], but 10 of 10 are not",
    ),
    "nan in the domain": (lambda: Square(1)(torch.tensor([[float("nan")]])), SupportError, "1 of 1 are not (none is a number, 1 nan)"),
    "no inverse": (lambda: Square(2).inverse_and_log_det(x(5, 2)), ValueError, "the Square has no inverse in closed form"),
    "no forward of the inverse": (lambda: Square(2).inverse(x(5, 2)), ValueError, "the Square has no inverse in closed form"),
    "no inverse of a chain": (lambda: Chain([Square(2), Square(2)]).inverse_and_log_det(x(5, 2)), ValueError, "the Square has no inverse"),
    # what starts from data
    "started by one datum": (lambda: ActNorm(2).initialize(x(1, 2)), ShapeError, "so it needs at least 2; the batch is 1."),
    "started by none": (lambda: (Reverse(2) >> ActNorm(2)).initialize(x(0, 2)), ShapeError, "so it needs at least 2; the batch is 0."),
    "started without context": (lambda: (ActNorm(2) >> Coupling(2, context=1)).initialize(x(5, 2)), ShapeError, "needs a context of 1"),
    "started by other features": (
        lambda: ActNorm(2).initialize(x(5, 3)),
        ShapeError,
        "x has features (3,), but the ActNorm takes features (2,).",
    ),
}


@pytest.mark.parametrize("name", MISUSES)
def test_a_misuse_is_told(name):
    misuse, kind, message = MISUSES[name]
    with pytest.raises(kind, match=re.escape(message)):
        misuse()


def test_a_failed_start_leaves_everything_as_it_was():
    f = ActNorm(2)
    with pytest.raises(ShapeError):
        f.initialize(x(1, 2))
    assert f.needs_start
    assert not f.shift.any()
