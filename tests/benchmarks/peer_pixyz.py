"""The same step with the published pixyz 0.3.3, in an environment of its own; `model_step.py --peers` runs it."""

from importlib.metadata import version
from typing import Any

import torch
from handwritten import HandVAE
from interleaved import ADAM, HAND, Size, Step, batch_of, run_peer, seeded, training_step
from pixyz_networks import Decoder, Encoder, networks
from torch import Tensor

from pixyz.distributions import Normal
from pixyz.losses import KullbackLeibler
from pixyz.models import Model

PACKAGE = f"pixyz {version('pixyz')}"


def make_loss(q: Encoder, p: Decoder, size: Size) -> Any:
    prior = Normal(var=["z"], loc=torch.tensor(0.0), scale=torch.tensor(1.0), features_shape=[size.latent], name="p_{prior}")
    return -(p.log_prob().expectation(q) - KullbackLeibler(q, prior)).mean()


def build(size: Size, x: Tensor) -> dict[str, Step]:
    hand = seeded(HandVAE, size)
    stepped = seeded(networks, size)
    trained = seeded(networks, size)
    model = Model(make_loss(*trained, size), distributions=[*trained], optimizer=torch.optim.Adam, optimizer_params=ADAM)
    return {
        HAND: training_step(hand, hand, x),
        f"{PACKAGE}, loss.eval": training_step(stepped, make_loss(*stepped, size).eval, x),
        f"{PACKAGE}, Model.train": lambda: model.train(batch_of(x)).detach(),
    }


if __name__ == "__main__":
    run_peer(PACKAGE, build)
