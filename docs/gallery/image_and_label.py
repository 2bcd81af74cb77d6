"""What mvae.py and mmvae.py have in common: images and labels, also those of ssvae.py, networks, the report and its picture."""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from pixyz.core import Distribution
from pixyz.distributions import Bernoulli, Categorical
from pixyz.losses import ELBO

Data = dict[str, Tensor]


class Heads(nn.Module):
    """The parameters of q(z|x) or q(z|y)."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.1), nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, 2 * dim))

    def forward(self, seen: Tensor) -> Data:
        loc, scale = self.net(seen).chunk(2, dim=-1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


def decoder(dim: int, size: int) -> nn.Module:
    return nn.Sequential(nn.Linear(dim, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, size))


def digits(device: str) -> tuple[Data, Data]:  # 1,500 to train on, 297 held out; x is the image, y the label
    images, labels = load_digits(return_X_y=True)
    order = torch.tensor(np.random.RandomState(0).permutation(len(labels)))
    x, y = torch.tensor(images > 7.5, dtype=torch.float32), F.one_hot(torch.tensor(labels), 10).float()
    return tuple({"x": x[part].to(device), "y": y[part].to(device)} for part in order.split([1500, 297]))


def arguments(about: str, name: str, epochs: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(f"out/{name}"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def share(probs: Tensor, y: Tensor) -> str:
    return f"{(probs.argmax(-1) == y.argmax(-1)).float().mean():.1%}"


@torch.no_grad()
def report(p: Distribution, q: Distribution, q_x: Distribution, q_y: Distribution, train: Data, test: Data, path: Path) -> None:
    """The held-out numbers, and a picture of what is made from one modality alone."""
    p_x, p_y, prior = (p.get_submodule(name) for name in ("p(x|z)", "p(y|z)", "p(z)"))
    x, y = {"x": test["x"]}, test["y"]
    counts = train["y"].sum(0)
    frequency = (train["y"].T @ train["x"] + 1) / (counts[:, None] + 2)
    bayes = Bernoulli("p(x|y)", probs=lambda y: y @ frequency) * Categorical("p(y)", probs=counts / counts.sum())
    bayes_x = bayes.marginalize_var("y")

    # p(y|x) is the mean of p(y|z) over the posterior of z, to which weights lead from q(z|x).
    z, dims = q_x.sample(x, sample_shape=[1000]), {"z": 1}
    weights = ((p_x * prior).log_likelihood(z, sample_dims=dims) - q_x.log_likelihood(z, sample_dims=dims)).softmax(0)
    guesses = p_y.mean({"z": z["z"].flatten(0, 1)}).unflatten(0, (1000, -1))
    judge = LogisticRegression(C=0.1, max_iter=1000).fit(train["x"].cpu(), train["y"].argmax(-1).cpu())
    asked = torch.eye(10, device=y.device).repeat(100, 1)
    made = p_x.sample(q_y.sample({"y": asked}))["x"]
    seen = torch.tensor(judge.predict_proba(made.cpu()))

    both, image = p.marginalize_var("z"), (p_x * prior).marginalize_var("z")
    print("\nheld out, nats: the bound, the likelihood by importance sampling (1,000 draws), that of naive Bayes (exact)")
    print(f"  log p(x,y)  {ELBO(p, q, num_samples=100).mean().estimate(test):8.2f}", end="")
    print(f"{both.log_likelihood(test, proposal=q, num_samples=1000).mean():8.2f}{bayes.log_likelihood(test).mean():8.2f}")
    print(f"  log p(x)    {ELBO(p_x * prior, q_x, num_samples=100).mean().estimate(x):8.2f}", end="")
    print(f"{image.log_likelihood(x, proposal=q_x, num_samples=1000).mean():8.2f}{bayes_x.log_likelihood(x).mean():8.2f}")
    print("label from image, right:")
    print(f"  mean of p(y|z) over q(z|x) {share(guesses.mean(0), y)}; over the posterior, by weights ", end="")
    print(f"{share((weights[..., None] * guesses).sum(0), y)}; naive Bayes {share(bayes_x.posterior('y').mean(x), y)}")
    print("image from label, right to a logistic regression:")
    print(f"  made {share(seen, asked.cpu())}; naive Bayes ", end="")
    naive = bayes.get_submodule("p(x|y)").sample({"y": asked})["x"]
    print(f"{share(torch.tensor(judge.predict_proba(naive.cpu())), asked.cpu())}; ", end="")
    print(f"the held-out images {judge.score(test['x'].cpu(), y.argmax(-1).cpu()):.1%}")
    means = p_x.mean({"z": q_y.sample({"y": asked[:60]})["z"]}).cpu()
    picture(path, means.reshape(6, 10, 8, 8), test, guesses.mean(0).cpu())
    print(f"picture: {path}")


def picture(path: Path, made: Tensor, test: Data, guesses: Tensor) -> None:
    figure = plt.figure(figsize=(12, 3.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.45, 1))
    axis = left.subplots()
    axis.imshow(F.pad(made, (0, 1, 0, 1)).permute(0, 2, 1, 3).flatten(2).flatten(0, 1), cmap="gray_r", vmin=0, vmax=1)
    axis.set(title="images from labels: the mean of p(x|z), z from q(z|y)", yticks=[], xticks=[9 * k + 3.5 for k in range(10)])
    axis.set_xticklabels(range(10))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    # Six held-out images: the first two, and the four that the model is least sure of.
    unsure = guesses.max(-1).values.argsort()[:4].tolist()
    for number, (image, bars) in zip((0, 1, *unsure), right.subplots(6, 2, width_ratios=(1, 5))):
        image.imshow(test["x"][number].cpu().reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        image.axis("off")
        truth = test["y"][number].argmax().item()
        bars.bar(range(10), guesses[number], color=["C2" if k == truth else "0.6" for k in range(10)])
        bars.set(ylim=(0, 1), yticks=[], xticks=range(10) if number == unsure[-1] else [])
        bars.spines[["top", "right", "left"]].set_visible(False)
    right.suptitle("labels from images: q(y|x); the true one is green", fontsize=12)
    figure.savefig(path, dpi=150)
