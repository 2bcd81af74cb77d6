"""A mixture of three normal distributions on scikit-learn's iris flowers, fitted by gradients: likelihood, beside EM's, and clusters.

python docs/gallery/gmm.py --steps 300 --device cpu --seed 0 --out out/gmm
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Ellipse
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture
from torch import nn
from tqdm import trange

from pixyz.distributions import Categorical, Distribution, MixtureModel, MultivariateNormal
from pixyz.models import ML

CENTIMETRES = ("sepal length", "sepal width", "petal length", "petal width")


class Cluster(MultivariateNormal):
    """A normal distribution whose mean and covariance are learned; the diagonal of the Cholesky factor by its logarithm."""

    def __init__(self, loc: torch.Tensor, covariance: torch.Tensor):
        super().__init__("p(x)")
        tril = torch.linalg.cholesky(covariance)
        self.mu, self.below, self.log_diagonal = nn.Parameter(loc), nn.Parameter(tril), nn.Parameter(tril.diagonal().log())

    def forward(self):
        return {"loc": self.mu, "scale_tril": self.below.tril(-1) + self.log_diagonal.exp().diag()}


def start(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and covariances of three clusters by k-means."""
    groups = [x[KMeans(3, n_init=10, random_state=seed).fit_predict(x) == k] for k in range(3)]
    return np.array([len(g) for g in groups]) / len(x), np.stack([g.mean(0) for g in groups]), np.stack([np.cov(g.T) for g in groups])


def mixture(weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> Distribution:
    clusters = [Cluster(torch.tensor(m), torch.tensor(c)) for m, c in zip(means, covariances)]
    return MixtureModel(clusters, Categorical("p(k)", logits=nn.Parameter(torch.tensor(weights).log())))


def fit(p: Distribution, x: torch.Tensor, steps: int) -> float:
    """The log-likelihood in nats per flower after so many steps."""
    model = ML(p, optimizer=torch.optim.Adam, optimizer_params={"lr": 0.01, "betas": (0.9, 0.99)})
    for _ in (bar := trange(steps, desc="training")):
        bar.set_postfix(loss=f"{model.train({'x': x}):.4f}")
    with torch.no_grad():
        return p.log_likelihood({"x": x}).mean().item()


def fit_by_em(weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, x: np.ndarray) -> GaussianMixture:
    begin = {"weights_init": weights, "means_init": means, "precisions_init": np.linalg.inv(covariances)}
    return GaussianMixture(len(weights), **begin, tol=1e-8, max_iter=1000).fit(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/gmm"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    flowers, species = load_iris(return_X_y=True)
    begin = start(flowers, args.seed)
    p = mixture(*begin).to(args.device)
    print(p, end="\n\n")
    x = torch.tensor(flowers, device=args.device)
    found, em = fit(p, x, args.steps), fit_by_em(*begin, flowers)
    print(f"\nlog p(x) per flower: {found:.4f} nats; by scikit-learn's EM, from the same start: {em.score(flowers):.4f} nats")
    posterior = p.posterior("k")
    with torch.no_grad():
        share = posterior.mean({"x": x}).cpu().numpy()  # of each cluster in each flower
    right = sum((species[share.argmax(-1) == k] == np.bincount(species[share.argmax(-1) == k]).argmax()).sum() for k in range(3))
    print(f"{posterior.unicode()}: the likeliest cluster's species is that of {right} of {len(flowers)} flowers")
    picture(args.out / "gmm.png", flowers, species, share, p.factors[0].dist.parts, em)
    print(f"picture: {args.out / 'gmm.png'}")


def picture(path: Path, flowers: np.ndarray, species: np.ndarray, share: np.ndarray, clusters: tuple, em: GaussianMixture) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    colors = plt.get_cmap("tab10").colors[:3]
    for axis, pair in zip(axes, ([0, 1], [2, 3])):
        for kind, marker in enumerate("osv"):
            rows = species == kind
            axis.scatter(*flowers[rows][:, pair].T, c=share[rows] @ colors, marker=marker, s=18)
        for factor, color, mean, covariance in zip(clusters, colors, em.means_, em.covariances_):
            params = {k: v.detach().cpu().numpy() for k, v in factor.dist.get_params().items()}
            own = params["scale_tril"] @ params["scale_tril"].T
            for n in (1, 2):  # standard deviations
                axis.add_patch(ellipse(params["loc"][pair], own[np.ix_(pair, pair)], n, edgecolor=color))
                axis.add_patch(ellipse(mean[pair], covariance[np.ix_(pair, pair)], n, edgecolor="black", linestyle=":"))
        axis.set(xlabel=f"{CENTIMETRES[pair[0]]} / cm", ylabel=f"{CENTIMETRES[pair[1]]} / cm")
    axes[0].set_title("clusters in colour, EM's dotted; markers are species", loc="left", fontsize=10)
    figure.savefig(path, dpi=150)


def ellipse(mean: np.ndarray, covariance: np.ndarray, n: int, **style: object) -> Ellipse:
    values, vectors = np.linalg.eigh(covariance)
    return Ellipse(mean, *(2 * n * np.sqrt(values)), angle=np.degrees(np.arctan2(*vectors[::-1, 0])), facecolor="none", **style)


if __name__ == "__main__":
    main()
