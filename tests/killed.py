"""A training process that is killed at random moments, and begun again, against one that is left alone."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch
from children import start
from lightning.pytorch import Callback
from torch import Tensor

from pixyz.models import Model

EPOCHS_PER_KILL, LEEWAY = 2, 5

Build = Callable[[], tuple[Model, dict[str, Tensor]]]


class Wait(Callback):
    """At a step, training waits to be killed: it may not be over before, however late the kill."""

    def __init__(self, model: Model, step: int) -> None:
        self.model, self.step = model, step

    def on_train_batch_end(self, *args: object) -> None:
        while self.model.step_count >= self.step:
            signal.pause()


def train(build: Build, folder: Path, epochs: int, wait_at: int | None) -> None:
    """A training that goes on from what the folder holds."""
    torch.set_num_threads(1)
    model, data = build()
    held_out = {name: values[:20] for name, values in data.items()}
    saving = {"save": folder / "step_{step}.safetensors", "save_every": 1, "keep": 2, "resume": True}
    callbacks = [] if wait_at is None else [Wait(model, wait_at)]
    model.fit(data, epochs=epochs, batch_size=10, validation=held_out, progress=False, callbacks=callbacks, **saving)
    model.save(folder / "final.safetensors")


def saved(folder: Path) -> int:
    """The step of the newest checkpoint."""
    return max((int(path.stem.removeprefix("step_")) for path in folder.glob("step_*.safetensors")), default=0)


def run_to_the_end(build: Build, folder: Path, epochs: int) -> bytes:
    """What the model is saved as when the training has ended."""
    process = start(train, build, folder, epochs, None)
    process.join()
    assert process.exitcode == 0
    return (folder / "final.safetensors").read_bytes()


def assert_ends_as_one_left_alone(build: Build, folder: Path, kills: int) -> None:
    """Bit for bit.

    Args:
        build: makes the model and its data, 20 batches of 10; a module must define it.
        folder: where both trainings save.
        kills: how often the one is killed.
    """
    alone, killed = folder / "alone", folder / "killed"
    alone.mkdir()
    killed.mkdir()
    epochs = EPOCHS_PER_KILL * kills
    wanted_end = run_to_the_end(build, alone, epochs)
    last = saved(alone)
    assert last >= 20 * kills

    chance = random.Random(kills)
    for kill in range(kills):
        before = saved(killed)
        wanted = before + chance.randint(1, (last - before) // (kills - kill) - LEEWAY - 1)
        process = start(train, build, killed, epochs, wanted + LEEWAY)
        while process.is_alive() and saved(killed) < wanted:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.02)  # somewhere in a step, in a save, or between
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert wanted <= saved(killed) < last
    assert run_to_the_end(build, killed, epochs) == wanted_end
