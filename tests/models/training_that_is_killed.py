"""A training in a process of its own: `python training_that_is_killed.py FOLDER`. It goes on from what FOLDER holds."""

import sys
from pathlib import Path

import torch
from torch import nn, optim

from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import Parameter
from pixyz.models import VAE, LinearSchedule, Model

EPOCHS, COUNT = 12, 200


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


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    model = build()
    x = {"x": torch.rand(COUNT, 64, generator=torch.Generator().manual_seed(1)).round()}
    series = folder / "step_{step}.safetensors"
    model.fit(x, epochs=EPOCHS, batch_size=10, validate=x, save=series, save_every=1, keep=2, resume=True, progress=False)
    model.save(folder / "final.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
