"""Twenty-five normal distributions on a grid: how many of them a GAN finds, by the first GANs' loss and by relativistic pairing.

    python docs/gallery/rpgan.py --steps 8000 --device cpu --seed 0 --out out/rpgan

Jolicoeur-Martineau (2019), https://arxiv.org/abs/1807.00734; Huang et al. (2024), https://arxiv.org/abs/2501.05441
"""

from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from implicit import Network, arguments, grid, save, show_points
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import trange

from pixyz.core import Distribution, Loss, Parameter
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN, R1, R2, AdversarialNonSaturating, RelativisticPairing

UNIT = 2 * 2**0.5  # the standard deviation of the data, in which the networks count


def paired(p: Distribution, d: Distribution) -> Loss:
    return RelativisticPairing(p, d) - 0.5 * Parameter("gamma") * (R1(p, d) + R2(p, d))


def gan(loss: Callable[[Distribution, Distribution], Loss], steps: int) -> GAN:
    generator = Deterministic("p(x|z)", x=Network(2, 128, 128, 128, 2, slope=0.0))
    p = (generator * Normal("p(z)", loc=0.0, scale=1.0, dim=2)).marginalize_var("z")
    d = Deterministic("d(t|x)", t=Network(2, 128, 128, 128, 1))
    # From 0.1 to 0.0001, to where d can be as steep as the modes are narrow.
    falling = {"gamma": lambda step: 0.1 ** (1 + 3 * min(step / (0.6 * steps), 1.0))}
    return GAN(
        p,
        d,
        loss=loss,
        optimizer_params={"lr": 1e-3, "betas": (0.0, 0.9)},
        scheduler=CosineAnnealingLR,
        scheduler_params={"T_max": steps},
        d_scheduler=CosineAnnealingLR,
        d_scheduler_params={"T_max": steps},
        schedules=falling if loss is paired else None,
        ema=0.999,
    )


def modes(x: Tensor, scale: float) -> tuple[int, float]:
    """Of 2,500 samples: the modes with at least 20 within three scales, and the share that is so near to one."""
    nearest = (x / 2).round().clamp(-2, 2)
    near = (x - 2 * nearest).norm(dim=1) < 3 * scale
    places = (nearest[near] + 2).long() @ torch.tensor([5, 1])
    return int((places.bincount(minlength=25) >= 20).sum()), near.float().mean().item()


def main() -> None:
    args = arguments(__doc__, "rpgan", steps=8000, scale=0.05)
    _, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    show_points(axes[0], grid(2500, args.scale), "data", 5.5)
    losses = {"non-saturating": AdversarialNonSaturating, "relativistic pairing, R1, R2": paired}
    for axis, (name, loss) in zip(axes[1:], losses.items()):
        torch.manual_seed(args.seed)
        model = gan(loss, args.steps)
        model.loss.to(args.device)
        print(model.loss.unicode())
        for _ in trange(args.steps, desc=name, unit="step"):
            model.train({"x": grid(256, args.scale).to(args.device) / UNIT})
        with torch.no_grad(), model.averaged():
            x = UNIT * model.p.sample(batch_size=2500)["x"].cpu()
        covered, near = modes(x, args.scale)
        print(f"  {covered} of 25 modes covered, {near:.0%} of the samples near to one\n")
        show_points(axis, x, f"{name}: {covered} of 25", 5.5)
    save(args.out / "rpgan.png")


if __name__ == "__main__":
    main()
