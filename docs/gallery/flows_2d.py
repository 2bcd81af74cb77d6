"""Densities in the plane by a neural spline flow, beside the data: eight normals, two moons, a checkerboard.

    python docs/gallery/flows_2d.py --steps 2000 --device cpu --seed 0 --out out/flows_2d

Durkan et al. (2019), https://arxiv.org/abs/1906.04032
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import trange

from pixyz.distributions import Distribution
from pixyz.flows import NSF
from pixyz.models import ML


def eight_normals(n: int) -> Tensor:
    angle = torch.randint(8, (n,)) * (math.pi / 4)
    return 4 * torch.stack([angle.cos(), angle.sin()], 1) + 0.5 * torch.randn(n, 2)


def two_moons(n: int) -> Tensor:
    angle, second = math.pi * torch.rand(n), torch.rand(n) < 0.5
    x, y = torch.where(second, 1 - angle.cos(), angle.cos()), torch.where(second, 0.5 - angle.sin(), angle.sin())
    return torch.stack([x, y], 1) + 0.1 * torch.randn(n, 2)


def checkerboard(n: int) -> Tensor:
    row, column = torch.randint(4, (n,)), torch.randint(2, (n,))
    corner = torch.stack([2 * (2 * column + row % 2) - 4, 2 * row - 4], 1)
    return corner + 2 * torch.rand(n, 2)


# Each with the entropy of the truth in nats, below which no model's negative log-likelihood can be, and half the width of the picture.
DATA: dict[str, tuple[Callable[[int], Tensor], float, float]] = {
    "eight normals": (eight_normals, 3.52473, 6.0),
    "two moons": (two_moons, 1.0076, 2.5),
    "checkerboard": (checkerboard, math.log(32), 5.0),
}


def fitted(draw: Callable[[int], Tensor], steps: int, device: str, name: str) -> Distribution:
    """An NSF, by maximum likelihood on fresh draws, with the learning rate going down to 0."""
    p = NSF("p(x)", features=2, transforms=5).to(device)
    decay = {"scheduler": torch.optim.lr_scheduler.CosineAnnealingLR, "scheduler_params": {"T_max": steps}}
    model = ML(p, optimizer=torch.optim.Adam, optimizer_params={"lr": 3e-3}, **decay)
    for _ in (bar := trange(steps, desc=name)):
        loss = model.train({"x": draw(512).to(device)})
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    return p


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/flows_2d"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.subplots(3, len(DATA))
    print("fresh draws, nats: negative log-likelihood, and how far it is above the entropy of the truth, which is KL[truth||p]")
    for column, (name, (draw, entropy, half)) in enumerate(DATA.items()):
        p = fitted(draw, args.steps, args.device, name)
        test = draw(50_000)
        with torch.no_grad():
            each = -p.log_likelihood({"x": test.to(args.device)}).cpu()
            samples = p.sample(batch_size=20_000)["x"].cpu()
            centre = test.mean(0)
            line = torch.linspace(-half, half, 200)
            points = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2) + centre
            density = p.log_likelihood({"x": points.to(args.device)}).exp().cpu().reshape(200, 200)
        print(f"  {name:<14} {each.mean():.4f} ± {each.std() / len(each) ** 0.5:.4f}   {each.mean() - entropy:+.4f}")
        box = [(centre[0] - half).item(), (centre[0] + half).item()], [(centre[1] - half).item(), (centre[1] + half).item()]
        axes[0][column].hist2d(*test.T.numpy(), bins=120, range=box, cmap="magma")
        axes[1][column].imshow(density, extent=(*box[0], *box[1]), origin="lower", cmap="magma", aspect="auto")
        axes[2][column].hist2d(*samples.T.numpy(), bins=120, range=box, cmap="magma")
        axes[0][column].set_title(name)
    for row, word in enumerate(("data", "p(x)", "draws from p")):
        axes[row][0].set_ylabel(word)
        for one in axes[row]:
            one.set(xticks=[], yticks=[])
    figure.savefig(args.out / "flows_2d.png", dpi=100)
    print(f"picture: {args.out / 'flows_2d.png'}")


if __name__ == "__main__":
    main()
