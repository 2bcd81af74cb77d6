"""The VAE by hand, twice: with torch.distributions, and lean. Every row is compared with both; the layers are those of all rows."""

import torch
import torch.nn.functional as F
from interleaved import Size
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal


def add_encoder_layers(module: nn.Module, size: Size) -> None:
    module.fc1 = nn.Linear(size.data, size.hidden)
    module.fc2 = nn.Linear(size.hidden, size.hidden)
    module.fc31 = nn.Linear(size.hidden, size.latent)
    module.fc32 = nn.Linear(size.hidden, size.latent)


def add_decoder_layers(module: nn.Module, size: Size) -> None:
    module.fc1 = nn.Linear(size.latent, size.hidden)
    module.fc2 = nn.Linear(size.hidden, size.hidden)
    module.fc3 = nn.Linear(size.hidden, size.data)


def encode(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """loc and scale of q(z|x)"""
    h = F.relu(module.fc1(x))
    h = F.relu(module.fc2(h))
    return module.fc31(h), F.softplus(module.fc32(h))


def decode_logits(module: nn.Module, z: Tensor) -> Tensor:
    """logits of p(x|z)"""
    h = F.relu(module.fc1(z))
    h = F.relu(module.fc2(h))
    return module.fc3(h)


def decode(module: nn.Module, z: Tensor) -> Tensor:
    """probs of p(x|z)"""
    return torch.sigmoid(decode_logits(module, z))


class Encoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        add_encoder_layers(self, size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return encode(self, x)


class Decoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        add_decoder_layers(self, size)

    def forward(self, z: Tensor) -> Tensor:
        return decode(self, z)


class HandVAE(nn.Module):
    """-ELBO, averaged over the batch, with the same dict of values and the same validation as Pixyz: on in eager, off in compiled code."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder = Encoder(size)
        self.decoder = Decoder(size)

    def forward(self, values: dict[str, Tensor]) -> Tensor:
        validate = not torch.compiler.is_compiling()
        x = values["x"]
        loc, scale = self.encoder(x)
        z = Normal(loc, scale, validate_args=validate).rsample()
        log_prob = Bernoulli(probs=self.decoder(z), validate_args=validate).log_prob(x).sum(-1)
        kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
        return -(log_prob - kl).mean()


def log_bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """log p(x) of independent Bernoulli variables, summed over the last dim: the lean form."""
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


class LeanVAE(HandVAE):
    """The same as an expert writes it: logits, no distribution objects, no checks."""

    def forward(self, values: dict[str, Tensor]) -> Tensor:
        x = values["x"]
        loc, scale = encode(self.encoder, x)
        z = loc + scale * torch.randn_like(loc)
        kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
        return (kl - log_bernoulli(x, decode_logits(self.decoder, z))).mean()
