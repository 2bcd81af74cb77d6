"""An autoencoder of digits with eight binary latent variables: the gradient of q by every estimator.

    python docs/gallery/discrete_vae.py --epochs 40 --device cpu --seed 0 --out out/discrete_vae

Williams (1992); Mnih and Gregor (2014), https://arxiv.org/abs/1402.0030; Bengio et al. (2013), https://arxiv.org/abs/1308.3432;
Maddison et al. (2017), https://arxiv.org/abs/1611.00712; Tucker et al. (2017), https://arxiv.org/abs/1703.07370
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import tqdm, trange

from pixyz.core import Distribution
from pixyz.distributions import Bernoulli
from pixyz.losses import ELBO, Estimator, MovingAverage, Rebar, Relaxed, Score, StraightThrough
from pixyz.models import Model


def baseline() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))


ESTIMATORS: dict[str, tuple[Callable[[], Estimator | str], int]] = {  # and how many draws make twelve evaluations of f
    "enumerate": (lambda: "enumerate", 1),  # which takes 256
    "score": (lambda: Score(baseline=0.0), 12),
    "moving average": (lambda: Score(baseline=MovingAverage()), 12),
    "learned baseline": (lambda: Score(baseline=baseline()), 12),
    "leave-one-out": (lambda: "score", 12),
    "rebar": (lambda: Rebar(temperature=0.5), 4),
    "relaxed": (lambda: Relaxed(temperature=0.5), 12),
    "straight-through": (lambda: StraightThrough(), 12),
}
COLOURS = dict(zip(ESTIMATORS, ("k", "C7", "C1", "C3", "C0", "C2", "C4", "C5")))


def autoencoder() -> tuple[Distribution, Distribution]:
    decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))
    encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    return Bernoulli("p(x|b)", logits=decoder) * Bernoulli("p(b)", probs=0.5, dim=8), Bernoulli("q(b|x)", logits=encoder)


def digits() -> tuple[Tensor, Tensor]:  # in black and white; 1,500 to train on, 297 held out
    x = torch.tensor(load_digits().data > 7, dtype=torch.float32)
    order = np.random.RandomState(0).permutation(len(x))
    return x[order[:1500]], x[order[1500:]]


def fit(p: Distribution, q: Distribution, name: str, train: Tensor, test: Tensor, epochs: int) -> list[float]:
    """Trains p and q; the exact bound on the held-out images after each epoch."""
    make, draws = ESTIMATORS[name]
    model = Model(-ELBO(p, q, num_samples=draws, estimator=make()).mean(), optimizer_params={"lr": 3e-3})
    model.loss.to(train.device)
    exact, curve = ELBO(p, q, estimator="enumerate").mean(), []
    for _ in (bar := trange(epochs, desc=name, unit="epoch")):
        for batch in torch.randperm(len(train)).split(50):
            model.train({"x": train[batch]})
        with torch.no_grad():
            curve.append(exact.estimate({"x": test}).item())
        bar.set_postfix(elbo=f"{curve[-1]:.2f}")
    return curve


def noise(p: Distribution, q: Distribution, name: str, x: Tensor, repeats: int) -> tuple[float, float]:
    """The variance and the squared bias of the gradient for q, over the squared length of the exact one."""
    weights = list(q.parameters())

    def gradient(loss: nn.Module) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss.estimate({"x": x}), weights)])

    make, draws = ESTIMATORS[name]
    estimator = make()
    loss = -ELBO(p, q, num_samples=draws, estimator=estimator).mean()
    loss.to(x.device)
    if isinstance(estimator, Score) and isinstance(estimator.baseline, nn.Module):  # a baseline is given time to learn
        learns = list(estimator.baseline.parameters())
        optimiser = torch.optim.Adam(learns, lr=3e-2) if learns else None
        for _ in range(repeats):
            value = loss.estimate({"x": x})
            if optimiser:
                optimiser.zero_grad()
                value.backward(inputs=learns)
                optimiser.step()
    exact = gradient(-ELBO(p, q, estimator="enumerate").mean())
    variance, mean = torch.var_mean(torch.stack([gradient(loss) for _ in range(repeats)]), 0)
    bias = (mean - exact).square() - variance / repeats  # which is what the mean's own noise adds
    return (variance.sum() / exact.square().sum()).item(), (bias.sum() / exact.square().sum()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/discrete_vae"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    train, test = (x.to(args.device) for x in digits())

    torch.manual_seed(args.seed)
    p, q = (d.to(args.device) for d in autoencoder())
    fit(p, q, "enumerate", train, test, 2)  # gradients are compared where there is something to learn
    noises = {name: noise(p, q, name, train[:50], 10 * args.epochs) for name in tqdm(ESTIMATORS, desc="variance", unit="estimator")}
    curves = {}
    for name in ESTIMATORS:
        torch.manual_seed(args.seed)
        curves[name] = fit(*autoencoder(), name, train, test, args.epochs)

    print("\nthe gradient for q after 2 epochs, with 12 evaluations of f (256 for enumerate), over the squared length of the exact one;")
    print(f"and the exact bound on held-out images after training for {args.epochs} epochs, in nats")
    print(f"  {'':18}variance   bias²     ELBO")
    for name, (variance, bias) in noises.items():
        print(f"  {name:18}{variance:8.3f} {max(bias, 0):7.3f} {curves[name][-1]:8.2f}")
    picture(args.out / "discrete_vae.png", noises, curves)
    print(f"picture: {args.out / 'discrete_vae.png'}")


def picture(path: Path, noises: dict[str, tuple[float, float]], curves: dict[str, list[float]]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=(1, 1.2), layout="constrained")
    places, least = range(len(noises)), 0.02
    left.barh(places, [max(v - least, 0) for v, _ in noises.values()], left=least, color=list(COLOURS.values()), alpha=0.85)
    biased = [(i, b) for i, (_, b) in enumerate(noises.values()) if b > 0.01]
    left.plot([b for _, b in biased], [i for i, _ in biased], "kx", label="squared bias")
    left.text(least, 0, " 0", va="center")
    left.set(
        title="variance of the gradient for q, 12 evaluations", xscale="log", xlim=(least, None), yticks=places, yticklabels=list(noises)
    )
    left.set_xlabel("over the squared length of the exact gradient")
    left.invert_yaxis()
    left.legend(frameon=False, loc="lower right")
    for name, curve in curves.items():
        right.plot([30 * (i + 1) for i in range(len(curve))], curve, color=COLOURS[name], label=name, linewidth=1.2)
    last = [curve[-1] for curve in curves.values()]
    right.set(title="exact ELBO, held out, nats", xlabel="steps", ylim=(min(last) - 5, max(last) + 1))
    right.legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
