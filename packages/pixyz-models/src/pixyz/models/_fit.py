"""`Model.fit`: a training run by Lightning, with our order of the data and our checkpoints."""

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pixyz.core import KindError, ParameterError, is_whole, random_state, set_random_state

from ._checkpoint import save_checkpoint
from ._data import Data
from ._finite import Validate, is_known
from ._history import History
from ._loaders import is_in_memory, make_loader
from ._of_lightning import Checkpoint, EarlyStopping, LightningModule, MultiProcessingLauncher, Trainer
from ._optimizer_state import move_states
from ._order import Position
from ._run import Run
from ._series import check_keep, is_series
from .lightning import LightningModel

if TYPE_CHECKING:
    from ._model import Model

# What the model or `fit` says itself, and how.
_SAID_ELSEWHERE = {
    "max_epochs": "epochs=",
    "max_steps": "epochs=",
    "gradient_clip_val": "Model(..., clip_grad_norm=)",
    "gradient_clip_algorithm": "Model(..., clip_grad_value=)",
    "accumulate_grad_batches": "Model(..., accumulate=)",
    "enable_checkpointing": "save=",
    "enable_progress_bar": "progress=",
    "use_distributed_sampler": "seed=",
    "log_every_n_steps": "log_every=",
    "reload_dataloaders_every_n_epochs": "epochs=",
}


class _Reporter(Checkpoint):
    """Tells a run how far it is. As a checkpoint callback it comes after all others, and Lightning adds none of its own."""

    def __init__(self, run: Run, hand_over: Path) -> None:
        self._run = run
        self.hand_over = hand_over
        self._random = random_state(run.model.trained_parameters[0].device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run.is_writer = trainer.is_global_zero
        # What was drawn while the trainer was set up is no part of the run.
        if not trainer.global_rank and (pl_module.device.type == "cuda") == (self._random[1] is not None):
            set_random_state(self._random, pl_module.device)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._run.step_done(last_of_epoch=trainer.is_last_batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run.epoch_done(pl_module.epoch_means, stopping=trainer.should_stop)  # type: ignore[arg-type]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(trainer.strategy.launcher, MultiProcessingLauncher) and trainer.is_global_zero:
            save_checkpoint(self._run.model, self.hand_over, position=self._run.state)


def fit(
    model: "Model",
    data: Data,
    *,
    epochs: int,
    validation: Data | None,
    validate: Validate | None,
    batch_size: int | None,
    names: Sequence[str] | None,
    seed: int,
    save: str | PathLike[str] | None,
    save_every: int | None,
    keep: int | None,
    best: str | PathLike[str] | None,
    resume: str | PathLike[str] | bool,
    patience: int | None,
    logger: Any,
    log_every: int,
    callbacks: Sequence[Any],
    progress: bool | None,
    options: Mapping[str, Any],
) -> History:
    """See `Model.fit`."""
    who = f"{type(model).__name__}.fit"
    if not is_whole(epochs) or epochs < 1:
        raise ParameterError(f"{who}: epochs must be a whole number of at least 1; got {epochs!r}.")
    for word, count in (("save_every", save_every), ("log_every", log_every), ("patience", patience)):
        if count is not None and (not is_whole(count) or count < 1):
            raise ParameterError(f"{who}: {word} must be a whole number of at least 1; got {count!r}.")
    for word, given, needs, there in (
        ("save_every", save_every, "save", save),
        ("patience", patience, "validation", validation),
        ("best", best, "validation", validation),
    ):
        if given is not None and there is None:
            raise ParameterError(f"{who}: {word}={given!r} needs {needs}=, which is not given.")
    for word in options:
        if word in _SAID_ELSEWHERE:
            raise ParameterError(f"{who}: {word} is Lightning's; say it here with {_SAID_ELSEWHERE[word]}.")
    if validate is not None and not is_known(validate):
        raise KindError(
            f'{who}: validate says whether steps are checked, True, False or "deferred"; got a {type(validate).__name__}. '
            "The data for the validation loss are validation=."
        )
    if save is not None:
        keep = keep if is_series(Path(save)) else None
        check_keep(Path(save), keep)

    position = Position(seed)
    early = None if patience is None else EarlyStopping("validation/loss", patience=patience, check_on_train_epoch_end=False)
    run = Run(model, position, save=save, save_every=save_every, keep=keep, best=best, early=early)
    module = LightningModel(model, names=names, log_every=log_every)
    loader = make_loader(data, module.train_variables, who, batch_size=batch_size, names=names, position=position, shuffle=True)
    run.order = loader.order
    device = model.trained_parameters[0].device
    if loader.ahead is not None and "accelerator" not in options and loader.ahead.device.type != device.type:
        raise KindError(
            f"{who}: the loader moves its batches to {loader.ahead.device}, but the model is on {device}. "
            "Move the model there before it is trained, or give the device where it is."
        )
    held_out = None
    if validation is not None:
        size = batch_size if is_in_memory(validation) else None
        at_start = Position(seed)
        test = f"{who}(validation=...)"
        held_out = make_loader(validation, module.test_variables, test, batch_size=size, names=names, position=at_start, shuffle=False)
    if resume is not False:
        run.resume(resume)
    if position.epoch >= epochs or run.history.stopped_early:
        return run.history

    with TemporaryDirectory() as folder, _quiet():
        reporter = _Reporter(run, Path(folder) / "model.safetensors")
        trainer = Trainer(
            max_epochs=epochs,
            logger=False if logger is None else logger,
            callbacks=[*([early] if early else []), *callbacks, reporter],
            enable_model_summary=False,
            enable_progress_bar=_is_watched() if progress is None else progress,
            log_every_n_steps=1,
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=int(position.batch > 0),  # the first has fewer batches
            **{"num_sanity_val_steps": 0, "inference_mode": False, **_where(device, options), **options},
        )
        _count_from(trainer, position.epoch)
        before = model.validate
        try:
            if validate is not None:
                model.validate = validate
            trainer.fit(module, loader, held_out)
        finally:
            _bring_back(model, module, device)
            if validate is not None:
                model.validate = before
        if reporter.hand_over.exists():  # the processes that trained were others
            run.take_over(model.load(reporter.hand_over))
    return run.history


def _where(device: torch.device, options: Mapping[str, Any]) -> dict[str, Any]:
    """Lightning's words for where the model is, unless the user says where to train."""
    if "accelerator" in options:
        return {}
    kind = "gpu" if device.type == "cuda" else device.type
    devices = [device.index or 0] if kind == "gpu" else 1
    return {"accelerator": kind, "devices": devices}


def _count_from(trainer: Trainer, epoch: int) -> None:
    """The trainer's epochs go on from here, for its bar and its loggers."""
    for tracker in (trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_progress.total):
        tracker.ready = tracker.completed = epoch
        tracker.started = tracker.processed = epoch  # type: ignore[attr-defined]


def _bring_back(model: "Model", module: nn.Module, device: torch.device) -> None:
    """The weights, and what the optimisers remember of them, where they were; Lightning leaves them on the CPU."""
    module.to(device)
    move_states(model.optimizers)


def _is_watched() -> bool:
    """Whether somebody sees a progress bar: on a terminal, or in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning says of devices and tips, and of data to validate on where there are none."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", "You defined a `validation_step` but have no `val_dataloader`")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
