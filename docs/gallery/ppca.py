"""Probabilistic PCA of scikit-learn's digits by its exact likelihood, beside its closed form; and half a digit inferred from the other.

    python docs/gallery/ppca.py --steps 1500 --seed 0 --out out/ppca

Tipping and Bishop (1999), https://doi.org/10.1111/1467-9868.00196
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import nn
from tqdm import trange

from pixyz.core import Distribution
from pixyz.distributions import Normal
from pixyz.models import ML


def digits() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:  # 1,500 to fit, 297 held out
    data, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(data))
    train, test = torch.tensor(data[order] / 16, dtype=torch.float32).split([1500, 297])
    return train, test, labels[order][1500:]


class Halves(nn.Module):
    """The two halves of one linear map, for a model that sees them apart."""

    def __init__(self, whole: nn.Linear) -> None:
        super().__init__()
        self.upper, self.lower = nn.Linear(8, 32), nn.Linear(8, 32)
        for half, rows in ((self.upper, slice(0, 32)), (self.lower, slice(32, 64))):
            half.weight, half.bias = nn.Parameter(whole.weight[rows].detach()), nn.Parameter(whole.bias[rows].detach())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/ppca"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    train, test, labels = digits()

    decoder, noise = nn.Linear(8, 64), nn.Parameter(torch.tensor(0.3))
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=8)
    joint = Normal("p(x|z)", loc=decoder, scale=noise) * prior
    p = joint.marginalize_var("z")
    print(p)

    model = ML(p, optimizer=torch.optim.Adam, optimizer_params={"lr": 1e-2})
    for step in (bar := trange(args.steps, desc="ppca", unit="step")):
        loss = model.train({"x": train})
        if step % 50 == 0:
            bar.set_postfix(nats=f"{loss.item():.3f}")
    closed = PCA(8).fit(train)
    with torch.no_grad():
        print(f"\nheld out, by gradient: {p.log_likelihood({'x': test}).mean():.3f} nats per image; ", end="")
        print(f"in closed form: {closed.score(test):.3f}\n")

        halves = Halves(decoder)
        apart = Normal("p(a|z)", loc=halves.upper, scale=noise) * Normal("p(b|z)", loc=halves.lower, scale=noise) * prior
        guess = apart.marginalize_var("z").posterior("b")
        lower = guess.mean({"a": test[:10, :32]})
        codes = p.posterior().mean({"x": test})
        picture(args.out / "ppca.png", test, lower, guess, codes, labels)
    print(f"{guess.formula}, exact\npicture: {args.out / 'ppca.png'}")


def picture(path: Path, test: torch.Tensor, lower: torch.Tensor, guess: Distribution, codes: torch.Tensor, labels: np.ndarray) -> None:
    drawn = guess.sample({"a": test[:10, :32]})["b"]
    rows = {"data": test[:10, 32:], "the lower half, mean given the upper": lower, "the lower half, drawn": drawn}
    figure = plt.figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 1.3))
    for axis, (name, halves) in zip(left.subplots(3), rows.items()):
        digits = torch.cat([test[:10, :32], halves], 1).reshape(10, 8, 8)
        axis.imshow(nn.functional.pad(digits, (0, 1)).permute(1, 0, 2).flatten(1).numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(name, loc="left", fontsize=10)
        axis.axis("off")
    # The two directions in which the codes differ most.
    plane = codes @ torch.linalg.svd(codes - codes.mean(0), full_matrices=False).Vh[:2].T
    axis = right.subplots()
    for digit in range(10):
        axis.scatter(*plane[labels == digit].T.numpy(), s=14, color=plt.get_cmap("tab10")(digit), label=str(digit))
    axis.set(title="mean of z given x, by digit", xticks=[], yticks=[])
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
