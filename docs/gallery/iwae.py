"""One autoencoder under tighter and tighter bounds: ELBO, IWAE, DReG; and the signal in the encoder's gradient.

    python docs/gallery/iwae.py --epochs 50 --device cpu --seed 0 --out out/iwae

Burda et al. (2016), https://arxiv.org/abs/1509.00519; Rainforth et al. (2018), https://arxiv.org/abs/1802.04537;
Tucker et al. (2019), https://arxiv.org/abs/1810.04152
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import trange

from pixyz.core import Distribution, Loss
from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import ELBO, IWAE, DReG
from pixyz.models import Model

KS = [1, 3, 10, 30, 100, 300]
OBJECTIVES = {
    "ELBO, 1 draw": lambda p, q: ELBO(p, q),
    "ELBO, mean of 50": lambda p, q: ELBO(p, q, num_samples=50),
    "IWAE, K = 5": lambda p, q: IWAE(p, q, num_samples=5),
    "IWAE, K = 50": lambda p, q: IWAE(p, q, num_samples=50),
    "DReG, K = 50": lambda p, q: DReG(p, q, num_samples=50),
}


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        loc, scale = self.net(x).chunk(2, dim=-1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


def autoencoder() -> tuple[Distribution, Distribution, Distribution]:
    logits = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    return Bernoulli("p(x|z)", logits=logits), Normal("p(z)", loc=0.0, scale=1.0, dim=8), Normal("q(z|x)", Heads())


def digits() -> tuple[Tensor, Tensor]:  # in grey; 1,500 to train on, 297 held out
    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    order = np.random.RandomState(0).permutation(len(x))
    return x[order[:1500]], x[order[1500:]]


def signal(bound: Loss, q: Distribution, x: Tensor, repeats: int) -> float:
    """The mean of the gradient for q over its standard deviation, as lengths."""
    weights = list(q.parameters())
    draws = [torch.cat([g.flatten() for g in torch.autograd.grad(bound.estimate({"x": x}), weights)]) for _ in range(repeats)]
    variance, mean = torch.var_mean(torch.stack(draws), 0)
    # The square of a mean is too large by the variance of the mean.
    return ((mean.square() - variance / repeats).sum().clamp_min(0) / variance.sum()).sqrt().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=200, help="gradients in an estimate of signal to noise")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/iwae"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    train, test = (x.to(args.device) for x in digits())
    held = test.bernoulli()

    frequency = (train.sum(0) + 1) / (len(train) + 2)
    curves, samples = {}, {"data": held[:10]}
    lines = [f"{'independent pixels':20}{Bernoulli(probs=frequency).log_likelihood({'x': held}).mean():8.2f}"]
    for name, objective in OBJECTIVES.items():
        torch.manual_seed(args.seed)
        decoder, prior, q = autoencoder()
        p = decoder * prior
        trained = Model(-objective(p, q).mean(), optimizer_params={"lr": 3e-3})
        trained.loss.to(args.device)
        for _ in (bar := trange(args.epochs, desc=name, unit="epoch")):
            for batch in torch.randperm(len(train)).split(50):
                loss = trained.train({"x": train[batch].bernoulli()})  # pixels drawn anew, as in the paper
            bar.set_postfix(loss=f"{loss:.2f}")
        with torch.no_grad():
            curves[name] = [IWAE(p, q, num_samples=k).mean().estimate({"x": held}).item() for k in KS]
            nats = p.marginalize_var("z").log_likelihood({"x": held}, proposal=q, num_samples=1000).mean()
            samples[name] = decoder.mean(prior.sample(batch_size=10))
        lines.append(f"{name:20}{nats:8.2f} {curves[name][0]:10.2f}")
        if name == "IWAE, K = 5":
            one = train[:10].bernoulli()
            ratios = {kind: [signal(kind(p, q, num_samples=k).mean(), q, one, args.repeats) for k in KS[:4]] for kind in (IWAE, DReG)}
    print("\nheld out, nats per image; log p(x) by importance sampling with 1,000 draws")
    print(f"  {'trained by':20}log p(x)  ELBO of q", *lines, sep="\n  ")
    print("signal to noise of the encoder's gradient, K = 1 and 30: ", end="")
    print("; ".join(f"{kind.__name__} {r[0]:.2f} and {r[-1]:.2f}" for kind, r in ratios.items()))
    picture(args.out / "iwae.png", curves, ratios, samples)
    print(f"picture: {args.out / 'iwae.png'}")


def picture(path: Path, curves: dict[str, list[float]], ratios: dict[type, list[float]], samples: dict[str, Tensor]) -> None:
    figure = plt.figure(figsize=(12, 3.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 1.2))
    bounds, noise = left.subplots(1, 2, width_ratios=(1.2, 1))
    for (name, values), line in zip(curves.items(), ("C0:", "C0-", "C1-", "C2-", "C3-")):
        bounds.plot(KS, values, line, label=name)
    for (kind, values), line in zip(ratios.items(), ("C2o-", "C3o-")):
        noise.plot(KS[: len(values)], values, line, label=kind.__name__, markersize=4)
    bounds.set(title="bound on log p(x), held out, nats", xlabel="K in the bound", xscale="log")
    noise.set(title="signal to noise, gradient for q", xlabel="K", xscale="log", ylim=(0, None))
    bounds.legend(title="trained by", frameon=False, fontsize=8)
    noise.legend(frameon=False)
    for axis, (name, images) in zip(right.subplots(len(samples)), samples.items()):
        tiles = nn.functional.pad(images.cpu().reshape(10, 8, 8), (0, 1))
        axis.imshow(tiles.permute(1, 0, 2).flatten(1), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(name, loc="left", fontsize=8, pad=2)
        axis.axis("off")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
