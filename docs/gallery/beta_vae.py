"""β-VAE on scikit-learn's digits: one formula for every β, the curve of rate and distortion, and what single latent dims draw.

    python docs/gallery/beta_vae.py --epochs 60 --device cpu --seed 0 --out out/beta_vae

Higgins et al. (2017), https://openreview.net/forum?id=Sy2fzU9gl; for the curve, Alemi et al. (2018), https://arxiv.org/abs/1711.00464
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import trange

from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import ELBO, KullbackLeibler, Parameter
from pixyz.models import Model

BETAS = [0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 4.0]
SHOWN = [0.1, 1.0, 2.0]


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.1), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        loc, scale = self.net(x).chunk(2, dim=-1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


def digits() -> tuple[Tensor, Tensor]:  # 1,500 to train on, 297 held out
    x = torch.tensor(load_digits().data > 7.5, dtype=torch.float32)
    order = np.random.RandomState(0).permutation(len(x))
    return x[order[:1500]], x[order[1500:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/beta_vae"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    train, test = (x.to(args.device) for x in digits())
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=8)
    points, traversals, lines = {}, {}, []
    for beta in BETAS:
        torch.manual_seed(args.seed)
        q = Normal("q(z|x)", Heads())
        logits = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64))
        p = Bernoulli("p(x|z)", logits=logits)
        bound = ELBO(p * prior, q, kl="analytic", beta=Parameter("beta"))
        model = Model(-bound.mean(), optimizer=torch.optim.AdamW, optimizer_params={"lr": 2e-3, "weight_decay": 1e-2})
        model.loss.to(args.device)
        if beta == BETAS[0]:
            print(bound.unicode(), end="\n\n")
        for _ in (bar := trange(args.epochs, desc=f"β = {beta}", unit="epoch")):
            for batch in train[torch.randperm(len(train))].split(50):
                loss = model.train({"x": batch, "beta": beta})
            bar.set_postfix(loss=f"{loss:.2f}")
        model.loss.eval()
        with torch.no_grad():
            rate = KullbackLeibler(q, prior).mean().estimate({"x": test}).item()
            distortion = -p.log_prob().expectation(q, num_samples=50).mean().estimate({"x": test}).item()
            nats = (p * prior).marginalize_var("z").log_likelihood({"x": test}, proposal=q, num_samples=1000).mean()
            mean, variance = q.mean({"x": test}), q.variance({"x": test})
            rates = (mean.square() + variance - 1 - variance.log()).mean(0) / 2  # of each latent dim
            z = mean[4].repeat(6, 7, 1)
            for line, dim in zip(z, rates.argsort(descending=True)):
                line[:, dim] = torch.linspace(-2.5, 2.5, 7)
            traversals[beta] = p.mean({"z": z.flatten(0, 1)}).reshape(6, 7, 8, 8)
        points[beta] = (rate, distortion)
        lines.append(f"{beta:5} {rate:8.2f} {distortion:11.2f} {-rate - distortion:8.2f} {nats:9.2f} {(rates > 0.1).sum():7d} of 8")
    frequency = (train.sum(0) + 1) / (len(train) + 2)
    alone = -Bernoulli(probs=frequency).log_likelihood({"x": test}).mean().item()
    print("\nheld out, nats per image\n    β     rate  distortion     ELBO  log p(x)  dims above 0.1", *lines, sep="\n")
    print(f"independent pixels: rate 0, distortion {alone:.2f}")
    picture(args.out / "beta_vae.png", points, alone, traversals)
    print(f"picture: {args.out / 'beta_vae.png'}")


def picture(path: Path, points: dict[float, tuple[float, float]], alone: float, traversals: dict[float, Tensor]) -> None:
    figure = plt.figure(figsize=(12, 3.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2.3))
    axis = left.subplots()
    axis.plot(*zip(*points.values()), "o-", markersize=4)
    axis.plot(0, alone, "kx")
    axis.annotate("independent pixels", (0, alone), (48, 2), textcoords="offset points", fontsize=8)
    for beta, point in points.items():
        axis.annotate(f"β = {beta:g}", point, (7, 2), textcoords="offset points", fontsize=8)
    axis.set(xlabel=r"rate $D_{KL}[q(z|x)\|p(z)]$", ylabel=r"distortion $-E_q[\log p(x|z)]$")
    axis.set_title("held out, nats per image", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    right.suptitle("one held-out digit, six latent dims from −2.5 to 2.5, those of the highest rate first", fontsize=10)
    for axis, beta in zip(right.subplots(1, len(SHOWN)), SHOWN):
        tiles = nn.functional.pad(traversals[beta].cpu(), (0, 1, 0, 1))
        block = nn.functional.pad(tiles.permute(0, 2, 1, 3).flatten(2).flatten(0, 1), (3, 3))
        axis.imshow(block, cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(f"β = {beta:g}", fontsize=10)
        axis.axis("off")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
