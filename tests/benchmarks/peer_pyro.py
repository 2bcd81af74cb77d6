"""The same step with Pyro, in an environment of its own; `model_step.py --peers` runs it.

Written as Pyro's users do: SVI with an ELBO that takes the KL in closed form, `pyro.optim.Adam`, and Pyro's validation at
its default, on. SVI sums over the batch and gives the loss as a number.
"""

from importlib.metadata import version

import pyro
from handwritten import Decoder, Encoder, HandVAE
from interleaved import ADAM, HAND, Size, Step, batch_of, run_peer, seeded, training_step
from pyro import distributions as dist
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn

PACKAGE = f"pyro-ppl {version('pyro-ppl')}"


class PyroVAE(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder = Encoder(size)
        self.decoder = Decoder(size)
        self.latent = size.latent

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("batch", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(x.shape[0], self.latent), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(probs=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("batch", x.shape[0]):
            loc, scale = self.encoder(x)
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))


def build(size: Size, x: Tensor) -> dict[str, Step]:
    pyro.clear_param_store()
    hand = seeded(HandVAE, size)
    vae = seeded(PyroVAE, size)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam(ADAM), loss=TraceMeanField_ELBO())
    return {
        HAND: training_step(hand, hand, x),
        f"{PACKAGE}, SVI.step": lambda: svi.step(**batch_of(x)) / size.batch,
    }


if __name__ == "__main__":
    run_peer(PACKAGE, build)
