"""A variational autoencoder on scikit-learn's digits: formula, training, held-out bound, one picture.

    python docs/gallery/vae.py --epochs 400 --device cpu --seed 0 --out out/vae

Kingma and Welling (2014), https://arxiv.org/abs/1312.6114
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

from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import ELBO
from pixyz.models import VAE


class Encoder(Normal):
    def __init__(self):
        super().__init__(var=["z"], cond_var=["x"], name="q")
        self.net = nn.Sequential(nn.Dropout(0.1), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.loc, self.scale = nn.Linear(128, 8), nn.Linear(128, 8)

    def forward(self, x):
        h = self.net(x)
        return {"loc": self.loc(h), "scale": F.softplus(self.scale(h)) + 1e-4}


class Decoder(Bernoulli):
    def __init__(self):
        super().__init__(var=["x"], cond_var=["z"], name="p")
        self.net = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, z):
        return {"logits": self.net(z)}


def digits() -> tuple[torch.Tensor, torch.Tensor]:  # 1,500 to train on, 297 held out
    x = torch.tensor(load_digits().data > 7.5, dtype=torch.float32)
    order = np.random.RandomState(0).permutation(len(x))
    return x[order[:1500]], x[order[1500:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/vae"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    p, q, prior = Decoder(), Encoder(), Normal(var=["z"], loc=0.0, scale=1.0, dim=8, name="p_prior")
    model = VAE(q, p, prior, optimizer=torch.optim.AdamW, optimizer_params={"lr": 1e-3, "weight_decay": 1e-2})
    bound = -ELBO(p * prior, q, num_samples=100).mean()
    print(p * prior, q, model, sep="\n\n", end="\n\n")
    model.loss.to(args.device)

    train, test = (x.to(args.device) for x in digits())
    for epoch in (bar := trange(args.epochs, desc="training", unit="epoch")):
        for batch in train[torch.randperm(len(train))].split(100):
            loss = model.train({"x": batch})
        if epoch % 20 == 0:
            bar.set_postfix(loss=f"{loss:.2f}", test=f"{model.test({'x': test}):.2f}")

    model.loss.eval()
    with torch.no_grad():
        nats = bound.estimate({"x": test}).item()
        frequency = (train.sum(0) + 1) / (len(train) + 2)
        baseline = -Bernoulli(probs=frequency).log_likelihood({"x": test}).mean().item()
        shown = test[:12]
        again = p(z=q.sample({"x": shown})["z"])["logits"].sigmoid()
        new = p(z=prior.sample(batch_size=12)["z"])["logits"].sigmoid()
    print(f"\nheld out, {bound} with 100 samples:")
    for name, value in (("VAE", nats), ("independent pixels", baseline)):
        print(f"  {name:20}{value:6.2f} nats per image, {value / 64 / math.log(2):.4f} bits per pixel")
    picture(args.out / "vae.png", {"data": shown, "reconstructions": again, "samples": new})
    torch.save(model.loss.state_dict(), args.out / "vae.pt")
    print(f"picture: {args.out / 'vae.png'}\nweights: {args.out / 'vae.pt'}")


def picture(path: Path, rows: dict[str, torch.Tensor]) -> None:
    figure, axes = plt.subplots(len(rows), 12, figsize=(10, 2.9), layout="constrained")
    for line, (name, images) in zip(axes, rows.items()):
        line[0].set_title(name, loc="left", fontsize=10)
        for axis, image in zip(line, images.cpu()):
            axis.imshow(image.reshape(8, 8).numpy(), cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
