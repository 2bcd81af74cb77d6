"""Semi-supervised learning (M2): 100 labels, 1,400 images without one, which the sum over the labels lets count.

    python docs/gallery/ssvae.py --seeds 5 --epochs 100 --device cpu --out out/ssvae

Kingma et al. (2014), https://arxiv.org/abs/1406.5298
"""

import argparse
import statistics
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from image_and_label import Data, digits
from torch import Tensor, nn
from tqdm import trange

from pixyz.core import Distribution, Loss
from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.losses import ELBO, NLL
from pixyz.models import Model

DIM, ALPHA = 8, 3
ESTIMATORS = {"labels alone": None, "M2, enumerate": ("enumerate", 1), "M2, score": ("score", 2)}


def network(size: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Dropout(0.1), nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, out))


class Inference(Normal):
    def __init__(self) -> None:
        super().__init__(var=["z"], cond_var=["x", "y"], name="q")
        self.net = network(64 + 10, 2 * DIM)

    def forward(self, x: Tensor, y: Tensor) -> Data:
        loc, scale = self.net(torch.cat([x, y], -1)).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


class Generator(Bernoulli):
    def __init__(self) -> None:
        super().__init__(var=["x"], cond_var=["y", "z"], name="p")
        self.net = nn.Sequential(nn.Linear(10 + DIM, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, y: Tensor, z: Tensor) -> Data:
        return {"logits": self.net(torch.cat([y, z], -1))}


def classifier() -> Distribution:
    return Categorical("q(y|x)", logits=network(64, 10))


def semi_supervised(f: Distribution, estimator: str, num_samples: int) -> tuple[Loss, Distribution, Distribution]:
    p, q = Generator(), Inference()
    p_joint = p * Normal("p(z)", loc=0.0, scale=1.0, dim=DIM) * Categorical("p(y)", probs=torch.full((10,), 0.1))
    p_joint_u = p_joint.replace_var(x="x_u", y="y_u")
    q_u = (q * f).replace_var(x="x_u", y="y_u")
    elbo = ELBO(p_joint, q)
    elbo_u = ELBO(p_joint_u, q_u, estimator={"y_u": estimator}, num_samples=num_samples)
    nll = NLL(f)
    return -(elbo - ALPHA * nll).mean() - elbo_u.mean(), p, q


def few_labels(train: Data, seed: int) -> tuple[Data, Data]:
    """Ten images of each digit with their labels, and the others without."""
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(seed)).to(train["x"].device)
    digit = train["y"].argmax(-1)[order]
    chosen = torch.cat([order[digit == k][:10] for k in range(10)])
    rest = order[~torch.isin(order, chosen)]
    return {"x": train["x"][chosen], "y": train["y"][chosen]}, {"x_u": train["x"][rest]}


def fit(loss: Loss, labelled: Data, unlabelled: Data, epochs: int, name: str) -> float:
    """Every step has all that is labelled, and 100 images of the others. Returns milliseconds a step."""
    model = Model(loss.to(labelled["x"].device), optimizer=torch.optim.AdamW, optimizer_params={"lr": 4e-3, "weight_decay": 1e-2})
    start = time.perf_counter()
    for _ in (bar := trange(epochs, desc=name, unit="epoch", leave=False)):
        for batch in torch.randperm(1400).split(100):
            value = model.train({**labelled, "x_u": unlabelled["x_u"][batch]})
        bar.set_postfix(loss=f"{value:.2f}")
    model.loss.eval()
    return (time.perf_counter() - start) / (14 * epochs) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("out/ssvae"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    train, test = digits(args.device)
    print(semi_supervised(classifier(), "enumerate", 1)[0].unicode(), end="\n\n")

    right: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    taken: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for seed in range(args.seeds):
        labelled, unlabelled = few_labels(train, seed)
        for name, how in ESTIMATORS.items():
            torch.manual_seed(seed)
            f = classifier()  # the same weights to start from, with and without M2
            loss, p, q = (NLL(f).mean(), None, None) if how is None else semi_supervised(f, *how)
            taken[name].append(fit(loss, labelled, unlabelled, args.epochs, f"seed {seed}, {name}"))
            guessed = f.mode({"x": test["x"]})
            right[name].append((guessed == test["y"]).all(-1).float().mean().item())
            if seed == 0 and name == "M2, enumerate":
                shown = analogies(p, q, test["x"], guessed)

    print("held out, right, %", "".join(f"{f'seed {seed}':>8}" for seed in range(args.seeds)), "    mean ± standard error   ms a step")
    for name, shares in right.items():
        print(f"{name:18}", "".join(f"{share:8.1%}" for share in shares), f"{summary(shares):>21}{statistics.mean(taken[name]):16.1f}")
    for name in list(right)[1:]:
        gain = [a - b for a, b in zip(right[name], right["labels alone"])]
        print(f"{name} over labels alone: {summary(gain)}")
    picture(args.out / "ssvae.png", right, shown)
    print(f"picture: {args.out / 'ssvae.png'}")


def summary(shares: list[float]) -> str:
    error = statistics.stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else float("nan")
    return f"{100 * statistics.mean(shares):.1f} ± {100 * error:.1f}"


@torch.no_grad()
def analogies(p: Distribution, q: Distribution, x: Tensor, y: Tensor, count: int = 8) -> Tensor:
    """Held-out images, and the style z of each in all ten labels, `(count, 11, 8, 8)`."""
    z = q.mean({"x": x[:count], "y": y[:count]})
    every = torch.eye(10, device=x.device)
    written = p.mean({"y": every.repeat(count, 1), "z": z.repeat_interleave(10, 0)})
    return torch.cat([x[:count, None], written.unflatten(0, (count, 10))], 1).reshape(count, 11, 8, 8).cpu()


def picture(path: Path, right: dict[str, list[float]], shown: Tensor) -> None:
    figure, (dots, images) = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=(1, 1.25), layout="constrained")
    for shares in zip(*right.values()):
        dots.plot(range(len(shares)), [100 * share for share in shares], "o-", color="0.6", linewidth=1, markersize=5)
    for place, shares in enumerate(right.values()):
        dots.plot([place - 0.2, place + 0.2], [100 * statistics.mean(shares)] * 2, "C3", linewidth=2.5, zorder=3)
    dots.set(title="right of 297 held-out images, %", xticks=range(len(right)), xlim=(-0.4, len(right) - 0.6))
    dots.set_xticklabels(right)
    dots.spines[["top", "right"]].set_visible(False)
    tiles = F.pad(shown, (0, 1, 0, 1))
    tiles = torch.cat([F.pad(tiles[:, :1], (0, 3)).flatten(1, 1).squeeze(1), tiles[:, 1:].permute(0, 2, 1, 3).flatten(2)], 2)
    images.imshow(tiles.flatten(0, 1), cmap="gray_r", vmin=0, vmax=1)
    images.set(title="x, and its style z with every label y: the mean of p(x|y,z)", yticks=[])
    images.set_xticks([3.5, *[15.5 + 9 * k for k in range(10)]], ["x", *range(10)])
    images.tick_params(length=0)
    images.spines[:].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
