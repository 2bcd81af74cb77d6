"""A vector-quantised autoencoder of scikit-learn's digits, and an autoregressive prior (MADE) over its codes.

    python docs/gallery/vqvae.py --epochs 150 --seed 0 --out out/vqvae

van den Oord et al. (2017), https://arxiv.org/abs/1711.00937
"""

import argparse
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from tqdm import trange

from pixyz.distributions import Autoregressive, Bernoulli, CategoricalIndex, VectorQuantizer
from pixyz.losses import NLL, Commitment
from pixyz.models import ML, Model

PLACES, CODES, DIM = 4, 32, 8


def digits() -> tuple[torch.Tensor, torch.Tensor]:  # black and white; 1,500 to train on, 297 held out
    x = (torch.tensor(load_digits().data, dtype=torch.float32) > 7.5).float()
    train, test = x[np.random.RandomState(0).permutation(len(x))].split([1500, 297])
    return train, test


def batches(x: torch.Tensor, size: int = 100) -> tuple[torch.Tensor, ...]:
    return x[torch.randperm(len(x))].split(size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/vqvae"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    train, test = digits()

    encoder = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, PLACES * DIM), nn.Unflatten(1, (PLACES, DIM)))
    decoder = nn.Sequential(nn.Flatten(), nn.Linear(PLACES * DIM, 256), nn.ReLU(), nn.Linear(256, 64))
    q = VectorQuantizer("q(z|x)", z=encoder, num_codes=CODES, dim=DIM, decay=0.95, restart_below=0.5)
    p = Bernoulli("p(x|z)", logits=decoder)
    loss = (NLL(p).expectation(q) + Commitment(q)).mean()
    print(f"{loss}\n")
    model = Model(loss, optimizer=torch.optim.Adam, optimizer_params={"lr": 2e-3})
    for _ in (bar := trange(args.epochs, desc="autoencoder", unit="epoch")):
        for x in batches(train):
            value = model.train({"x": x})
        bar.set_postfix(nats=f"{value.item():.2f}")
    q.eval()

    # What the codes are worth as a model of digits: a prior over their numbers, place by place.
    prior = Autoregressive("p(k)", family=CategoricalIndex, dim=PLACES, hidden=[256], categories=CODES)
    fitted = ML(prior, optimizer=torch.optim.AdamW, optimizer_params={"lr": 3e-3, "weight_decay": 0.1})
    codes = q.indices({"x": train}).float()
    for _ in (bar := trange(max(args.epochs // 3, 1), desc="prior", unit="epoch")):
        for k in batches(codes):
            value = fitted.train({"k": k})
        bar.set_postfix(nats=f"{value.item():.2f}")

    with torch.no_grad():
        rate = -prior.log_likelihood({"k": q.indices({"x": test}).float()}).mean()
        distortion = -p.log_likelihood(q.sample({"x": test})).mean()
        share = train.mean(0).clamp(1e-3, 1 - 1e-3)
        alone = -Bernoulli("p(x)", probs=share).log_likelihood({"x": test}).mean()
        used = len(q.indices({"x": train}).unique())
        print(f"\nheld out: {distortion:.2f} nats for the image given its codes, {rate:.2f} for the codes (uniform: ", end="")
        print(f"{PLACES * math.log(CODES):.2f}), together {distortion + rate:.2f} per image; independent pixels: {alone:.2f}")
        print(f"codes in use: {used} of {CODES}")
        drawn = q.codebook[prior.sample(batch_size=12)["k"].long()]
        uniform = q.codebook[torch.randint(CODES, (12, PLACES))]
        rows = {
            "data": test[:12],
            "from their codes": p.mean({"z": q.sample({"x": test[:12]})["z"]}),
            "codes from the prior": p.mean({"z": drawn}),
            "codes at random": p.mean({"z": uniform}),
        }
    picture(args.out / "vqvae.png", rows)
    print(f"picture: {args.out / 'vqvae.png'}")


def picture(path: Path, rows: dict[str, torch.Tensor]) -> None:
    figure, axes = plt.subplots(len(rows), figsize=(10, 3.9), layout="constrained")
    for axis, (name, images) in zip(axes, rows.items()):
        image = nn.functional.pad(images.reshape(12, 8, 8), (0, 2)).permute(1, 0, 2).flatten(1)
        axis.imshow(image.numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(name, loc="left", fontsize=10)
        axis.axis("off")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
