"""Models over finite variables, where every quantity is a sum over a table: the library's values and gradients are exact."""

from pixyz.core import IntractableError

from ...case import Rejection
from .case import Finite
from .formula import Computed, Conditioned, Leaf, Marginal, Mixture, Posterior, Product, Quotient, Renamed, Term
from .strategy import cases

REJECTIONS = (Rejection(IntractableError, "has no closed form here", "the divergence was asked for in closed form, and has none"),)

WARNINGS = ("so the expectation is .* itself",)

__all__ = [
    "REJECTIONS",
    "WARNINGS",
    "Computed",
    "Conditioned",
    "Finite",
    "Leaf",
    "Marginal",
    "Mixture",
    "Posterior",
    "Product",
    "Quotient",
    "Renamed",
    "Term",
    "cases",
]
