"""A product of experts on scikit-learn's digits: two halves of an image, either of which tells of the other.

    python docs/gallery/poe.py --epochs 400 --device cpu --seed 0 --out out/poe

Wu and Goodman (2018), https://arxiv.org/abs/1802.05335
"""

import argparse
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from tqdm import trange

from pixyz.distributions import Bernoulli, Normal, ProductOfNormal
from pixyz.losses import ELBO
from pixyz.models import Model


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.1), nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 32))

    def forward(self, half):
        loc, scale = self.net(half).chunk(2, dim=-1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


def decoder() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 32))


def halves() -> list[dict[str, torch.Tensor]]:  # 1,500 to train on, 297 held out; u is the upper half, l the lower one
    x = torch.tensor(load_digits().data > 7.5, dtype=torch.float32)
    order = np.random.RandomState(0).permutation(len(x))
    return [dict(zip("ul", x[part].split(32, dim=-1))) for part in (order[:1500], order[1500:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/poe"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    upper, lower = Bernoulli("p(u|z)", logits=decoder()), Bernoulli("p(l|z)", logits=decoder())
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=16)
    q = ProductOfNormal([Normal("q(z|u)", Heads()), Normal("q(z|l)", Heads())])
    q_u, q_l = q.given_only("u"), q.given_only("l")
    bound = ELBO(upper * lower * prior, q)
    # The bound on both halves, and on each by itself: so the experts learn to do without one another.
    loss = -(bound + ELBO(upper * prior, q_u) + ELBO(lower * prior, q_l)).mean()
    print(q.unicode(), q_u.unicode(), loss.unicode(), sep="\n", end="\n\n")
    model = Model(loss, optimizer=torch.optim.AdamW, optimizer_params={"lr": 1e-3, "weight_decay": 1e-2})
    model.loss.to(args.device)

    train, test = ({k: x.to(args.device) for k, x in part.items()} for part in halves())
    for _ in (bar := trange(args.epochs, desc="training", unit="epoch")):
        for batch in torch.randperm(1500).split(100):
            value = model.train({k: x[batch] for k, x in train.items()})
        bar.set_postfix(loss=f"{value:.2f}")

    model.loss.eval()
    with torch.no_grad():
        print(f"\nheld out, {bound.mean()}: {ELBO(upper * lower * prior, q, num_samples=100).mean().estimate(test):.2f} nats")
        for p, given in ((lower, q_u), (upper, q_l)):
            (name,), (seen,) = p.var, given.cond_var
            z = given.sample(test, sample_shape=[1000])
            nats = p.log_likelihood(z, sample_dims={"z": 1}).logsumexp(0).mean() - math.log(1000)
            frequency = (train[name].sum(0) + 1) / 1502
            alone = Bernoulli(f"p({name})", probs=frequency).log_likelihood(test).mean()
            print(f"log p({name}|{seen}): {nats:.2f} nats per image; with independent pixels, log p({name}): {alone:.2f}")
        shown = {k: x[:12] for k, x in test.items()}
        rows = {"data": torch.cat([shown["u"], shown["l"]], -1)}
        for name, given, seen in (("from both halves", q, ""), ("from the upper half", q_u, "u"), ("from the lower half", q_l, "l")):
            z = given.mean(shown)
            pair = [shown[k] if k == seen else p.mean({"z": z}) for k, p in (("u", upper), ("l", lower))]
            rows[name] = torch.cat(pair, -1)
    picture(args.out / "poe.png", rows)
    print(f"picture: {args.out / 'poe.png'}")


def picture(path: Path, rows: dict[str, torch.Tensor]) -> None:
    """What is inferred is in blue, what was given in black."""
    figure, axes = plt.subplots(len(rows), 12, figsize=(10, 3.9), layout="constrained")
    for line, (name, images) in zip(axes, rows.items()):
        line[0].set_title(name, loc="left", fontsize=10)
        for axis, image in zip(line, images.cpu().reshape(-1, 2, 4, 8)):
            for half, top, hidden in zip(image, (0, 4), ("both" in name or "lower" in name, "both" in name or "upper" in name)):
                axis.imshow(half, cmap="Blues" if hidden else "gray_r", vmin=0, vmax=1, extent=(0, 8, top + 4, top))
            axis.set(xticks=[], yticks=[], xlim=(0, 8), ylim=(8, 0))
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
