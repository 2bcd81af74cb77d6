"""A file in a model: everything is read and checked first, and only then is anything changed."""

import json
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, optim

from pixyz.core import CheckpointError, RandomState, set_random_state

from ._checkpoint import FORMAT, Checkpoint, library_version
from ._facts import described, differences, facts_of
from ._misfits import count, few, first_other, printable, same_as
from ._optimizer_state import optimizer_state, scheduler_state
from ._scaling import is_scale_state
from ._series import newest
from ._signature import Weights
from ._tensor_file import TensorFile
from ._trees import fit, put_together

if TYPE_CHECKING:
    from ._model import Model

_KINDS = {"step_count": int, "tied": dict, "optimizers": list, "schedulers": list, "random": dict, "extra": dict, "position": dict}


def load_checkpoint(model: "Model", path: str | PathLike[str], *, strict: bool) -> Checkpoint:
    """See `Model.load`."""
    plan = _Plan(model, TensorFile(newest(Path(path))))
    try:
        plan.make()
    except RecursionError as error:
        raise CheckpointError(f"{plan.file.path} is damaged: its state is nested too deeply. Nothing was loaded.") from error
    if strict and plan.left:
        raise CheckpointError(
            f"{plan.file.path} is of another model. Nothing was loaded.\n  {few(plan.left)}\n"
            "Build the model with the code that it was saved by, or load what fits, with strict=False."
        )
    plan.carry_out()
    return plan.checkpoint()


class _Plan:
    """What of a file goes where in a model."""

    def __init__(self, model: "Model", file: TensorFile) -> None:
        self.model = model
        self.file = file
        self.left: list[str] = []
        self._weights: list[tuple[Tensor, Tensor]] = []
        self._states: list[tuple[str, Any, dict[str, Any]]] = []

    def make(self) -> None:
        """Compares the whole file with the model; what does not fit is in `left`.

        Raises:
            CheckpointError: for a file that no model wrote.
        """
        self._state = self._header()
        self.extra = self._entry("extra")
        self.position = self._entry("position")
        self._random = self._random_state()
        self._scales = self._scale_states()
        weights = Weights(self.model)
        self._constants = weights.constants
        formula = self.file.texts["formula"]
        if formula != str(self.model.loss):
            self.left += [f"- in the file:    {printable(formula)}", f"+ in this model:  {self.model.loss}"]
        self._compare_weights(weights)
        self._compare_facts(is_same_formula=formula == str(self.model.loss))
        self._compare_optimizers(weights)
        self._compare_schedulers()
        self._compare_ema()

    def carry_out(self) -> None:
        """Changes the model. What may still fail comes first, and is taken back if it does.

        Raises:
            CheckpointError: if an optimiser or the like refuses its state; nothing is changed then.
        """
        undo: list[Callable[[], None]] = []
        for name, owner, state in self._states:
            undo.append(_way_back(owner))
            try:
                owner.load_state_dict(state)
            except Exception as error:
                for back in reversed(undo):
                    back()
                raise self._damaged(f"{name} does not take its state, {error}") from error
        with torch.no_grad():
            for target, value in self._weights:
                target.copy_(value)
                target.grad = None
        set_random_state(self._random, self._device)
        self.model._load_scales(self._scales)
        self.model.program.abandon()
        self.model.step_count = self._state["step_count"]

    def checkpoint(self) -> Checkpoint:
        texts = self.file.texts
        return Checkpoint(
            self.file.path,
            texts["formula"],
            texts.get("version", ""),
            self._state["step_count"],
            self.extra,
            tuple(self.left),
            self.position,
        )

    @property
    def _device(self) -> torch.device:
        return self.model.trained_parameters[0].device

    def _header(self) -> dict[str, Any]:
        texts = self.file.texts
        if not {"format", "formula", "state"} <= texts.keys() or not texts["format"].startswith("pixyz "):
            raise CheckpointError(f"{self.file.path} holds tensors, but no formula: it is not from Model.save. Nothing was loaded.")
        if texts["format"] != FORMAT:
            raise CheckpointError(
                f"{self.file.path} has the format {printable(texts['format'])!r}, of version {printable(texts.get('version', '?'))}; "
                f"this version, {library_version()}, reads {FORMAT!r}. Nothing was loaded; install the version that saved it."
            )
        try:
            state = json.loads(texts["state"])
        except ValueError as error:
            raise self._damaged(f"its state is no JSON: {error}") from error
        if not isinstance(state, dict) or state.keys() - {"scales"} != {*_KINDS, "ema"}:
            raise self._damaged(f"its state has not the entries {', '.join(_KINDS)} and ema")
        for key, kind in _KINDS.items():
            if type(state[key]) is not kind:
                raise self._damaged(f"{key} is a {type(state[key]).__name__}, not a {kind.__name__}")
        for key in ("optimizers", "schedulers"):
            for entry in state[key]:
                if not isinstance(entry, dict) or not isinstance(entry.get("class"), str) or "state" not in entry:
                    raise self._damaged(f"an entry of {key} has no class or no state")
        if state["step_count"] < 0 or not all([isinstance(v, str) and f"weights/{v}" in self.file.names for v in state["tied"].values()]):
            raise self._damaged("step_count is negative, or a tied parameter is tied to none")
        return state

    def _compare_weights(self, weights: Weights) -> None:
        stored = {name.removeprefix("weights/") for name in self.file.names if name.startswith("weights/")}
        for name, target in weights.tensors.items():
            source = self._state["tied"].get(name, name)
            if source not in stored:
                self.left.append(f"{name}: only in this model")
                continue
            shape, dtype = self.file.kind(f"weights/{source}")
            if shape != target.shape:
                self.left.append(f"{name}: {shape} in the file, {tuple(target.shape)} in this model")
            elif dtype != target.dtype:
                self.left.append(f"{name}: {dtype} in the file, {target.dtype} in this model".replace("torch.", ""))
            else:
                self._take_weight(name, target, self.file.read(f"weights/{source}"))
        own = weights.tensors.keys() | weights.tied.keys()
        self.left += [f"{printable(name)}: only in the file" for name in sorted((stored | self._state["tied"].keys()) - own)]
        for name in sorted((weights.tied.keys() | self._state["tied"].keys()) & own & (stored | self._state["tied"].keys())):
            ours, theirs = weights.tied.get(name), self._state["tied"].get(name)
            if ours != theirs:
                self.left.append(f"{name}: {same_as(theirs)} in the file, {same_as(ours)} in this model")

    def _compare_facts(self, *, is_same_formula: bool) -> None:
        """What the text does not show; of another formula, what its leaves have in common."""
        text = self.file.texts.get("facts")
        if text is None:
            warnings.warn(
                f"{self.file.path} was saved by a version that did not keep the options of a formula (numbers of draws, estimators, "
                "families): whether they are those of this model was not compared.",
                stacklevel=5,
            )
            return
        try:
            theirs = json.loads(text)
        except ValueError as error:
            raise self._damaged(f"its facts are no JSON: {error}") from error
        if not isinstance(theirs, dict) or not all([isinstance(options, dict) for options in theirs.values()]):
            raise self._damaged("its facts are no options by name")
        ours = facts_of(self.model.loss, self.model.distributions)
        # A module with other tensors has been named already.
        named = tuple([line.split(": ")[0].rpartition(".")[0] for line in self.left])
        is_same_version = self.file.texts.get("version") == library_version()
        for part, line in differences(theirs, ours, all_of_them=is_same_version):
            if part not in named and (is_same_formula or (part in ours and part in theirs)):
                self.left.append(printable(line))

    def _take_weight(self, name: str, target: Tensor, value: Tensor) -> None:
        if name in self._constants:
            if not _same(value, target.detach().cpu()):
                self.left.append(f"{name}: {described(value)} in the file, {described(target)} in this model, where it is a constant")
            return
        if any([stride == 0 and size > 1 for stride, size in zip(target.stride(), target.shape)]):  # it cannot be written to
            if not torch.equal(value, target.cpu()):
                self.left.append(f"{name}: other values in the file, and in this model it is expanded, with one number in several places")
        else:
            self._weights.append((target, value))

    def _compare_optimizers(self, weights: Weights) -> None:
        for entry, optimizer in self._pairs("optimizers", self.model.optimizers):
            name = type(optimizer).__name__
            theirs, ours = entry.get("trains"), weights.trained_by(optimizer.param_groups)
            if theirs != ours:
                self.left.append(f"{name}: trains {count(theirs)} in the file, {count(ours)} in this model" + first_other(theirs, ours))
                continue
            self._take(name, optimizer, entry["state"], optimizer_state)

    def _compare_schedulers(self) -> None:
        for entry, scheduler in self._pairs("schedulers", self.model.schedulers):
            groups = next((state["param_groups"] for _, owner, state in self._states if owner is scheduler.optimizer), None)
            self._take(type(scheduler).__name__, scheduler, entry["state"], partial(scheduler_state, groups=groups))

    def _compare_ema(self) -> None:
        tree, ema = self._state["ema"], self.model.ema
        if (tree is None) != (ema is None):
            self.left.append(f"the moving average of the weights: only in {'the file' if ema is None else 'this model'}")
        elif ema is not None:
            self._take("the moving average of the weights", ema, tree, lambda found, _: fit(found, ema.state_dict()))

    def _pairs(self, key: str, own: list[Any]) -> list[tuple[dict[str, Any], Any]]:
        """Those of the file beside those of the model, where the classes are the same."""
        found, pairs = self._state[key], []
        if len(found) != len(own):
            self.left.append(f"{key}: {len(found)} in the file, {len(own)} in this model")
        for entry, mine in zip(found, own):
            if entry["class"] != type(mine).__name__:
                self.left.append(f"{printable(entry['class'])} in the file, {type(mine).__name__} in this model")
            else:
                pairs.append((entry, mine))
        return pairs

    def _take(self, name: str, owner: Any, tree: Any, fitted: Callable[[Any, Any], dict[str, Any]]) -> None:
        try:
            self._states.append((name, owner, fitted(self._value(tree), owner)))
        except TypeError as error:
            self.left.append(f"{name}: its state in the file does not fit, {printable(str(error))}")

    def _random_state(self) -> RandomState:
        found = self._entry("random")
        cpu, cuda = found.get("cpu"), found.get("cuda") if self._device.type == "cuda" else None
        for state, device in ((cpu, "cpu"), (cuda, self._device)):
            if state is None and device != "cpu":
                continue
            try:
                torch.Generator(device).set_state(state)  # type: ignore[arg-type]
            except (RuntimeError, TypeError) as error:
                raise self._damaged("its random state is none of torch's") from error
        return cpu, cuda  # type: ignore[return-value]

    def _scale_states(self) -> Sequence[dict[str, Any] | None]:
        """The scale of each player's loss, if they were scaled."""
        players = len(self.model._loss_scales)
        found = self._value(self._state["scales"]) if "scales" in self._state else [None] * players
        if not isinstance(found, list) or not all([s is None or is_scale_state(s) for s in found]):
            raise self._damaged("its scales are none of a loss")
        if len(found) != players:
            self.left.append(f"the scales of the loss: {len(found)} in the file, {players} in this model")
        return found

    def _entry(self, key: str) -> dict[str, Any]:
        value = self._value(self._state[key])
        if not isinstance(value, dict):
            raise self._damaged(f"{key} is a {type(value).__name__}, not a dict")
        return value

    def _value(self, tree: Any) -> Any:
        try:
            return put_together(tree, self._read)
        except CheckpointError as error:
            raise self._damaged(str(error)) from error

    def _read(self, name: str) -> Tensor:
        if name not in self.file.names or self.file.kind(name)[1] is None:
            raise CheckpointError(f"the tensor {printable(name)!r} is not in it")
        return self.file.read(name)

    def _damaged(self, why: str) -> CheckpointError:
        return CheckpointError(f"{self.file.path} is damaged: {printable(why)}. Nothing was loaded.")


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape have the same values, nan where the other has nan."""
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _way_back(owner: Any) -> Callable[[], None]:
    """What puts an optimiser, a scheduler or a moving average back as it is now."""
    if isinstance(owner, optim.Optimizer):
        return partial(owner.__dict__.update, dict(owner.__dict__))  # load_state_dict replaces what it changes
    return partial(owner.load_state_dict, deepcopy(owner.state_dict()))
