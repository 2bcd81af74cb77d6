"""A case, held against its truth."""

import re
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixyz.core import PixyzError

from .case import Built, Case, OutsideError, Rejection, Truth, gradients_of, weights

TOLERANCE = 1e-9
LARGEST_Z = 4.5
GROUPS = 32
"""Means of how many independent estimates the standard error is computed from."""


class DisagreementError(AssertionError):
    """A formula of which the library says something else than its truth; the first line is its kind, without numbers."""


@dataclass
class Outcome:
    """What came of a case: the library's error that was expected, or the largest error relative to its scale, or the largest z."""

    rejected: str | None = None
    error: float = 0.0
    z: float = 0.0
    drawn_again: bool = False
    text: str = ""


def check(case: Case, *, compiled: bool = False, rejections: Sequence[Rejection] = (), ignored: Sequence[str] = ()) -> Outcome:
    """Compares value and gradients with the truth.

    A stochastic case that differs by more than 4.5 standard errors is estimated once more, with other noise and four times the samples,
    and disagrees only if it differs then too: among 100,000 formulas of some ten components each there are a dozen differences of 4.5
    standard errors by chance, and more where the estimates have heavy tails.

    Args:
        case: the formula.
        compiled: whether the loss is compiled before it is evaluated, by the backend "eager".
        rejections: errors of the library that are right.
        ignored: regular expressions of warnings that are right.

    Raises:
        DisagreementError: if the two differ, if the truth is not finite or raises an error, or if the library raises an error or gives a
            warning that is not expected.
    """
    try:
        truth = case.truth()
    except OutsideError:
        raise
    except Exception as error:
        raise DisagreementError(f"the truth raises {type(error).__name__}\n{error}") from error
    if not all(t.isfinite().all() for t in (truth.value, *truth.gradients.values())):
        raise DisagreementError(f"the truth is not finite\n{truth}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for kind in (DeprecationWarning, FutureWarning):  # torch's own
                warnings.simplefilter("ignore", kind)
            for pattern in (*ignored, "The .grad attribute of a Tensor"):
                warnings.filterwarnings("ignore", message=f".*{pattern}")
            return _compared(case, truth, compiled)
    except PixyzError as error:
        for rejection in rejections:
            if isinstance(error, rejection.kind) and re.search(rejection.text, str(error)):
                return Outcome(rejected=rejection.reason)
        raise DisagreementError(f"rejected: {type(error).__name__}\n{error}") from error
    except DisagreementError:
        raise
    except Exception as error:
        raise DisagreementError(f"raises {type(error).__name__}\n{error}") from error
    finally:
        if compiled:
            torch.compiler.reset()


def _compared(case: Case, truth: Truth, compiled: bool) -> Outcome:
    if case.exact:
        built = _built(case, 1, compiled)
        value, gradients = _value_and_gradients(built)
        _need_registered(built, truth)
        return Outcome(error=_error(value, gradients, truth), text=str(built.loss))
    z, text = _largest_z(case, truth, compiled, times=1)
    again = z >= LARGEST_Z
    if again:
        z, text = _largest_z(case, truth, compiled, times=4, explain=True)
    return Outcome(z=z, drawn_again=again, text=text)


def _built(case: Case, copies: int, compiled: bool) -> Built:
    built = case.build(copies)
    if compiled:
        built.loss.compile(backend="eager", fullgraph=True)
    return built


def _value_and_gradients(built: Built) -> tuple[Tensor, dict[str, Tensor]]:
    value = built.loss.estimate(built.values, **built.options)
    return value.detach(), gradients_of(value, built.leaves)


def _need_registered(built: Built, truth: Truth) -> None:
    """Every parameter that the formula depends on is one of the loss, or no optimiser would find it."""
    known = {id(parameter) for parameter in built.loss.parameters()}
    for name, leaf in built.leaves.items():
        if isinstance(leaf, nn.Parameter) and id(leaf) not in known and truth.gradients[name].abs().max() > TOLERANCE:
            raise DisagreementError(f"a parameter is not registered\n{name} is not in loss.parameters() of {built.loss}")


def _error(value: Tensor, gradients: dict[str, Tensor], truth: Truth) -> float:
    worst = 0.0
    pairs = {"the value": (value, truth.value)} | {f"the gradient by {n}": (gradients[n], truth.gradients[n]) for n in truth.gradients}
    for name, (ours, true) in pairs.items():
        if ours.shape != true.shape:
            raise DisagreementError(f"{name.split(' by ')[0]} has another shape\n{name}: {tuple(ours.shape)}, truth {tuple(true.shape)}")
        if not ours.numel():
            continue
        scale = max(1.0, truth.scale, true.abs().max().item())
        error = ((ours - true).abs().max() / scale).item()
        if not error <= TOLERANCE:
            raise DisagreementError(
                f"{name.split(' by ')[0]} differs\n{name}: {ours.tolist()}, truth {true.tolist()}, relative to {scale:.3g}"
            )
        worst = max(worst, error)
    return worst


def _largest_z(case: Case, truth: Truth, compiled: bool, *, times: int, explain: bool = False) -> tuple[float, str]:
    names = list(truth.gradients)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(zlib.crc32(repr(case).encode()) + times)
        if case.copies > 1:
            built = _built(case, case.copies * times, compiled)
            values, gradients = _of_copies(built, truth, case.copies * times)
        else:
            built = _built(case, 1, compiled)
            several = [_value_and_gradients(built) for _ in range(case.repeats * times)]
            values = torch.stack([value for value, _ in several])
            gradients = {name: torch.stack([g[name] for _, g in several]) for name in names}
    _need_registered(built, truth)
    worst = 0.0
    pairs = {"the value": (values, truth.value)} | {f"the gradient by {n}": (gradients[n], truth.gradients[n]) for n in names}
    for name, (ours, true) in pairs.items():
        if ours.shape[1:] != true.shape:
            raise DisagreementError(
                f"{name.split(' by ')[0]} has another shape\n{name}: {tuple(ours.shape[1:])}, truth {tuple(true.shape)}"
            )
        if not true.numel():
            continue
        scale = max(1.0, truth.scale, true.abs().max().item())
        mean, error = ours.mean(0), ours.std(0) / len(ours) ** 0.5
        z = ((mean - true).abs() / (error + TOLERANCE * scale)).max().item()
        if explain and not z < LARGEST_Z:
            raise DisagreementError(
                f"{name.split(' by ')[0]} differs by {LARGEST_Z} standard errors or more\n{name}: {mean.tolist()} ± {error.tolist()}, "
                f"truth {true.tolist()}, z = {z:.1f}"
            )
        worst = max(worst, z) if z == z else float("inf")
    return worst, str(built.loss)


def _of_copies(built: Built, truth: Truth, copies: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Means over groups of the copies: of the value and of the gradients, `(groups, ...)`."""
    value = built.loss.estimate(built.values, **built.options)
    expected = (copies * truth.value.numel(),)
    if tuple(value.shape) != expected:
        raise DisagreementError(f"the value has another shape\n{tuple(value.shape)}, truth {expected}")
    groups = value.reshape(GROUPS, copies // GROUPS, *truth.value.shape).mean(1)
    leaves = tuple(built.leaves.values())
    if not value.requires_grad:
        return groups.detach(), {name: torch.zeros(GROUPS, *leaf.shape) for name, leaf in built.leaves.items()}
    sums = (groups * weights(truth.value)).flatten(1).sum(1)
    found = torch.autograd.grad(sums, leaves, torch.eye(GROUPS), allow_unused=True, is_grads_batched=True)
    named = {n: torch.zeros(GROUPS, *leaf.shape) if g is None else g for (n, leaf), g in zip(built.leaves.items(), found)}
    return groups.detach(), named
