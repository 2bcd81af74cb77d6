"""Which term of a loss is not finite."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pixyz.core import BATCH, Loss, Term


def name_nonfinite(loss: Loss, values: Mapping[str, Any], options: Mapping[str, Any], rng: Tensor) -> str:
    """A sentence that names the innermost term that is nan or infinite, and for how many data.

    Args:
        loss: the loss.
        values: its values.
        options: those of `Loss.estimate`.
        rng: torch's random state before the evaluation that failed, so that the same samples are drawn.
    """
    found: list[str] = []

    def watch(who: object, term: Term) -> None:
        if not found and not bool(torch.isfinite(term.tensor).all()):
            found.append(_describe(who, term))

    after = torch.get_rng_state()
    torch.set_rng_state(rng)
    try:
        with torch.no_grad():
            Loss.forward(loss, values, **options, watch=watch)
    finally:
        torch.set_rng_state(after)
    if not found:
        return f"{loss} is not finite; none of its terms was, when it was evaluated again."
    return f"{found[0]}, so {loss} is not finite." if not found[0].startswith(str(loss)) else f"{found[0]}."


def _describe(who: object, term: Term) -> str:
    tensor, dims = term
    bad = ~torch.isfinite(tensor)
    worst = "nan" if bool(tensor.isnan().any()) else "infinite" if bool((tensor == torch.inf).any()) else "-infinite"
    if BATCH not in dims:
        return f"{who} is {worst}"
    data = bad.reshape(-1, tensor.shape[-1]).any(0)
    return f"{who} is {worst} for {int(data.sum())} of {data.numel()} data"
