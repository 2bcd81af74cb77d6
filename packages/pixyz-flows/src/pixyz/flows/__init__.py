"""Normalising flows: bijections, and the distributions that are made with them."""

from . import _as_transform as _as_transform
from ._actnorm import ActNorm
from ._batchnorm import BatchNormFlow
from ._bijection import Bijection
from ._chain import Chain
from ._circular import CircularSplineMap
from ._continuous import ContinuousFlow
from ._coupling import Coupling
from ._ffjord import FFJORD
from ._from_transform import from_transform
from ._glow import Glow
from ._linear import InvertibleConv1x1, LULinear
from ._masked_autoregressive import MaskedAutoregressive
from ._monotone import AffineMap, MonotoneMap, ShiftMap
from ._multiscale import MultiScale
from ._permutation import Permutation, Reverse
from ._planar import Planar, Radial
from ._preprocessing import Logit, Scale, Sigmoid, dequantize
from ._ready_made import IAF, MAF, NSF, RealNVP
from ._spline import SplineMap
from ._squeeze import Squeeze
from ._transformed import InverseTransformedDistribution, TransformedDistribution

__all__ = [
    "FFJORD",
    "IAF",
    "MAF",
    "NSF",
    "ActNorm",
    "AffineMap",
    "BatchNormFlow",
    "Bijection",
    "Chain",
    "CircularSplineMap",
    "ContinuousFlow",
    "Coupling",
    "Glow",
    "InverseTransformedDistribution",
    "InvertibleConv1x1",
    "LULinear",
    "Logit",
    "MaskedAutoregressive",
    "MonotoneMap",
    "MultiScale",
    "Permutation",
    "Planar",
    "Radial",
    "RealNVP",
    "Reverse",
    "Scale",
    "ShiftMap",
    "Sigmoid",
    "SplineMap",
    "Squeeze",
    "TransformedDistribution",
    "dequantize",
    "from_transform",
]
