"""Which optimiser trains which distributions: sorted, checked, and made."""

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn, optim
from torch.optim.lr_scheduler import LRScheduler

from pixyz.core import Distribution, KindError, Loss, ParameterError, PixyzError, leaves_of, sides

from ._optimisation import Optimizer, Trained
from ._stepping import make_optimizer, needs_closure

Leaves = dict[str, nn.Module]


class Training(NamedTuple):
    """What is trained, and by what."""

    choices: list[tuple[Optimizer, Leaves]]
    """Each optimiser as it was written down, with its leaves by text."""
    weights: dict[str, nn.Parameter]
    """All that is trained, by name."""
    optimizers: list[optim.Optimizer]
    schedulers: list[LRScheduler]


def arrange(loss: Loss, one: Mapping[str, Any], several: Iterable[Optimizer] | None, *, compiling: bool, who: str) -> Training:
    """Makes the optimisers of a model and their schedulers.

    Args:
        loss: the loss.
        one: what was said of one optimiser, by word; None where nothing was.
        several: several, in place of the one.
        compiling: whether their steps will be compiled, unless they are fused.
        who: the model, for the messages.

    Raises:
        ParameterError: if there is nothing to train, one parameter is in two optimisers, or an option is out of range.
        KindError: for an optimiser or scheduler that is made already, or that no model can step.
    """
    choices = _choices(loss, one, several, who)
    # As the errors call them: `the optimiser Adam(lr=-1)`, `optimiser 2, Adam(lr=-1),`.
    called = [f"optimiser {n}, {choice}," if len(choices) > 1 else f"the optimiser {choice}" for n, choice in enumerate(choices, 1)]
    for choice, name in zip(choices, called):
        choice.check(who, name)
    shares = [_leaves_by_text(loss, choice.distributions, who) for choice in choices]
    _check_shares(loss, shares, who)
    names: dict[nn.Parameter, str] = {}
    optimizers, schedulers = [], []
    for choice, leaves, name_ in zip(choices, shares, called, strict=True):
        mine = {}
        for text, leaf in leaves.items():
            for name, weight in leaf.named_parameters():
                mine.setdefault(weight, f"{text}.{name}")  # what two leaves share has the first one's name
        names.update(mine)
        sparse = any(getattr(module, "sparse", False) is True for leaf in leaves.values() for module in leaf.modules())
        with _named(f"{who}: {name_} cannot be made"):
            optimizers.append(make_optimizer(choice.optimizer, [*mine], choice.optimizer_params, compiling=compiling, sparse=sparse))
        if needs_closure(optimizers[-1]):
            raise KindError(
                f"{who}: {type(optimizers[-1]).__name__} evaluates the loss several times in a step, which train does not. "
                "Write its loop with loss.estimate(values)."
            )
        if choice.scheduler is not None:
            with _named(f"{who}: the scheduler of {name_} cannot be made"):
                schedulers.append(choice.scheduler(optimizers[-1], **choice.scheduler_params))
    return Training([*zip(choices, shares, strict=True)], {name: w for w, name in names.items()}, optimizers, schedulers)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Inside, what an optimiser or a scheduler refuses is an error that begins with `what`."""
    try:
        yield
    except PixyzError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        said = str(error).strip().rstrip(".")
        raise ParameterError(f"{what}: {said}. Change its options, optimizer_params or scheduler_params.") from error


def _choices(loss: Loss, one: Mapping[str, Any], several: Iterable[Optimizer] | None, who: str) -> list[Optimizer]:
    said = {word: value for word, value in one.items() if value is not None}
    if several is None:
        return [Optimizer(**{"distributions": loss, **said})] if "distributions" in said else _of_sides(loss, said)
    choices = list(several)
    if said:
        raise ParameterError(f"{who}: optimizers says what {', '.join(said)} would; give either.")
    for choice in choices:
        if not isinstance(choice, Optimizer):
            raise KindError(
                f"{who}: optimizers takes Optimizer([p, q], torch.optim.Adam, ...) of pixyz.models; got a {type(choice).__name__}."
            )
    if not choices:
        raise ParameterError(f"{who}: optimizers is empty; leave it out for one optimiser that trains everything.")
    return choices


def _of_sides(loss: Loss, said: Mapping[str, Any]) -> list[Optimizer]:
    """One optimiser for all that a loss has; of a game, one for each side."""
    minimising, maximising = sides(loss)
    if not maximising:
        return [Optimizer(loss, **said)]
    return [Optimizer(leaves, **said) for leaves in (minimising, maximising)]  # type: ignore[arg-type]  # leaves of the loss


def _leaves_by_text(loss: Loss, given: Trained, who: str) -> Leaves:
    """The leaves of what is given, each under its text in the loss."""
    texts = {leaf: text for text, leaf in loss.named_children()}
    found: Leaves = {}
    for part in (given,) if isinstance(given, (Loss, Distribution)) else given:
        if part in texts:
            found[texts[part]] = part
            continue
        if not isinstance(part, (Loss, Distribution)):
            raise KindError(f"{who}: distributions must be distributions; got a {type(part).__name__}.")
        _check_part(loss, part, texts.values(), who)
        for leaf in leaves_of(part):
            found[texts.get(leaf) or str(getattr(leaf, "leaf_text", type(leaf).__name__))] = leaf
    return found


def _check_part(loss: Loss, part: nn.Module, texts: Iterable[str], who: str) -> None:
    """An error for parameters of which the loss has none, to which no gradient comes."""
    weights = {*part.parameters()}
    if weights and weights.isdisjoint(loss.parameters()):
        name = part.prob_text if isinstance(part, Distribution) else str(part)
        raise ParameterError(
            f"{who}: distributions has {name}, of which {loss} has nothing, so it would not be trained. The loss has {', '.join(texts)}."
        )


def _check_shares(loss: Loss, shares: list[Leaves], who: str) -> None:
    """Raises an error for an optimiser with nothing to train and for a parameter in two, and warns of what nobody trains.

    Args:
        loss: the loss.
        shares: for each optimiser, its leaves by text.
        who: the model, for the messages.
    """
    owners: dict[nn.Parameter, tuple[int, str]] = {}
    for number, leaves in enumerate(shares, 1):
        count = 0
        for text, leaf in leaves.items():
            for name, weight in leaf.named_parameters():
                first, where = owners.setdefault(weight, (number, f"{text}.{name}"))
                if first != number:
                    also = "" if where == f"{text}.{name}" else f", which is {text}.{name},"
                    raise ParameterError(f"{who}: {where}{also} is in optimisers {first} and {number}; only one can train it.")
                count += weight.requires_grad
        if not count:
            whose = ", ".join(leaves) if leaves else "no distribution"
            raise ParameterError(
                f"{who}: {loss} has no parameters to train."
                if len(shares) == 1 and set(leaves.values()) == {*loss.children()}
                else f"{who}: optimiser {number} has no parameters to train; it is given {whose}."
            )
    left = [text for text, leaf in loss.named_children() if any(w.requires_grad and w not in owners for w in leaf.parameters())]
    if left:
        one = len(left) == 1
        warnings.warn(
            f"{who}: {loss} uses {' and '.join(left)}, which nobody trains. Add {'it' if one else 'them'} to the distributions, "
            f"or say that {'it is' if one else 'they are'} fixed with requires_grad_(False).",
            stacklevel=_outside(),
        )


def warn_of_sign(loss: Loss, trained: Iterable[nn.Parameter], who: str) -> None:
    """A warning if the loss is to be maximised. Where a part of its parameters stays as it is, it may be an adversary's."""
    what = None if loss.is_game else loss.to_be_maximised
    if what and {*trained}.issuperset([w for w in loss.parameters() if w.requires_grad]):
        warnings.warn(
            f"{who}: {loss} is {what}, and {who} minimises it, so training makes it worse without end. "
            f"To maximise it, minimise its negative, {-loss}.",
            stacklevel=_outside(),
        )


def _outside() -> int:
    """How far up the stack the user's line is: the ready-made models stand between it and this file."""
    level, frame = 1, sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith("pixyz.models"):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    return level
