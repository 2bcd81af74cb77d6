"""The log-likelihood of data, exact or by importance sampling, in nats or in bits a dimension."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pixyz.core import KindError, SupportError

from ._after_training import device_of, generative
from ._data import Data, batches
from ._modes import evaluating

if TYPE_CHECKING:
    from ._asked import Asked

UNITS = ("nats", "bits/dim")


@dataclass(frozen=True)
class LogLikelihood:
    """What `Model.log_likelihood` found; it prints as `-93.21 ± 0.35 nats`.

    Attributes:
        mean: over the data.
        error: the standard error of that mean, as of a sample from the world; nan for one datum.
        unit: `"nats"`, of log p(x), where more is better; or `"bits/dim"`, of -log p(x), where less is.
        each: the values of the data, `(N,)`, on the CPU.
    """

    mean: float
    error: float
    unit: str
    each: Tensor = field(repr=False, compare=False)

    def __str__(self) -> str:
        digits = 2 if self.unit == "nats" else 4
        return f"{self.mean:.{digits}f} ± {self.error:.{digits}f} {self.unit}"


def log_likelihood(
    model: "Asked",
    data: Data,
    *,
    num_samples: int,
    unit: str,
    divided_by: float,
    batch_size: int | None,
    names: Sequence[str] | None,
) -> LogLikelihood:
    """log p of each datum, and their mean."""
    p, q = generative(model, "log_likelihood"), model.q
    who = f"{type(model).__name__}.log_likelihood"
    if unit not in UNITS:
        raise KindError(f"{who}: unit must be one of {', '.join(map(repr, UNITS))}; got {unit!r}.")
    if not 0 < divided_by < math.inf:
        raise SupportError(f"{who}: divided_by, by which the whole numbers were divided, must be positive; got {divided_by!r}.")
    drawn = () if q is None else q.var
    computed = {v for f in p.factors if f.dist.is_deterministic for v in f.var}
    scored = [v for v in p.var if v not in drawn and v not in computed]
    used = [*p.var, *p.cond_var, *(() if q is None else q.cond_var)]
    found: list[Tensor] = []
    size = 0
    with evaluating(*(d for d in (p, q) if d is not None)):
        for values in batches(data, used, who, batch_size=batch_size, names=names, device=device_of(model)):
            nats = p.log_likelihood(values, proposal=q, num_samples=num_samples)
            found.append(nats.double().cpu())
            size = sum(values[v][0].numel() for v in scored)
    each = torch.cat(found) - size * math.log(divided_by)
    if unit == "bits/dim":
        each = -each / (size * math.log(2))
    error = each.std().item() / len(each) ** 0.5 if len(each) > 1 else math.nan
    return LogLikelihood(each.mean().item(), error, unit, each)
