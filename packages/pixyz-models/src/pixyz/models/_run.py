"""A training that can be saved anywhere in it, and go on from there."""

import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixyz.core import CheckpointError, ParameterError

from ._checkpoint import Checkpoint, save_checkpoint
from ._history import History
from ._order import EpochOrder, Position
from ._series import find

if TYPE_CHECKING:
    from ._model import Model


class Run:
    """A training: where it is in its data, what it has come to, and where it is saved.

    Args:
        model: the model.
        position: where it begins.
        save: the file or series of checkpoints.
        save_every: after how many steps; an epoch's end is saved anyway.
        keep: how many of a series are kept.
        best: the file of the weights with the least validation loss.
        early: what stops it early.

    Attributes:
        order: that of its data, where it is ours.
        is_writer: whether this process saves; of several, one does.
    """

    def __init__(
        self,
        model: "Model",
        position: Position,
        *,
        save: str | PathLike[str] | None,
        save_every: int | None,
        keep: int | None,
        best: str | PathLike[str] | None,
        early: Any,
    ) -> None:
        self.model = model
        self.position = position
        self.history = History()
        self.order: EpochOrder | None = None
        self.early = early
        self._save = save
        self._save_every = save_every
        self._keep = keep
        self._best = best
        self._due = False
        self.is_writer = True

    @property
    def state(self) -> dict[str, Any]:
        """What goes into a checkpoint beside the model."""
        h, order = self.history, self.order
        return {
            "seed": self.position.seed,
            "epoch": self.position.epoch,
            "batch": self.position.batch,
            "data": [] if order is None else [order.count, order.batch_size],
            "history": {
                "train": h.train,
                "validation": h.validation,
                "discriminator": h.discriminator,
                "terms": h.terms,
                "stopped_early": h.stopped_early,
            },
            "early": {} if self.early is None else self.early.state_dict(),
        }

    def resume(self, path: str | PathLike[str] | bool) -> None:
        """Goes on from a checkpoint; with True, from the last that `save` names, or from the start where there is none yet.

        Raises:
            FileNotFoundError: if there is no such file.
            CheckpointError: for one that no `fit` has saved, or of another seed or other data.
        """
        if path is not True:
            self.take_over(self.model.load(str(path)))
        elif self._save is None:
            raise ParameterError("fit: resume=True goes on from the last file of save=, which is not given. Say which file: resume=path.")
        elif (found := find(Path(self._save))) is not None:
            self.take_over(self.model.load(found))

    def take_over(self, checkpoint: Checkpoint) -> None:
        """Is where the checkpoint was, which has been loaded."""
        found, ours = checkpoint.position, self.state
        if not same_form(found, ours):
            raise CheckpointError(
                f"{checkpoint.path} does not say where in its data the training was: fit has not saved it. "
                "Load it with model.load(path), and let fit begin anew, without resume."
            )
        if found["seed"] != ours["seed"]:
            raise CheckpointError(f"{checkpoint.path} is of a training with seed={found['seed']}; this one has seed={ours['seed']}.")
        if found["batch"] and found["data"] != ours["data"]:
            before, now = [_words(*data) for data in (found["data"], ours["data"])]
            raise CheckpointError(
                f"{checkpoint.path} is in the middle of an epoch of {before}; fit is given {now}. Resume with the same data and batch size."
            )
        self.position.epoch, self.position.batch = found["epoch"], found["batch"]
        self.history = History(**found["history"], checkpoint=checkpoint.path)
        if self.early is not None and found["early"]:
            self.early.load_state_dict(found["early"])

    def step_done(self, *, last_of_epoch: bool) -> None:
        """One more batch was trained on."""
        self.position.batch += 1
        if self._save_every is not None and self.model.is_between_steps and self.model.step_count % self._save_every == 0:
            self._due = True
        if not last_of_epoch:  # what ends an epoch is saved with the numbers of the epoch
            self._save_if_due()

    def epoch_done(self, means: Mapping[str, Mapping[str, float]], *, stopping: bool) -> None:
        """One more epoch is whole.

        Args:
            means: its `train` and, if there are such data, `validation` numbers, by name.
            stopping: whether it is the last, by `patience`.
        """
        self.position.epoch, self.position.batch = self.position.epoch + 1, 0
        history = self.history
        history.train.append(means["train"].get("loss", math.nan))
        if "discriminator" in means["train"]:
            history.discriminator.append(means["train"]["discriminator"])
        history.stopped_early = stopping
        if "validation" in means:
            history.validation.append(means["validation"]["loss"])
            for name, value in means["validation"].items():
                if name != "loss":
                    history.terms.setdefault(name, []).append(value)
            if self._best is not None and self.is_writer and history.best_epoch == len(history.validation):
                save_checkpoint(self.model, self._best, position=self.state)
        self._due = True
        self._save_if_due()

    def _save_if_due(self) -> None:
        if self._due and self._save is not None and self.is_writer and self.model.is_between_steps:
            self.history.checkpoint = save_checkpoint(self.model, self._save, keep=self._keep, position=self.state)
            self._due = False


def same_form(found: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a state, which may come from anywhere, has the keys and kinds of ours, its numbers not negative."""
    if found.keys() != ours.keys() or any([type(found[key]) is not type(value) for key, value in ours.items()]):
        return False
    if min(found["epoch"], found["batch"]) < 0 or len(found["data"]) not in (0, 2):
        return False
    history = found["history"]
    if not isinstance(history, dict) or history.keys() != ours["history"].keys() or type(history["stopped_early"]) is not bool:
        return False
    terms = history["terms"]
    curves = [history["train"], history["validation"], history["discriminator"], *(terms.values() if isinstance(terms, dict) else [None])]
    return all([isinstance(curve, list) and all([type(number) is float for number in curve]) for curve in curves])


def _words(count: int = 0, batch_size: int = 0) -> str:
    return f"{count:,} data in batches of {batch_size}" if batch_size else "a loader in an order of its own"
