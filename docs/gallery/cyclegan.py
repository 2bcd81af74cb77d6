"""CycleGAN between two sets of points, of which nobody says which belongs to which.

    python docs/gallery/cyclegan.py --steps 4000 --device cpu --seed 0 --out out/cyclegan

Zhu et al. (2017), https://arxiv.org/abs/1703.10593
"""

import matplotlib.pyplot as plt
import torch
from implicit import Network, arguments, ring, save, show_points, square
from tqdm import trange

from pixyz.core import Distribution
from pixyz.distributions import Deterministic
from pixyz.gan import AdversarialLeastSquares
from pixyz.losses import Loss
from pixyz.models import Model


def cyclegan(weight: float = 1.0) -> tuple[Model, Distribution, Distribution]:
    p = Deterministic("p(y|x)", y=Network(2, 64, 64, 2))
    q = Deterministic("q(x|y)", x=Network(2, 64, 64, 2))
    d_x = Deterministic("d(t|x)", t=Network(2, 128, 128, 1))
    d_y = Deterministic("d(t|y)", t=Network(2, 128, 128, 1))
    there = Loss.from_function(lambda x, x2: (x2 - x).abs().sum(-1), "L1", var=["x", "x2"]).expectation(q.replace_var(x="x2") * p)
    back = Loss.from_function(lambda y, y2: (y2 - y).abs().sum(-1), "L1", var=["y", "y2"]).expectation(p.replace_var(y="y2") * q)
    loss = AdversarialLeastSquares(p, d_y) + AdversarialLeastSquares(q, d_x) + weight * (there + back).mean()
    return Model(loss, optimizer_params={"lr": 2e-3, "betas": (0.5, 0.9)}, ema=0.99), p, q


def main() -> None:
    args = arguments(__doc__, "cyclegan", steps=4000)
    model, p, q = cyclegan()
    model.loss.to(args.device)
    print(model.loss.unicode(), end="\n\n")
    for _ in trange(args.steps, desc="CycleGAN", unit="step"):
        model.train({"x": ring(128).to(args.device), "y": square(128).to(args.device)})

    x, y = ring(2000), square(2000)
    with torch.no_grad(), model.averaged():
        y_of_x = p.sample({"x": x.to(args.device)})["y"]
        x_of_y = q.sample({"y": y.to(args.device)})["x"]
        again = q.sample({"y": y_of_x})["x"].cpu()
    print(f"x comes back from y within {(again - x).norm(dim=1).mean():.3f} on average")
    _, axes = plt.subplots(1, 4, figsize=(11, 3.1), layout="constrained")
    by_x, by_y = [plt.get_cmap("hsv")(torch.atan2(t[:, 1], t[:, 0]) / (2 * torch.pi) + 0.5) for t in (x, y)]
    show_points(axes[0], x, "x", 3.2, by_x)
    show_points(axes[1], y_of_x, "p(y|x)", 3.2, by_x)
    show_points(axes[2], y, "y", 3.2, by_y)
    show_points(axes[3], x_of_y, "q(x|y)", 3.2, by_y)
    save(args.out / "cyclegan.png")


if __name__ == "__main__":
    main()
