"""Autoregressive models (MADE) of scikit-learn's digits, in black and white and in 17 grey levels: likelihood and samples.

    python docs/gallery/made.py --epochs 150 --device cpu --seed 0 --out out/made

Germain et al. (2015), https://arxiv.org/abs/1502.03509
"""

import argparse
import copy
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from tqdm import trange

from pixyz.distributions import Autoregressive, Bernoulli, CategoricalIndex, DiscretizedLogisticMixture
from pixyz.models import ML


def digits() -> dict[str, torch.Tensor]:  # grey levels 0 to 16; 1,400 to train on, 100 to stop by, 297 held out
    x = torch.tensor(load_digits().data, dtype=torch.float32)
    parts = x[np.random.RandomState(0).permutation(len(x))].split([1400, 100, 297])
    return dict(zip(("train", "stop", "test"), parts))


def bits(p: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        return -p.log_likelihood({"x": x}).mean().item() / 64 / math.log(2)


def fit(p: Autoregressive, data: dict[str, torch.Tensor], epochs: int, name: str) -> None:
    """Keeps what is best on the 100 that are set aside."""
    model = ML(p, optimizer=torch.optim.AdamW, optimizer_params={"lr": 3e-3, "weight_decay": 0.1})
    best, kept = math.inf, p.state_dict()
    for _ in (bar := trange(epochs, desc=name, unit="epoch")):
        p.train()
        for batch in data["train"][torch.randperm(1400)].split(100):
            model.train({"x": batch})
        p.eval()
        if (now := bits(p, data["stop"])) < best:
            best, kept = now, copy.deepcopy(p.state_dict())
        bar.set_postfix(bits=f"{now:.4f}", best=f"{best:.4f}")
    p.load_state_dict(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/made"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    grey = {part: x.to(args.device) for part, x in digits().items()}
    binary = {part: (x > 7.5).float() for part, x in grey.items()}
    unit = {part: x / 16 for part, x in grey.items()}

    common = {"dim": 64, "hidden": [512, 512], "activation": lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.4))}
    rows = {}
    for name, data, levels, family in (
        ("0 and 1", binary, 2, {"family": Bernoulli}),
        ("17 levels", unit, 17, {"family": DiscretizedLogisticMixture, "components": 3, "levels": 17}),
    ):
        p = Autoregressive("p(x)", **family, **common).to(args.device)
        fit(p, data, args.epochs, name)
        # Each pixel by itself: how often it has each level, with one more of each.
        counts = torch.nn.functional.one_hot((data["train"] * (levels - 1)).long(), levels).sum(0) + 1.0
        alone = CategoricalIndex("p(x)", probs=counts / counts.sum(-1, keepdim=True))
        print(f"\nheld out, {name}: {bits(p, data['test']):.4f} bits per pixel; ", end="")
        print(f"independent pixels: {bits(alone, (data['test'] * (levels - 1)).round()):.4f}\n")
        rows |= {f"data, {name}": data["test"][:12], f"samples, {name}": p.sample(batch_size=12)["x"]}
    picture(args.out / "made.png", rows)
    print(f"picture: {args.out / 'made.png'}")


def picture(path: Path, rows: dict[str, torch.Tensor]) -> None:
    figure, axes = plt.subplots(len(rows), 12, figsize=(10, 3.9), layout="constrained")
    for line, (name, images) in zip(axes, rows.items()):
        line[0].set_title(name, loc="left", fontsize=10)
        for axis, image in zip(line, images.cpu()):
            axis.imshow(image.reshape(8, 8).numpy(), cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
