"""Glow on scikit-learn's digits with their 17 grey levels: exact bits per dimension of held-out digits, and draws at two temperatures.

    python docs/gallery/glow.py --epochs 60 --device cpu --seed 0 --out out/glow

Kingma and Dhariwal (2018), https://arxiv.org/abs/1807.03039
"""

import argparse
import copy
import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn, optim
from tqdm import trange

from pixyz.distributions import CategoricalIndex, Distribution, Normal
from pixyz.flows import Glow, InverseTransformedDistribution, Logit, dequantize
from pixyz.models import ML

LEVELS = 17
Digits = dict[str, Tensor]


def digits() -> Digits:
    """Grey levels, 0 to 16: 1,350 images to train on and 150 to stop by, which are 1,500 together, and 297 held out."""
    levels = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1)
    parts = levels[np.random.RandomState(0).permutation(len(levels))].split([1350, 150, 297])
    return dict(zip(("train", "stop", "test"), parts))


def glow() -> Distribution:
    return Glow("p(y)", features=(1, 8, 8), levels=2, transforms=8, activation=lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.1)))


def of_numbers_in_0_1(flow: Distribution) -> Distribution:
    """The flow, which is one of all real numbers, as the noise of the logit."""
    return InverseTransformedDistribution(flow, Logit(0.01, shape=flow.generator.out_shape), "p(x)")


def bits(model: ML, levels: Tensor, draws: int) -> float:
    """Bits per dimension, a bound on those of the grey levels: the mean over draws of the noise between them."""
    each = [model.log_likelihood({"x": dequantize(levels, LEVELS)}, unit="bits/dim", divided_by=LEVELS).mean for _ in range(draws)]
    return sum(each) / draws


def bits_of_independent_pixels(data: Digits) -> float:
    """Each pixel by itself: how often it has each level, with one more of each."""
    counts = nn.functional.one_hot(torch.cat([data["train"], data["stop"]]).long(), LEVELS).sum(0) + 1.0
    alone = CategoricalIndex("p(x)", probs=counts / counts.sum(-1, keepdim=True))
    return -alone.log_likelihood({"x": data["test"]}).mean().item() / 64 / math.log(2)


def fit(p: Distribution, data: Digits, epochs: int, name: str, lr: float = 2e-3) -> ML:
    """By maximum likelihood, with new noise in each step; of the averaged weights, those are kept that are best on what is set aside."""
    adam = {"optimizer": optim.AdamW, "optimizer_params": {"lr": lr, "weight_decay": 0.1}}
    cosine = {"scheduler": optim.lr_scheduler.CosineAnnealingLR, "scheduler_params": {"T_max": epochs * 14}}
    model = ML(p, **adam, **cosine, ema=0.99, clip_grad_norm=10.0)
    p.initialize({"x": dequantize(data["train"], LEVELS)})
    best, kept = math.inf, p.state_dict()
    for epoch in (bar := trange(1, epochs + 1, desc=name, unit="epoch")):
        for batch in data["train"][torch.randperm(len(data["train"]))].split(100):
            model.train({"x": dequantize(batch, LEVELS)})
        if epoch % 5 == 0 or epoch == epochs:
            with model.averaged():
                if (now := bits(model, data["stop"], 3)) < best:
                    best, kept = now, copy.deepcopy(p.state_dict())
            bar.set_postfix(bits=f"{now:.4f}", best=f"{best:.4f}")
    p.load_state_dict(kept)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/glow"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    data = {part: levels.to(args.device) for part, levels in digits().items()}
    flow = glow()
    p = of_numbers_in_0_1(flow).to(args.device)
    model = fit(p, data, args.epochs, "Glow")
    print("held out, bits per dimension")
    print(f"  {'independent pixels':20}{bits_of_independent_pixels(data):.4f}\n  {'Glow':20}{bits(model, data['test'], 10):.4f}")

    rows = {"data": data["test"][:12] / (LEVELS - 1)}
    for temperature in (1.0, 0.7):
        cooler = Normal("p(e)", loc=0.0, scale=temperature, dim=64)
        cool = of_numbers_in_0_1(InverseTransformedDistribution(cooler, flow.flow, "p(y)"))
        with torch.no_grad():
            draws = cool.to(args.device).eval().sample(batch_size=12)["x"]
        rows[f"draws, temperature {temperature:g}"] = (draws * LEVELS).floor() / (LEVELS - 1)
    picture(args.out / "glow.png", rows)
    print(f"picture: {args.out / 'glow.png'}")


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
