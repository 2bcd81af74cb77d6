"""A training process that is killed at random moments, and begun again, ends where one ends that was left alone."""

import random
import signal
import time

import torch
from children import start
from lightning.pytorch import Callback
from torch import nn, optim

from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import Parameter
from pixyz.models import VAE, LinearSchedule, Model

COUNT, STEPS_OF_AN_EPOCH, EPOCHS_PER_KILL, LEEWAY = 200, 10, 2, 5


def build():
    torch.manual_seed(0)
    encoder = Normal("q(z|x)", loc=nn.Sequential(nn.Linear(64, 128), nn.Dropout(0.1), nn.Tanh(), nn.Linear(128, 4)), scale=0.5)
    decoder = Bernoulli("p(x|z)", logits=nn.Sequential(nn.Linear(4, 128), nn.Tanh(), nn.Linear(128, 64)))
    vae = VAE(encoder, decoder, Normal("p(z)", loc=torch.zeros(4), scale=1.0))
    return Model(
        Parameter("beta") * vae.loss,
        optimizer=optim.AdamW,
        scheduler=optim.lr_scheduler.CosineAnnealingLR,
        scheduler_params={"T_max": 100},
        schedules={"beta": LinearSchedule(0.1, 1.0, steps=60)},
        ema=0.99,
        accumulate=2,
    )


class Wait(Callback):
    """At a step, training waits to be killed: it may not be over before, however late the kill."""

    def __init__(self, model, step):
        self.model, self.step = model, step

    def on_train_batch_end(self, *args):
        while self.model.step_count >= self.step:
            signal.pause()


def train(folder, epochs, wait_at):
    """A training that goes on from what the folder holds."""
    torch.set_num_threads(1)
    model = build()
    x = {"x": torch.rand(COUNT, 64, generator=torch.Generator().manual_seed(1)).round()}
    saving = {"save": folder / "step_{step}.safetensors", "save_every": 1, "keep": 2, "resume": True}
    callbacks = [Wait(model, wait_at)] if wait_at else []
    model.fit(x, epochs=epochs, batch_size=10, validate={"x": x["x"][:20]}, progress=False, callbacks=callbacks, **saving)
    model.save(folder / "final.safetensors")


def saved(folder):
    return max((int(path.stem.removeprefix("step_")) for path in folder.glob("step_*.safetensors")), default=0)


def run_to_the_end(folder, epochs):
    process = start(train, folder, epochs, None)
    process.join()
    assert process.exitcode == 0


def test_a_killed_training_ends_as_one_that_was_left_alone(tmp_path, request):
    kills = request.config.getoption("--kills")
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    alone.mkdir()
    killed.mkdir()
    epochs = EPOCHS_PER_KILL * kills
    run_to_the_end(alone, epochs)
    last = saved(alone)
    assert last == epochs * STEPS_OF_AN_EPOCH

    chance = random.Random(kills)
    for kill in range(kills):
        before = saved(killed)
        wanted = before + chance.randint(1, (last - before) // (kills - kill) - LEEWAY - 1)
        process = start(train, killed, epochs, wanted + LEEWAY)
        while process.is_alive() and saved(killed) < wanted:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.02)  # somewhere in a step, in a save, or between
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert wanted <= saved(killed) < last
    run_to_the_end(killed, epochs)
    assert (alone / "final.safetensors").read_bytes() == (killed / "final.safetensors").read_bytes()
