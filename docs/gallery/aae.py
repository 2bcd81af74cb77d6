"""An adversarial autoencoder on scikit-learn's digits: a discriminator, not a divergence, holds the codes to their prior.

    python docs/gallery/aae.py --steps 4000 --device cpu --seed 0 --out out/aae

Makhzani et al. (2016), https://arxiv.org/abs/1511.05644
"""

import matplotlib.pyplot as plt
import torch
from implicit import Network, arguments, batch, digits, save, show_images
from torch import nn
from tqdm import trange

from pixyz.distributions import Deterministic, Normal
from pixyz.gan import AdversarialNonSaturating
from pixyz.models import Model


def aae() -> Model:
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    p = Normal("p(x|z)", loc=Network(2, 128, 128, 64, last=nn.Tanh()), scale=0.5)
    q = Deterministic("q(z|x)", z=Network(64, 128, 128, 2))
    d = Deterministic("d(t|z)", t=Network(2, 128, 128, 1))
    reconstruction = -p.log_prob().expectation(q).mean()
    game = AdversarialNonSaturating(q, d, real=prior)
    return Model(reconstruction + 5 * game, optimizer_params={"lr": 1e-3, "betas": (0.5, 0.9)}, p=p * prior, q=q)


def main() -> None:
    args = arguments(__doc__, "aae", steps=4000)
    data = digits(args.device)
    model = aae()
    model.loss.to(args.device)
    print(model, end="\n\n")
    for _ in trange(args.steps, desc="AAE", unit="step"):
        model.train({"x": batch(data, 128)["x"]})

    p = model.p.get_submodule("p(x|z)")
    line = torch.linspace(2, -2, 12, device=args.device)
    with torch.no_grad():
        z = model.q.sample({"x": data["x"]})["z"].cpu()
        across = p.mean({"z": torch.cartesian_prod(line, -line).flip(1)})
        again = p.mean({"z": model.q.sample({"x": data["x"]})["z"]})
    error = (again - data["x"]).square().mean().item() / 4  # of numbers from 0 to 1
    print(f"squared error of a pixel {error:.4f}; the codes have mean {z.mean(0).tolist()} and scale {z.std(0).tolist()}")
    _, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    dots = axes[0].scatter(*z.T, c=data["y"].argmax(-1).cpu(), cmap="tab10", s=6, linewidths=0)
    axes[0].legend(*dots.legend_elements(), fontsize=7, loc="upper right", handletextpad=0)
    axes[0].set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
    axes[0].set_title("codes of the digits", fontsize=10)
    show_images(axes[1], across, 12, "what p(x|z) makes of codes from -2 to 2")
    save(args.out / "aae.png")


if __name__ == "__main__":
    main()
