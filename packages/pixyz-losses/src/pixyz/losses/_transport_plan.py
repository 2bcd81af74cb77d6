"""Optimal plans between two sets, by the library POT, as one operation that compilers leave whole."""

import importlib.util
from typing import Any

import torch
from torch import Tensor


def need_transport(who: str) -> None:
    """An error unless the library is here.

    Raises:
        ImportError: without it; `pip install pixyz-losses[transport]` brings it.
    """
    if importlib.util.find_spec("ot") is None:
        raise ImportError(
            f"{who} finds its plans with POT (Python Optimal Transport), which is not here: pip install pixyz-losses[transport]."
        )


@torch.library.custom_op("pixyz::transport_plan", mutates_args=())
def transport_plan(cost: Tensor, epsilon: float) -> Tensor:
    """The cheapest plan from N equal masses to M, `(N, M)`, of sum 1; without gradient.

    Args:
        cost: `(N, M)`.
        epsilon: the weight of the plan's divergence from the independent one; 0 for the exact plan.
    """
    import ot

    n, m = cost.shape
    given = cost.detach().double()
    a, b = given.new_full((n,), 1 / n), given.new_full((m,), 1 / m)
    plan: Any
    if epsilon == 0:
        plan = torch.from_numpy(ot.emd(a.cpu().numpy(), b.cpu().numpy(), given.cpu().numpy()))
    else:
        plan = ot.bregman.sinkhorn_log(a, b, given, epsilon, numItermax=2000, warn=False)
    return plan.to(cost).contiguous()


@transport_plan.register_fake
def _(cost: Tensor, epsilon: float) -> Tensor:
    return torch.empty(cost.shape, dtype=cost.dtype, device=cost.device)
