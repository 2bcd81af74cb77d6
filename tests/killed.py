"""A training that is killed, and begun again, ends as one that was left alone, bit for bit.

A process gets SIGKILL in a step, around the writing of a checkpoint, or at a random moment. `assert_cut_ends_as_one_left_alone` stops by
an exception in the process of the test instead, where a fault of the library may be planted.
"""

import functools
import hashlib
import os
import random
import signal
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from children import import_beforehand, result_of, start
from lightning.pytorch import Callback
from safetensors import safe_open
from torch.optim.optimizer import register_optimizer_step_pre_hook
from trainings import BATCHES, TRAININGS, Training

from pixyz.models import Model

MOST, LEEWAY = 4, 3
"""A process is stopped after at most so many steps and those of the leeway."""
PLACES = (
    "after a step",
    "in the writing",
    "before the update",
    "before the renaming",
    "before an older one is removed",
    "after the renaming",
)
"""Where a training may stop: each comes at least once in every step; the removal from the third step on."""
BETWEEN, MOMENT = "between the batches of a step", "at a random moment"

import_beforehand("torch._inductor.compile_fx", "pixyz.models", "pixyz.gan", "pixyz.flows")

Place = tuple[str, int]
"""Where a training stops, and how often it has come there then; of a random moment, after how many steps."""


class Cut(BaseException):
    """The end of a training in the process of the test."""


def kill() -> None:
    """Ends this process, with nothing tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)


def cut() -> None:
    """Ends a training by an exception."""
    raise Cut


class Stop(Callback):
    """Stops a training when it has come to a place for the n-th time."""

    def __init__(self, place: str, count: int, model: Model, stop: Callable[[], None]) -> None:
        self.place, self.left, self.model, self.stop = place, count, model, stop

    def is_due(self) -> bool:
        self.left -= 1
        return self.left == 0

    def here(self) -> None:
        if self.is_due():
            self.stop()

    def on_train_batch_end(self, *args: object) -> None:
        if self.place == ("after a step" if self.model.is_between_steps else BETWEEN):
            self.here()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, the calls at the place are followed."""
        changes: dict[str, tuple[str, Callable[..., Any]]] = {
            "in the writing": ("write", self._half),
            "before the renaming": ("replace", functools.partial(self._around, before=True)),
            "after the renaming": ("replace", functools.partial(self._around, before=False)),
            "before an older one is removed": ("unlink", functools.partial(self._around, before=True)),
        }
        with pytest.MonkeyPatch.context() as patch:
            if self.place in changes:
                call, change = changes[self.place]
                patch.setattr(os, call, change(getattr(os, call)))
            if self.place != "before the update":
                yield
                return
            hook = register_optimizer_step_pre_hook(lambda *args: self.here())
            try:
                yield
            finally:
                hook.remove()

    def _half(self, write: Callable[..., int]) -> Callable[..., int]:
        def half(handle: int, content: Any) -> int:
            if stat.S_ISREG(os.fstat(handle).st_mode) and self.is_due():
                write(handle, bytes(content)[: len(content) // 2])
                self.stop()
            return write(handle, content)

        return half

    def _around(self, call: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
        def watched(*paths: Any, **options: Any) -> Any:
            is_checkpoint = str(paths[-1]).endswith(".safetensors")
            if is_checkpoint and before:
                self.here()
            result = call(*paths, **options)
            if is_checkpoint and not before:
                self.here()
            return result

        return watched


class Wait(Callback):
    """Says by a file that the training has made so many steps, and waits for its end a few steps later, however late that comes."""

    def __init__(self, file: Path, calls: int, leeway: int) -> None:
        self.file, self.calls, self.leeway = file, calls, leeway

    def on_train_batch_end(self, *args: object) -> None:
        self.calls -= 1
        if self.calls == 0:
            self.file.touch()
        while self.calls <= -self.leeway:
            signal.pause()


def epochs_for(training: Training, stops: int) -> int:
    """Epochs that are not over before a training has stopped so often."""
    return -(-(stops * (MOST + LEEWAY) + 2) * training.calls // BATCHES)


def stopped(training: Training, folder: Path, epochs: int, place: str, count: int, stop: Callable[[], None]) -> None:
    """Trains from the last checkpoint in the folder until it stops at the place."""
    model = training.model()
    watch = Stop(place, count, model, stop)
    with watch.watching():
        training.run(model, folder, epochs=epochs, callbacks=[watch])


def ends(training: Training, folder: Path, epochs: int) -> dict[str, str]:
    """All that a training from the last checkpoint in the folder ends with, by name."""
    model = training.model()
    training.run(model, folder, epochs=epochs)
    found = dict(_flat(state_of(model), ""))
    model.save(folder / "final.safetensors")
    with safe_open(folder / "final.safetensors", "pt") as file:
        found |= {f"in the file, {name}": text for name, text in file.metadata().items()}
        found |= {f"in the file, {name}": _digest(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    found["files"] = str(sorted(path.name for path in folder.iterdir()))
    if training.best:
        model.load(folder / "best.safetensors")
        found |= {f"of the best, {name}": text for name, text in _flat(state_of(model), "")}
    return found


def state_of(model: Model) -> dict[str, Any]:
    """All that the next step of a model depends on, read off the model and not off what it saves."""
    return {
        "weights": dict(model.loss.state_dict()),
        "of the test loss": dict(model.test_loss.state_dict()),
        "optimizers": [o.state_dict() for o in model.optimizers],
        "schedulers": [s.state_dict() for s in model.schedulers],
        "average": None if model.ema is None else model.ema.state_dict(),
        "random": torch.get_rng_state(),
        "steps": model.step_count,
        "skipped": model.skipped_steps,
    }


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name}/{key}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _flat(item, f"{name}/{number}")
    else:
        yield name, _digest(value) if isinstance(value, torch.Tensor) else repr(value)


def _digest(tensor: torch.Tensor) -> str:
    content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()[:16]}"


def assert_equal(found: dict[str, str], wanted: dict[str, str]) -> None:
    differ = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    assert not differ, f"{len(differ)} of {len(wanted)} differ: " + "; ".join(
        f"{n}: {found.get(n)}, alone {wanted.get(n)}" for n in differ[:5]
    )


def places(name: str, stops: int) -> list[Place]:
    """Where a training is stopped: at each of the places, in turn, and every second time at a random moment where there are many."""
    training, number = TRAININGS[name], [*TRAININGS].index(name)
    chance = random.Random(f"{name}/{stops}")
    known = [*PLACES, MOMENT] if training.calls == 1 else [BETWEEN, *PLACES[1:], MOMENT]
    chosen = [known[(number + stop) % len(known)] if stops == 1 or stop % 2 else MOMENT for stop in range(stops)]
    if stops > 1:
        chosen[1::2] = [known[:-1][(number + stop) % (len(known) - 1)] for stop in range(stops // 2)]
    return [(place, chance.randint(1, MOST)) for place in chosen]


def _in_a_child(name: str, folder: Path, epochs: int, place: str, count: int) -> None:
    torch.set_num_threads(1)
    training = TRAININGS[name]
    if place == MOMENT:
        wait = Wait(folder / "ready", count * training.calls, LEEWAY * training.calls)
        training.run(training.model(), folder, epochs=epochs, callbacks=[wait])
    else:
        stopped(training, folder, epochs, place, count, kill)


def _both_ends(name: str, killed: Path, alone: Path, epochs: int) -> list[dict[str, str]]:
    return [ends(TRAININGS[name], folder, epochs) for folder in (killed, alone)]


def assert_killed_ends_as_one_left_alone(name: str, folder: Path, stops: Sequence[Place]) -> None:
    """A training in one process after another, each but the last of which is killed, and the same training in one go."""
    killed, alone = folder / "killed", folder / "alone"
    killed.mkdir()
    alone.mkdir()
    epochs = epochs_for(TRAININGS[name], len(stops))
    for place, count in stops:
        process = start(_in_a_child, name, killed, epochs, place, count)
        if place == MOMENT:
            ready = killed / "ready"
            while process.is_alive() and not ready.exists():
                time.sleep(0.002)
            ready.unlink(missing_ok=True)
            time.sleep(random.Random(f"{place}/{count}").random() * 0.02)  # somewhere in a step, in a save, or between
            process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"{name}, {place} {count}: exit code {process.exitcode}"
    assert_equal(*result_of(_both_ends, name, killed, alone, epochs))


@functools.cache
def _ends_alone(name: str, epochs: int) -> dict[str, str]:
    with TemporaryDirectory() as folder:
        return ends(TRAININGS[name], Path(folder), epochs)


def assert_cut_ends_as_one_left_alone(name: str, place: str, count: int) -> None:
    """The same by an exception in this process, whose generator has another state when the training goes on."""
    training = TRAININGS[name]
    epochs = epochs_for(training, 1)
    wanted = _ends_alone(name, epochs)
    with TemporaryDirectory() as folder:
        with pytest.raises(Cut):
            stopped(training, Path(folder), epochs, place, count, cut)
        torch.rand(7)
        assert_equal(ends(training, Path(folder), epochs), wanted)
