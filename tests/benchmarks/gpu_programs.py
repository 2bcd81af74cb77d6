"""The programs of `gpu.py`: each model by hand, as an expert writes it, and with Pixyz, from the same weights; needs nothing but torch.

By hand there are logits, no distribution objects and no checks; the optimiser is that of all rows, torch's fused Adam.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from gan import Size as GameSize
from gan import networks as game_networks
from handwritten import LeanVAE
from interleaved import ADAM, Size, seeded
from model_step import OPTIMIZER, our_loss
from pixyz_networks import DecoderOfLogits
from torch import Tensor, nn

from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN
from pixyz.losses import NLL, KullbackLeibler
from pixyz.models import Model

Losses = Tensor | tuple[Tensor, ...]
"""What a step returns, detached: the loss, or those of the generator and of the discriminator."""

BATCHES = 4
"""How many batches the data have: a graph that kept the first one would show other losses."""

STATIC = {"fullgraph": True, "dynamic": False}
"""How torch compiles by hand: the second size would else be compiled for batches of any size."""


def fused_adam(module: nn.Module, capturable: bool) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), **ADAM, capturable=capturable)


class HandStep:
    """A training step of one loss.

    Args:
        module: the loss, which takes the values.
        compiles: whether torch compiles it; the optimiser is fused, one call already.
        capturable: whether the optimiser counts its steps on the device, as a CUDA graph needs.
    """

    def __init__(self, module: nn.Module, *, compiles: bool = False, capturable: bool = False) -> None:
        self.modules = [module]
        self.optimizers = [fused_adam(module, capturable)]
        if compiles:
            module.compile(**STATIC)

    def __call__(self, x: Tensor) -> Losses:
        (module,), (optimizer,) = self.modules, self.optimizers
        loss = module({"x": x})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()


class HandGame:
    """A step of both players of the non-saturating game: the discriminator first, then the generator; the samples are drawn once.

    Args:
        modules: the generator and the discriminator.
        latent: the features of z.
        compiles: whether torch compiles the generator and both losses.
        capturable: whether the optimisers count their steps on the device.
    """

    def __init__(self, modules: Sequence[nn.Module], latent: int, *, compiles: bool = False, capturable: bool = False) -> None:
        self.modules, self.latent = list(modules), latent
        self.optimizers = [fused_adam(module, capturable) for module in modules]
        self.parts = [_fakes, _of_discriminator, _of_generator]
        if compiles:
            self.parts = [torch.compile(part, **STATIC) for part in self.parts]

    def __call__(self, x: Tensor) -> Losses:
        (g, d), (g_optimizer, d_optimizer) = self.modules, self.optimizers
        fakes, of_discriminator, of_generator = self.parts
        fake = fakes(g, torch.randn(len(x), self.latent, device=x.device))
        d_loss = of_discriminator(d, x, fake.detach())
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        d.requires_grad_(False)
        loss = of_generator(d, fake)
        g_optimizer.zero_grad()
        loss.backward()
        g_optimizer.step()
        d.requires_grad_(True)
        return loss.detach(), d_loss.detach()


def _fakes(g: nn.Module, z: Tensor) -> Tensor:
    return g(z)


def _of_discriminator(d: nn.Module, x: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-d(x)).mean() + F.softplus(d(fake)).mean()


def _of_generator(d: nn.Module, fake: Tensor) -> Tensor:
    return F.softplus(-d(fake)).mean()


ByHand = HandStep | HandGame


class Program(NamedTuple):
    """One model at one size.

    Attributes:
        title: what it is.
        draw: one batch of data, from torch's generator of the CPU.
        by_hand: makes the step by hand on a device, with the options of `HandStep`.
        ours: makes the model on a device, with the options of `Model`.
    """

    title: str
    draw: Callable[[int], Tensor]
    by_hand: Callable[..., ByHand]
    ours: Callable[..., Model]

    def batches(self, device: torch.device) -> list[Tensor]:
        """The data, made once, on the device."""
        torch.manual_seed(1)
        return [self.draw(number).to(device) for number in range(BATCHES)]


def vae(title: str, size: Size) -> Program:
    """The VAE of all benchmarks: two hidden layers, z normal, x of zeros and ones, the KL divergence in closed form."""

    def by_hand(device: torch.device, **options: bool) -> HandStep:
        return HandStep(seeded(LeanVAE, size).to(device), **options)

    def ours(device: torch.device, **options: Any) -> Model:
        return Model(our_loss(size, DecoderOfLogits).to(device), **OPTIMIZER, **options)

    return Program(f"{title}, batch {size.batch}, {size.data}-{size.hidden}-{size.latent}", _bits((size.batch, size.data)), by_hand, ours)


def _bits(shape: Sequence[int]) -> Callable[[int], Tensor]:
    """Zeros and ones; each batch has other rates."""
    return lambda number: (torch.rand(*shape) < (number + 1) / (BATCHES + 1)).float()


def _normal(shape: Sequence[int]) -> Callable[[int], Tensor]:
    """Normal numbers; each batch has another scale."""
    return lambda number: torch.randn(*shape) * (number + 1) / BATCHES


def game(title: str, batch: int, size: GameSize) -> Program:
    """A GAN of flat images, with the non-saturating loss."""

    def by_hand(device: torch.device, **options: bool) -> HandGame:
        return HandGame([net.to(device) for net in game_networks(size)], size.latent, **options)

    def ours(device: torch.device, **options: Any) -> Model:
        g, d = (net.to(device) for net in game_networks(size))
        p = (Deterministic("p(x|z)", x=g) * Normal("p(z)", loc=0.0, scale=1.0, dim=size.latent)).marginalize_var("z").to(device)
        return GAN(p, Deterministic("d(t|x)", t=d), optimizer_params=ADAM, **options)

    return Program(f"{title}, batch {batch}, {size.latent}-{size.hidden}-{size.data}", _normal((batch, size.data)), by_hand, ours)


class ConvEncoder(nn.Module):
    """loc and scale of q(z|x), of images 3 × 32 × 32."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(n, m, 4, stride=2, padding=1) for n, m in ((3, 32), (32, 64), (64, 128))]
        self.net = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())), nn.Flatten(), nn.Linear(2048, 2 * latent))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        loc, scale = self.net(x).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale)}


class ConvDecoder(nn.Sequential):
    """The mean of p(x|z)."""

    def __init__(self, latent: int) -> None:
        layers = [nn.ConvTranspose2d(n, m, 4, stride=2, padding=1) for n, m in ((128, 64), (64, 32), (32, 3))]
        after = [part for layer in layers for part in (nn.ReLU(), layer)]
        super().__init__(nn.Linear(latent, 2048), nn.Unflatten(1, (128, 4, 4)), *after)


class LeanConvVAE(nn.Module):
    """-ELBO of images, whose pixels are normal with scale 1."""

    def __init__(self, networks: nn.ModuleList) -> None:
        super().__init__()
        self.encoder, self.decoder = networks

    def forward(self, values: dict[str, Tensor]) -> Tensor:
        x = values["x"]
        loc, scale = self.encoder(x).values()
        z = loc + scale * torch.randn_like(loc)
        kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
        energy = 0.5 * (x - self.decoder(z)).square().flatten(1).sum(-1) + 0.5 * math.log(2 * math.pi) * x[0].numel()
        return (energy + kl).mean()


def conv_vae(title: str, batch: int, latent: int) -> Program:
    """A convolutional VAE of images 3 × 32 × 32."""

    def networks(_: object) -> nn.ModuleList:
        return nn.ModuleList([ConvEncoder(latent), ConvDecoder(latent)])

    def by_hand(device: torch.device, **options: bool) -> HandStep:
        return HandStep(LeanConvVAE(seeded(networks, None)).to(device), **options)

    def ours(device: torch.device, **options: Any) -> Model:
        encoder, decoder = seeded(networks, None)
        q, p = Normal("q(z|x)", encoder), Normal("p(x|z)", loc=decoder, scale=1.0)
        loss = -(p.log_prob().expectation(q) - KullbackLeibler(q, Normal("p(z)", loc=0.0, scale=1.0, dim=latent))).mean()
        return Model(loss.to(device), **OPTIMIZER, **options)

    return Program(f"{title}, batch {batch}, 3 × 32 × 32, {latent} latent", _normal((batch, 3, 32, 32)), by_hand, ours)


def real_nvp(title: str, batch: int, features: int, transforms: int) -> Program:
    """A flow of affine couplings with networks of 64 × 64. Only it needs pixyz.flows."""
    draw = _normal((batch, features))

    def by_hand(device: torch.device, **options: bool) -> HandStep:
        from gpu_real_nvp import lean_of, real_nvp_of

        return HandStep(lean_of(seeded(real_nvp_of, (draw, transforms))).to(device), **options)

    def ours(device: torch.device, **options: Any) -> Model:
        from gpu_real_nvp import real_nvp_of

        return Model(NLL(seeded(real_nvp_of, (draw, transforms))).mean().to(device), **OPTIMIZER, **options)

    return Program(f"{title}, batch {batch}, {features} features, {transforms} couplings", draw, by_hand, ours)


PROGRAMS = {
    "small": vae("VAE", Size(32, 64, 32, 8)),
    "mnist": vae("VAE of MNIST's size", Size(128, 784, 400, 20)),
    "gan": game("GAN of 28 × 28", 128, GameSize(784, 64, 512)),
    "conv": conv_vae("convolutional VAE", 128, 64),
    "realnvp": real_nvp("RealNVP", 256, 8, 6),
}
BY_DEFAULT = ("small", "mnist", "gan")
