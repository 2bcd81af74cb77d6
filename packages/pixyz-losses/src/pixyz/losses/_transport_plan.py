"""Optimal plans between two sets, by the library POT, as one operation that compilers leave whole."""

import importlib.util
import warnings
from typing import Any

import torch
from torch import Tensor

ITERATIONS = 2000
MISPLACED = 1e-3
"""The share of the mass that an entropic plan may bring to a wrong place before it counts as not converged."""


def need_transport(who: str) -> None:
    """An error unless the library is here.

    Raises:
        ImportError: without it; `pip install pixyz-losses[transport]` brings it.
    """
    if importlib.util.find_spec("ot") is None:
        raise ImportError(
            f"{who} finds its plans with POT (Python Optimal Transport), which is not here: pip install pixyz-losses[transport]."
        )


# It computes on the host, for an exact plan, or waits for it, to see whether the plan has converged.
_TAGS = [tag for name in ("cudagraph_unsafe",) if (tag := getattr(torch.Tag, name, None)) is not None]


@torch.library.custom_op("pixyz::transport_plan", mutates_args=(), tags=_TAGS)
def transport_plan(cost: Tensor, epsilon: float, who: str) -> Tensor:
    """The cheapest plan from N equal masses to M, `(N, M)`, of sum 1; without gradient.

    An entropic plan that has not converged after 2,000 iterations gives a warning with the share of the mass that is not where the
    marginals have it.

    Args:
        cost: `(N, M)`.
        epsilon: the weight of the plan's divergence from the independent one; 0 for the exact plan.
        who: the loss, for the warning.
    """
    import ot

    n, m = cost.shape
    given = cost.detach().double()
    a, b = given.new_full((n,), 1 / n), given.new_full((m,), 1 / m)
    plan: Any
    if epsilon == 0:
        plan = torch.from_numpy(ot.emd(a.cpu().numpy(), b.cpu().numpy(), given.cpu().numpy()))
    else:
        plan = ot.bregman.sinkhorn_log(a, b, given, epsilon, numItermax=ITERATIONS, warn=False)
        misplaced = 0.5 * float((plan.sum(0) - b).abs().sum() + (plan.sum(1) - a).abs().sum())
        if not misplaced <= MISPLACED:
            warnings.warn(
                f"{who}: the plan has not converged after {ITERATIONS} iterations: {100 * misplaced:.3g} % of the mass is not where the "
                f"marginals have it, so the value is off. epsilon={epsilon:g} is small beside costs of up to {float(given.max()):.4g}; "
                "take a larger epsilon, or scale the features.",
                stacklevel=2,
            )
    return plan.to(cost).contiguous()


@transport_plan.register_fake
def _(cost: Tensor, epsilon: float, who: str) -> Tensor:
    return torch.empty(cost.shape, dtype=cost.dtype, device=cost.device)
