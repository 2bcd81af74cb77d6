"""The quantities of moments, divergences and distribution functions."""

from collections.abc import Callable, Mapping
from typing import Any

import torch.distributions as td
from torch import Tensor

from pixyz.distributions import Interval
from pixyz.losses import KullbackLeibler, Renyi, Wasserstein

from .known_moments import KNOWN, ORDER
from .rows import Quantity, Subject, mp

LEVEL = Interval("in (0, 1)", lower=0.0, upper=1.0, open_below=True, open_above=True)
"""Of a probability at which a quantile is asked for."""
COUNTED = "total_count"
"""Of divergences, the same on both sides."""


def of_moment(name: str, *, has_slopes: bool = True) -> Quantity:
    def right(subject: Subject, at: Mapping[str, Any]) -> Any:
        return _number(KNOWN[subject.name].moments[name], at.values())

    def ours(subject: Subject, inputs: Mapping[str, Tensor]) -> Tensor:
        return _first(getattr(subject.build(), name)(inputs), subject, name)

    def torchs(subject: Subject, inputs: Mapping[str, Tensor]) -> Tensor:
        p = _peer(subject, inputs)
        return _first(p.entropy() if name == "entropy" else getattr(p, name), subject, name)

    return Quantity(
        name=name,
        right=right,
        ours=ours,
        torch=torchs,
        known=lambda subject: name in getattr(KNOWN.get(subject.name), "moments", {}),
        has_slopes=has_slopes,
        floor=lambda subject: 1.0 if name == "entropy" and subject.value.measure != "a mass" else 0.0,
    )


def of_function(name: str, taken: str) -> Quantity:
    """cdf of x, or icdf of a probability u."""

    def right(subject: Subject, at: Mapping[str, Any]) -> Any:
        return _number(KNOWN[subject.name].moments[name], at.values())

    def ours(subject: Subject, inputs: Mapping[str, Tensor]) -> Tensor:
        wide = {k: t.float() if t.dtype.itemsize < 4 else t for k, t in inputs.items()}  # as a conditional hands them to its family
        found = getattr(subject.family, name)({k: wide[k] for k in subject.supports}, wide[taken])
        return found.to(inputs[taken].dtype)

    def torchs(subject: Subject, inputs: Mapping[str, Tensor]) -> Tensor:
        return getattr(_peer(subject, inputs), name)(inputs[taken])

    return Quantity(
        name=name,
        right=right,
        ours=ours,
        torch=torchs,
        takes=lambda subject: {taken: subject.value if taken == "x" else LEVEL},
        known=lambda subject: name in getattr(KNOWN.get(subject.name), "moments", {}),
    )


def of_two(name: str, field: str, divergence: Callable[[Any, Any], Any], torchs: Any = None) -> Quantity:
    """A divergence of two members of a family."""

    def takes(subject: Subject) -> dict[str, Any]:
        return {f"q.{k}": s for k, s in subject.supports.items() if k != COUNTED}

    def right(subject: Subject, at: Mapping[str, Any]) -> Any:
        return _number(getattr(KNOWN[subject.name], field), at.values())

    def both(subject: Subject, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        p = {k: inputs[k] for k in subject.supports}
        return p, {k: inputs.get(f"q.{k}", inputs[k]) for k in subject.supports}

    def ours(subject: Subject, inputs: Mapping[str, Tensor]) -> Tensor:
        p, q = both(subject, inputs)
        names = {k: f"other_{k}" for k in q}
        other = subject.family(f"q(x|{','.join(names.values())})", **names)
        return divergence(subject.build(), other).estimate({**p, **{names[k]: t for k, t in q.items()}})

    return Quantity(
        name=name,
        right=right,
        ours=ours,
        torch=(lambda subject, inputs: torchs(*[_peer(subject, side) for side in both(subject, inputs)])) if torchs else None,
        takes=takes,
        known=lambda subject: getattr(KNOWN.get(subject.name), field, None) is not None,
    )


def _number(f: Callable[..., Any], inputs: Any) -> Any:
    """The number of a function in mpmath; nan where it has none."""
    try:
        found = f(*inputs)
    except (ZeroDivisionError, ValueError, OverflowError):
        return mp.nan
    return mp.nan if isinstance(found, mp.mpc) else mp.mpf(found)


def _first(found: Tensor, subject: Subject, name: str) -> Tensor:
    """Of a moment that is a vector, its first element."""
    of_vectors = subject.value.event_rank and name != "entropy"
    return found[..., 0] if of_vectors else found.reshape(len(found), -1)[:, 0] if found.ndim > 1 else found


def _peer(subject: Subject, inputs: Mapping[str, Tensor]) -> Any:
    if subject.peer is None:
        raise NotImplementedError
    return subject.peer({k: inputs[k] for k in subject.supports})


def _of_torch(p: td.Distribution, q: td.Distribution) -> Tensor:
    return td.kl_divergence(p, q)


MOMENTS = [
    of_moment("mean"),
    of_moment("variance"),
    of_moment("mode"),
    of_moment("entropy"),
    of_function("cdf", "x"),
    of_function("icdf", "u"),
    of_two("KL", "kl", KullbackLeibler, _of_torch),
    of_two("Renyi 2", "renyi", lambda p, q: Renyi(p, q, ORDER)),
    of_two("Wasserstein", "wasserstein", lambda p, q: Wasserstein(p, q, conditional=True)),
]
