"""A Wasserstein GAN with gradient penalty on eight normal distributions: its samples, and the landscape that its critic makes.

    python docs/gallery/wgan_gp.py --steps 3000 --device cpu --seed 0 --out out/wgan_gp

Gulrajani et al. (2017), https://arxiv.org/abs/1704.00028
"""

import matplotlib.pyplot as plt
import torch
from implicit import Network, arguments, ring, save, show_points
from tqdm import trange

from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN, AdversarialWassersteinDistance, GradientPenalty


def wgan_gp() -> GAN:
    generator = Deterministic("p(x|z)", x=Network(2, 128, 128, 2))
    p = (generator * Normal("p(z)", loc=0.0, scale=1.0, dim=2)).marginalize_var("z")
    critic = Deterministic("f(t|x)", t=Network(2, 128, 128, 1))
    return GAN(
        p,
        critic,
        loss=lambda p, f: AdversarialWassersteinDistance(p, f) - GradientPenalty(p, f),
        optimizer_params={"lr": 2e-3, "betas": (0.5, 0.9)},
        n_critic=3,
        ema=0.98,
    )


def main() -> None:
    args = arguments(__doc__, "wgan_gp", steps=3000)
    model = wgan_gp()
    model.loss.to(args.device)
    print(model, end="\n\n")
    p, critic = model.p, model.discriminator
    distance = AdversarialWassersteinDistance(p, critic)
    curve = []
    for step in trange(args.steps, desc="WGAN-GP", unit="step"):
        model.train({"x": ring(128).to(args.device)})
        if step % 20 == 0:
            with torch.no_grad():
                curve.append((step, distance.estimate({"x": ring(1000).to(args.device)}).item()))

    line = torch.linspace(-3, 3, 100)
    places = torch.cartesian_prod(line, line).to(args.device)
    with torch.no_grad(), model.averaged():
        x = p.sample(batch_size=2000)["x"].cpu()
        height = critic.sample({"x": places})["t"].reshape(100, 100).T.cpu()
    _, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    show_points(axes[0], ring(2000), "data", 3)
    axes[1].contourf(line, line, height, levels=25, cmap="viridis")
    show_points(axes[1], x, "p(x), on the heights of f(x)", 3, "white")
    axes[2].plot(*zip(*curve))
    axes[2].set(xlabel="step", ylim=(0, None))
    axes[2].set_title("the distance that the critic sees", fontsize=10)
    axes[2].spines[["top", "right"]].set_visible(False)
    print(f"distance: {curve[0][1]:.3f} at first, {curve[-1][1]:.3f} in the end")
    save(args.out / "wgan_gp.png")


if __name__ == "__main__":
    main()
