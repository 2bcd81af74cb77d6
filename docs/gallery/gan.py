"""A generative adversarial network on scikit-learn's digits, and one that is told which digit to draw.

    python docs/gallery/gan.py --steps 4000 --device cpu --seed 0 --out out/gan

Goodfellow et al. (2014), https://arxiv.org/abs/1406.2661; Mirza and Osindero (2014), https://arxiv.org/abs/1411.1784
"""

import matplotlib.pyplot as plt
import torch
from implicit import Network, arguments, batch, digits, save, show_images
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from tqdm import trange

from pixyz.core import Distribution, Loss
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN, R1, AdversarialNonSaturating

DIM = 16
SETTINGS = {"optimizer_params": {"lr": 1e-3, "betas": (0.5, 0.9)}, "ema": 0.99}


class Told(Network):
    """A network of an image and its label, which is the louder for being one number beside 64."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x, 4 * y)


def gan() -> GAN:
    generator = Deterministic("p(x|z)", x=Network(DIM, 128, 128, 64, last=nn.Tanh()))
    p = (generator * Normal("p(z)", loc=0.0, scale=1.0, dim=DIM)).marginalize_var("z")
    d = Deterministic("d(t|x)", t=Network(64, 128, 128, 1))
    return GAN(p, d, **SETTINGS)


def conditional_gan() -> GAN:
    generator = Deterministic("p(x|y,z)", x=Network(10 + DIM, 128, 128, 64, last=nn.Tanh()))
    p = (generator * Normal("p(z)", loc=0.0, scale=1.0, dim=DIM)).marginalize_var("z")
    d = Deterministic("d(t|x,y)", t=Told(64 + 10, 128, 128, 1))
    return GAN(p, d, loss=smooth, **SETTINGS)


def smooth(p: Distribution, d: Distribution) -> Loss:
    return AdversarialNonSaturating(p, d) - 0.1 * R1(p, d)


def main() -> None:
    args = arguments(__doc__, "gan", steps=4000)
    data = digits(args.device)
    models = {"GAN": gan(), "conditional GAN": conditional_gan()}
    for name, model in models.items():
        print(model, end="\n\n")
        model.loss.to(args.device)
        for _ in (bar := trange(args.steps, desc=name)):
            loss, d_loss = model.train(batch(data, 64))
        bar.set_postfix(generator=f"{loss:.3f}", discriminator=f"{d_loss:.3f}")

    every = torch.eye(10, device=args.device)
    with torch.no_grad(), models["GAN"].averaged(), models["conditional GAN"].averaged():
        free = models["GAN"].p.sample(batch_size=100)["x"]
        asked = models["conditional GAN"].p.sample({"y": every.repeat_interleave(10, 0)})["x"]
        many = models["conditional GAN"].p.sample({"y": every.repeat(200, 1)})
    judge = LogisticRegression(C=0.1, max_iter=200).fit(data["x"].cpu(), data["y"].argmax(-1).cpu())
    right = judge.score(many["x"].cpu(), many["y"].argmax(-1).cpu())
    print(f"digits that a classifier of real ones takes for what was asked: {right:.1%}")
    _, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    show_images(axes[0], data["x"][:100], 10, "data")
    show_images(axes[1], free, 10, "p(x)")
    show_images(axes[2], asked, 10, "p(x|y), a digit y in each row")
    save(args.out / "gan.png")


if __name__ == "__main__":
    main()
