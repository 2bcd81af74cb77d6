"""What the programs on implicit models have in common: arguments, data, networks, pictures."""

import argparse
import math
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from sklearn.datasets import load_digits
from torch import Tensor, nn


class Network(nn.Sequential):
    """Layers of the given sizes; several inputs are put side by side."""

    def __init__(self, *sizes: int, slope: float = 0.2, last: nn.Module | None = None) -> None:
        super().__init__()
        for before, after in pairwise(sizes):
            self.extend([nn.Linear(before, after), nn.LeakyReLU(slope)])
        self[-1] = nn.Identity() if last is None else last

    def forward(self, *inputs: Tensor) -> Tensor:
        return super().forward(torch.cat(inputs, -1))


class Heads(Network):
    """The parameters of a normal distribution."""

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        loc, scale = super().forward(*inputs).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


def digits(device: str = "cpu") -> dict[str, Tensor]:
    """1,797 images x, `(64,)`, of numbers from -1 to 1, and their labels y."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 8 - 1, dtype=torch.float32), F.one_hot(torch.tensor(labels), 10).float()
    return {"x": x.to(device), "y": y.to(device)}


def batch(data: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """Random data, all variables of each."""
    n = len(next(iter(data.values())))
    chosen = torch.randint(n, (size,))
    return {name: t[chosen] for name, t in data.items()}


def ring(n: int) -> Tensor:
    """Eight normal distributions on a ring of radius 2."""
    angle = torch.randint(8, (n,)) * (math.pi / 4)
    return 2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(n, 2)


def grid(n: int, scale: float) -> Tensor:
    """Twenty-five normal distributions on a grid of spacing 2."""
    return 2.0 * torch.randint(-2, 3, (n, 2)) + scale * torch.randn(n, 2)


def square(n: int) -> Tensor:
    """Eight normal distributions, at the corners of a square and half-way between."""
    angle = torch.randint(8, (n,)) * (math.pi / 4)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    return 2.5 * x / x.abs().amax(1, keepdim=True) + 0.1 * torch.randn(n, 2)


def arguments(about: str, name: str, steps: int, **more: float) -> argparse.Namespace:
    """Those of the command line; `more` are numbers that one program has for itself."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(f"out/{name}"))
    for word, number in more.items():
        parser.add_argument(f"--{word}", type=float, default=number)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    return args


def show_images(axis: Axes, images: Tensor, columns: int, title: str) -> None:
    """Images `(N, 64)` of numbers from -1 to 1, row by row."""
    tiles = F.pad(images.detach().cpu().reshape(-1, columns, 8, 8), (0, 1, 0, 1), value=-1.0)
    axis.imshow(tiles.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)[:-1, :-1], cmap="gray_r", vmin=-1, vmax=1)
    axis.set_title(title, fontsize=10)
    axis.axis("off")


def show_points(axis: Axes, x: Tensor, title: str, half: float, colour: object = "C0") -> None:
    """Points `(N, 2)` of the plane, up to `half` from the middle."""
    axis.scatter(*x.detach().cpu().T, s=2, c=colour, linewidths=0, alpha=0.6)
    axis.set(xlim=(-half, half), ylim=(-half, half), xticks=[], yticks=[], aspect="equal")
    axis.set_title(title, fontsize=10)


def save(path: Path) -> None:
    plt.savefig(path, dpi=120)
    print(f"picture: {path}")
