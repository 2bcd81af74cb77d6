"""Every family of pixyz.distributions in one picture: densities as lines, masses as stems, vectors in the plane.

python docs/gallery/distributions.py --seed 0 --out out/distributions
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import pixyz.distributions as families

SIXTEENTHS = torch.linspace(0, 1, 17)
PANELS = (  # the families; the points, or the least and the greatest; the parameters, in the order of the first parametrisation
    ("Normal Laplace Cauchy Logistic Gumbel", (-6, 6), (0, 1), (0, 2), (3, 0.5)),
    ("StudentT", (-5, 5), (1, 0, 1), (30, 0, 1)),
    ("Uniform", (-0.5, 3.5), (0, 1), (1, 3)),
    ("VonMises", (-3.14, 3.14), (0, 1), (1, 5)),
    ("HalfNormal Exponential", (0, 4), (0.7,), (1.5,)),
    ("LogNormal", (0.01, 4), (0, 0.5), (0, 1)),
    ("Gamma", (0.01, 8), (1, 1), (3, 1), (9, 2)),
    ("InverseGamma", (0.01, 3), (2, 1), (4, 4)),
    ("Weibull Pareto", (0.01, 4), (1, 1), (1, 3)),
    ("Beta Kumaraswamy", (0.01, 0.99), (0.6, 0.6), (2, 5), (4, 2)),
    ("ContinuousBernoulli", (0, 1), (0.2,), (0.6,)),
    ("RelaxedBernoulli", (0.01, 0.99), (0.4, 0.5), (1.5, 0.7)),
    ("Bernoulli", torch.arange(2.0), (0.3,), (0.6,)),
    ("CategoricalIndex", torch.arange(4.0), ([0.1, 0.2, 0.3, 0.4],), ([0.5, 0.3, 0.1, 0.1],)),
    ("Poisson", torch.arange(13.0), (1,), (5,)),
    ("Geometric", torch.arange(9.0), (0.3,), (0.6,)),
    ("Binomial", torch.arange(11.0), (10, 0.3), (10, 0.7)),
    ("NegativeBinomial", torch.arange(13.0), (2, 0.5), (6, 0.5)),
    ("DiscretizedLogistic", SIXTEENTHS, (0.4, 0.08, 17), (1, 0.1, 17)),
    ("DiscretizedLogisticMixture", SIXTEENTHS, ([0.2, 0.8], [0.05, 0.08], 17, [0, 0.4])),
    ("MultivariateNormal", "plane", ([0, 0], [[1, 0.8], [0.8, 1]])),
    ("LowRankMultivariateNormal", "plane", ([0, 0], [[1], [-1]], [0.1, 0.1])),
    ("PowerSpherical", "circle", ([0.6, 0.8], 8)),
    ("Dirichlet", "triangle", ([2, 3, 5],)),
    ("RelaxedCategorical", "triangle", (1.5, [0.2, 0.3, 0.5])),
    ("Categorical", 1, ([0.2, 0.3, 0.5],)),
    ("Multinomial", 8, (8, [0.2, 0.3, 0.5])),
)
CORNERS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.866]])


def curves(axis, family, where, settings):
    for i, setting in enumerate(settings):
        words = ", ".join(str(v) for v in setting)
        if isinstance(where, tuple):
            x = torch.linspace(*where, 400)
            axis.plot(x, density(made(family, setting), x), label=words)
        else:
            m, shift = density(made(family, setting), where), (i - (len(settings) - 1) / 2) * 0.25 * (where[1] - where[0])
            axis.stem(where + shift, m, linefmt=f"C{i}", basefmt=" ", label=words)
    axis.set_ylim(0, 1.35 * axis.get_ylim()[1])  # room for the legend
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, loc="upper right", frameon=False, handlelength=0.8, borderpad=0)


def vectors(axis, p, where):
    draws = p.sample(batch_size=150)["x"]
    if where == "plane":
        x = torch.linspace(-3, 3, 100)
        m = density(p, torch.cartesian_prod(x, x)).reshape(100, 100).T
        axis.contourf(x, x, m, cmap="Blues", levels=m.max() * SIXTEENTHS[1::3])
    elif where == "circle":
        angle = torch.linspace(0, 6.284, 400)
        x = torch.stack([angle.cos(), angle.sin()], -1)
        axis.fill(*x.T, color="whitesmoke")
        axis.plot(*(x * (1 + 0.6 * density(p, x)).unsqueeze(-1)).T)
    else:
        n = 60 if where == "triangle" else where
        x = torch.tensor([[i, j, n - i - j] for i in range(n + 1) for j in range(n + 1 - i)]).float()
        if where == "triangle":
            x, draws = (x + 1 / 3) / (n + 1), draws @ CORNERS
            m = density(p, x)
            axis.tricontourf(*(x @ CORNERS).T, m, cmap="Blues", levels=m.max() * SIXTEENTHS[1::3])
        else:
            axis.scatter(*(x / n @ CORNERS).T, s=1000 * density(p, x) / n**0.5, clip_on=False)
            draws = draws[:0, :2]
        axis.plot(*CORNERS[[0, 1, 2, 0]].T, color="lightgray", zorder=0)
        axis.margins(0.12)
    axis.scatter(*draws.T, s=2, color="C1")
    axis.set(aspect="equal", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def made(family, setting):
    return family("p(x)", **{k: torch.tensor(v).float() for k, v in zip(family.parametrisations[0], setting, strict=True)})


def density(p, x):
    return p.log_likelihood({"x": x}).exp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/distributions"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    figure, axes = plt.subplots(5, 7, figsize=(16, 11.5), layout="constrained")
    panels = [(name, *rest) for names, *rest in PANELS for name in names.split()]
    for axis, (name, where, *settings) in zip(axes.flat, panels):
        family = getattr(families, name)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(", ".join(family.parametrisations[0]), fontsize=8, color="dimgray")
        if isinstance(where, (tuple, torch.Tensor)):
            curves(axis, family, where, settings)
        else:
            vectors(axis, made(family, settings[0]), where)
    axes[-1, -1].remove()
    figure.savefig(args.out / "distributions.png", dpi=100)
    print(f"picture: {args.out / 'distributions.png'}")


if __name__ == "__main__":
    main()
