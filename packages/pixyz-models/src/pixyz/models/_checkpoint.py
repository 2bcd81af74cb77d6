"""A model in a file: what is in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pixyz.core import KindError, random_state

from ._facts import facts_of
from ._series import check_keep, numbered, prune
from ._signature import Weights, signature
from ._tensor_file import write_tensors
from ._trees import take_apart

if TYPE_CHECKING:
    from ._model import Model

FORMAT = "pixyz 1"


@dataclass(frozen=True)
class Checkpoint:
    """What `Model.load` has loaded.

    Attributes:
        path: the file.
        formula: the formula of the model that was saved.
        version: the version of this library that saved it.
        step_count: the steps that the model had made.
        extra: what `Model.save` was given to keep.
        position: where in its data the training was, if `fit` has saved it.
        left: what did not fit and was left, a line each; only with `strict=False`.
    """

    path: Path
    formula: str
    version: str
    step_count: int
    extra: dict[str, Any] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    position: dict[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        left = [f"left: {line}" for line in self.left]
        return "\n  ".join([str(self.path), f"formula:  {self.formula}", f"steps:    {self.step_count}", *left])


def save_checkpoint(
    model: "Model",
    path: str | PathLike[str],
    *,
    keep: int | None = None,
    extra: Mapping[str, Any] | None = None,
    position: Mapping[str, Any] | None = None,
) -> Path:
    """See `Model.save`. `position` says where in its data a training is, and the like."""
    given = Path(path)
    check_keep(given, keep)
    target = numbered(given, model.step_count)
    if not isinstance(extra or {}, Mapping):
        raise KindError(f"extra must be a mapping, such as {{'epoch': 3}}; got a {type(extra).__name__}.")
    weights = Weights(model)
    tensors: dict[str, Tensor] = {f"weights/{name}": t for name, t in weights.tensors.items()}

    def apart(value: Any, where: str) -> Any:
        return take_apart(value, where, tensors)

    cpu, cuda = random_state(model.trained_parameters[0].device)
    state = {
        "step_count": model.step_count,
        "tied": weights.tied,
        "optimizers": [
            {"class": type(o).__name__, "trains": weights.trained_by(o.param_groups), "state": apart(o.state_dict(), f"optimizers/{i}")}
            for i, o in enumerate(model.optimizers)
        ],
        "schedulers": [
            {"class": type(s).__name__, "state": apart(s.state_dict(), f"schedulers/{i}")} for i, s in enumerate(model.schedulers)
        ],
        "ema": apart(None if model.ema is None else model.ema.state_dict(), "ema"),
        "random": apart({"cpu": cpu, "cuda": cuda}, "random"),
        "extra": apart(dict(extra or {}), "extra"),
        "position": apart(dict(position or {}), "position"),
    }
    scales = [None if scale is None else scale.state_dict() for scale in model._loss_scales]
    if any(scales):
        state["scales"] = apart(scales, "scales")
    texts = {
        "format": FORMAT,
        "version": library_version(),
        "formula": str(model.loss),
        "signature": signature(model, weights),
        "facts": json.dumps(facts_of(model.loss, model.distributions), allow_nan=False),
        "state": json.dumps(state, allow_nan=False),
    }
    write_tensors(target, tensors, texts)
    if keep is not None:
        prune(given, model.step_count, keep)
    return target


@cache
def library_version() -> str:
    """The version of this package, as it is installed."""
    try:
        return version("pixyz-models")
    except PackageNotFoundError:
        return "unknown"
