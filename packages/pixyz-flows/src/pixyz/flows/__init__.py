"""Normalising flows: bijections, and the distributions that are made with them."""

from ._actnorm import ActNorm
from ._bijection import Bijection
from ._chain import Chain
from ._coupling import Coupling
from ._monotone import AffineMap, MonotoneMap, ShiftMap
from ._permutation import Permutation, Reverse
from ._spline import SplineMap
from ._transformed import InverseTransformedDistribution, TransformedDistribution

__all__ = [
    "ActNorm",
    "AffineMap",
    "Bijection",
    "Chain",
    "Coupling",
    "InverseTransformedDistribution",
    "MonotoneMap",
    "Permutation",
    "Reverse",
    "ShiftMap",
    "SplineMap",
    "TransformedDistribution",
]
