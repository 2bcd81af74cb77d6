"""Normalising flows: bijections, and the distributions that are made with them."""

from ._actnorm import ActNorm
from ._bijection import Bijection
from ._chain import Chain
from ._coupling import Coupling
from ._monotone import AffineMap, MonotoneMap, ShiftMap
from ._permutation import Permutation, Reverse
from ._ready_made import IAF, MAF, NSF, RealNVP
from ._spline import SplineMap
from ._transformed import InverseTransformedDistribution, TransformedDistribution

__all__ = [
    "IAF",
    "MAF",
    "NSF",
    "ActNorm",
    "AffineMap",
    "Bijection",
    "Chain",
    "Coupling",
    "InverseTransformedDistribution",
    "MonotoneMap",
    "Permutation",
    "RealNVP",
    "Reverse",
    "ShiftMap",
    "SplineMap",
    "TransformedDistribution",
]
