"""Models over finite variables, where every quantity is a sum over a table: the library's values and gradients are exact."""

from pixyz.core import IntractableError

from ...case import Rejection
from .case import Finite
from .formula import Computed, Conditioned, Leaf, Marginal, Mixture, Posterior, Product, Quotient, Renamed, Term
from .strategy import cases

REJECTIONS = (Rejection(IntractableError, "has no closed form here", "the divergence was asked for in closed form, and has none"),)

ALIKE = (
    (r"Leaf\.letter", "a product prints the letter of one factor for all"),
    (
        r"Leaf\.parents|Product\.parts|Leaf \| |\| Product|Marginal\.hidden|Posterior|Quotient|Mixture|Computed|Marginal",
        "a density prints its variables, and not the factors, hidden variables or components that it is made of",
    ),
    (r"Conditioned", "a density prints without the values that it is conditioned on"),
    (r"Renamed", "a renamed density prints like one that has these names from the start"),
    (r"Term\.options", "a term prints without its options: values held constant, forms of a divergence"),
)

WARNINGS = ("so the expectation is .* itself",)

__all__ = [
    "ALIKE",
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
