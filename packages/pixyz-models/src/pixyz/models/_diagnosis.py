"""Which term of a loss is not finite."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from pixyz.core import BATCH, ON_HOST, Explanation, Loss, RandomState, Recorder, SupportError, Term, random_state, set_random_state

from ._modes import put_back


class _NonFinite(Recorder):
    """Keeps the terms that are not finite, the innermost first."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[object, Term]] = []

    def leave(self, who: object, term: Term) -> None:
        super().leave(who, term)
        if not bool(torch.isfinite(term.tensor).all()):
            self.found.append((who, term))


@contextmanager
def unnoticed(loss: Loss, state: RandomState) -> Iterator[None]:
    """Inside, the loss may be evaluated once more, from this random state; its buffers and the generators are left as they were."""
    buffers = [(b, b.clone()) for b in loss.buffers()]
    device = next(loss.parameters()).device
    after = random_state(device)
    set_random_state(state, device)
    try:
        with torch.no_grad():
            yield
    finally:
        set_random_state(after, device)
        put_back(buffers)


def name_nonfinite(
    loss: Loss, values: Mapping[str, Any], options: Mapping[str, Any], state: RandomState
) -> tuple[str | None, Explanation | None]:
    """A sentence that names the innermost term that is nan or infinite, and for how many data, None without such a term; and all terms.
    The loss is left as it was.

    Args:
        loss: the loss.
        values: its values.
        options: those of `Loss.estimate`.
        state: the random state before the evaluation that failed, so that the same samples are drawn.

    Raises:
        SupportError: if a number is outside of its support, and is no nan.
    """
    watch = _NonFinite()
    try:
        with unnoticed(loss, state):
            Loss.forward(loss, values, **options, watch=watch, validate=ON_HOST)
    except SupportError as error:
        if not error.nans:
            raise
        return str(error), None
    found = watch.found
    if not found:
        return None, watch.explained()
    # An impossible value that is weighted with zero is -infinite and does no harm: what is nan is named first.
    who, term = next(((w, t) for w, t in found if bool(t.tensor.isnan().any())), found[0])
    said = _describe(who, term)
    return f"{said}." if str(who) == str(loss) else f"{said}, so {loss} is not finite.", watch.explained()


def _describe(who: object, term: Term) -> str:
    tensor, dims = term
    bad = ~torch.isfinite(tensor)
    worst = "nan" if bool(tensor.isnan().any()) else "infinite" if bool((tensor == torch.inf).any()) else "-infinite"
    if BATCH not in dims:
        return f"{who} is {worst}"
    data = bad.reshape(-1, tensor.shape[-1]).any(0)
    return f"{who} is {worst} for {int(data.sum())} of {data.numel()} data"
