r"""Laws that a distribution and a loss obey, to hold your own to them.

No test framework is needed: a broken law raises an `AssertionError` that says which law, what was expected and what came. Of a distribution
the truth comes from **nodes**: points and weights by which integrals over the values become sums,

$$\int f(x)\,p(x)\,dx \approx \sum_i w_i f(x_i) e^{\log p(x_i)}.$$

Laws are checked on the device of the distribution or loss. Nodes stay on the CPU, where numbers are compared.

Examples:
    >>> import torch
    >>> from pixyz.distributions import Normal
    >>> p = Normal("p(x)", loc=torch.tensor(0.5).double(), scale=torch.tensor(2.0).double())
    >>> check(p, line())
    >>> check_loss(p.log_prob().expectation(p), {}, batch_size=4)
"""

from .._nodes import Nodes, counts, line, product, simplex, sphere
from ._distributions import (
    FREQUENCIES,
    SIGMAS,
    check,
    check_copies,
    check_divergence,
    check_draws,
    check_free_gradients,
    check_gradients,
    check_graph,
    check_kinds,
    check_mass,
    check_shapes,
    check_statistics,
)
from ._losses import check_loss, check_registered, check_says, check_unbiased

__all__ = [
    "FREQUENCIES",
    "SIGMAS",
    "Nodes",
    "check",
    "check_copies",
    "check_divergence",
    "check_draws",
    "check_free_gradients",
    "check_gradients",
    "check_graph",
    "check_kinds",
    "check_loss",
    "check_mass",
    "check_registered",
    "check_says",
    "check_shapes",
    "check_statistics",
    "check_unbiased",
    "counts",
    "line",
    "product",
    "simplex",
    "sphere",
]
