"""Twenty-five normal distributions on a grid: how many of them a GAN finds, by the first GANs' loss and by relativistic pairing.

    python docs/gallery/rpgan.py --steps 10000 --device cpu --seed 0 --out out/rpgan

Jolicoeur-Martineau (2019), https://arxiv.org/abs/1807.00734; Huang et al. (2024), https://arxiv.org/abs/2501.05441
"""

import matplotlib.pyplot as plt
import torch
from implicit import Network, arguments, grid, save, show_points
from torch import Tensor, nn
from tqdm import trange

from pixyz.core import Distribution, Loss
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN, R1, R2, AdversarialNonSaturating, RelativisticPairing


class Waves(nn.Module):
    """Random Fourier features, by which a network soon sees what is small: Tancik et al. (2020), https://arxiv.org/abs/2006.10739"""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 * torch.randn(2, count))

    def forward(self, x: Tensor) -> Tensor:
        phases = x @ self.frequencies
        return torch.cat([x / 4, phases.sin(), phases.cos()], -1)


def paired(p: Distribution, d: Distribution) -> Loss:
    return RelativisticPairing(p, d) - 0.005 * R1(p, d) - 0.005 * R2(p, d)


def gan(loss: type[Loss] | object) -> GAN:
    generator = Deterministic("p(x|z)", x=Network(2, 128, 128, 2))
    p = (generator * Normal("p(z)", loc=0.0, scale=1.0, dim=2)).marginalize_var("z")
    d = Deterministic("d(t|x)", t=nn.Sequential(Waves(32), Network(66, 128, 128, 1)))
    return GAN(p, d, loss=loss, optimizer_params={"lr": 2e-3, "betas": (0.0, 0.9)}, ema=0.99)


def modes(x: Tensor, scale: float) -> tuple[int, float]:
    """Of 2,500 samples: the modes with at least 20 within three scales, and the share that is so near to one."""
    nearest = (x / 2).round().clamp(-2, 2)
    near = (x - 2 * nearest).norm(dim=1) < 3 * scale
    places = (nearest[near] + 2).long() @ torch.tensor([5, 1])
    return int((places.bincount(minlength=25) >= 20).sum()), near.float().mean().item()


def main() -> None:
    args = arguments(__doc__, "rpgan", steps=10000, scale=0.05)
    _, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    show_points(axes[0], grid(2500, args.scale), "data", 5.5)
    losses = {"non-saturating": AdversarialNonSaturating, "relativistic pairing, R1, R2": paired}
    for axis, (name, loss) in zip(axes[1:], losses.items()):
        torch.manual_seed(args.seed)
        model = gan(loss)
        model.loss.to(args.device)
        print(model.loss.unicode())
        for _ in trange(args.steps, desc=name, unit="step"):
            model.train({"x": grid(256, args.scale).to(args.device)})
        with torch.no_grad(), model.averaged():
            x = model.p.sample(batch_size=2500)["x"].cpu()
        covered, near = modes(x, args.scale)
        print(f"  {covered} of 25 modes covered, {near:.0%} of the samples near to one\n")
        show_points(axis, x, f"{name}: {covered} of 25", 5.5)
    save(args.out / "rpgan.png")


if __name__ == "__main__":
    main()
