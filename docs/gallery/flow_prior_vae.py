"""A VAE whose prior is a flow and whose posterior is an inverse autoregressive one, beside the plain one with the same networks.

    python docs/gallery/flow_prior_vae.py --epochs 150 --device cpu --seed 0 --out out/flow_prior_vae

Kingma et al. (2016), https://arxiv.org/abs/1606.04934; Chen et al. (2017), https://arxiv.org/abs/1611.02731
"""

import argparse
import copy
import math
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn, optim
from tqdm import trange

from pixyz.distributions import Bernoulli, Distribution, Normal
from pixyz.flows import IAF, RealNVP
from pixyz.models import VI

Digits = dict[str, Tensor]
LATENT = 8


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.1), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2 * LATENT))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        loc, scale = self.net(x).chunk(2, dim=-1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


def digits() -> Digits:
    """Pixels, 0 or 1: 1,350 images to train on and 150 to stop by, 297 held out."""
    x = torch.tensor(load_digits().data > 7.5, dtype=torch.float32)
    parts = x[np.random.RandomState(0).permutation(len(x))].split([1350, 150, 297])
    return dict(zip(("train", "stop", "test"), parts))


def decoder() -> Distribution:
    return Bernoulli("p(x|z)", logits=nn.Sequential(nn.Linear(LATENT, 64), nn.ReLU(), nn.Linear(64, 64)))


PRIORS = {
    "normal": lambda: Normal("p(z)", loc=0.0, scale=1.0, dim=LATENT),
    "flow": lambda: RealNVP("p(z)", features=LATENT, transforms=4),
}
POSTERIORS = {
    "normal": lambda: Normal("q(z|x)", Heads()),
    "IAF": lambda: IAF("q(z|x)", features=LATENT, transforms=2, base=Normal("q_0(e|x)", Heads())),
}


def fit(p: Distribution, q: Distribution, data: Digits, epochs: int, name: str) -> VI:
    """By the ELBO; of the averaged weights, those are kept that are best on what is set aside."""
    adam = {"optimizer": optim.AdamW, "optimizer_params": {"lr": 3e-3, "weight_decay": 1e-2}}
    cosine = {"scheduler": optim.lr_scheduler.CosineAnnealingLR, "scheduler_params": {"T_max": epochs * 14}}
    model = VI(p, q, **adam, **cosine, ema=0.99, clip_grad_norm=10.0)
    model.loss.to(data["train"].device)
    best, kept = -math.inf, model.loss.state_dict()
    for epoch in (bar := trange(1, epochs + 1, desc=name, unit="epoch")):
        for batch in data["train"][torch.randperm(len(data["train"]))].split(100):
            model.train({"x": batch})
        if epoch % 10 == 0 or epoch == epochs:
            with model.averaged():
                if (now := model.log_likelihood({"x": data["stop"]}, num_samples=64).mean) > best:
                    best, kept, at = now, copy.deepcopy(model.loss.state_dict()), epoch
            bar.set_postfix(stop=f"{now:.2f}", best=f"{best:.2f}", at=at)
    model.loss.load_state_dict(kept)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/flow_prior_vae"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data = {part: x.to(args.device) for part, x in digits().items()}
    rows = {"data": data["test"][:12]}
    plain: Tensor | None = None
    lines = []
    for prior, posterior in product(PRIORS, POSTERIORS):
        name = f"{prior} prior, {posterior} posterior"
        torch.manual_seed(args.seed)
        p, q = decoder() * PRIORS[prior](), POSTERIORS[posterior]()
        model = fit(p, q, data, args.epochs, name)
        found = model.log_likelihood({"x": data["test"]}, num_samples=64)
        plain = found.each if plain is None else plain
        gain = found.each - plain
        lines.append(f"  {name:32}{found.mean:.2f}   {gain.mean():+.2f} ± {gain.std() / len(gain) ** 0.5:.2f}")
        rows[name] = model.sample(12, mean_of="x")["x"]
    print(model.loss)
    print("held out, a bound on log p(x) by 64 draws of q, in nats per image; and how far above that of the plain one", *lines, sep="\n")
    picture(args.out / "flow_prior_vae.png", rows)
    print(f"picture: {args.out / 'flow_prior_vae.png'}")


def picture(path: Path, rows: dict[str, Tensor]) -> None:
    figure = Figure(figsize=(10, 1.1 * len(rows)), layout="constrained")
    for axis, (name, images) in zip(figure.subplots(len(rows)), rows.items()):
        tiles = nn.functional.pad(images.cpu().reshape(-1, 8, 8), (0, 2))
        axis.imshow(tiles.permute(1, 0, 2).flatten(1), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(name, loc="left", fontsize=10)
        axis.axis("off")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
