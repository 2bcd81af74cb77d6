"""A hidden Markov model, fitted to series that one simulates by its exact likelihood, and the states that it infers.

    python docs/gallery/hmm.py --steps 200 --seed 0 --out out/hmm

Rabiner (1989), https://doi.org/10.1109/5.18626
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from tqdm import trange

from pixyz.core import Distribution
from pixyz.distributions import Categorical, Normal
from pixyz.models import ML

STATES, LENGTH = 3, 60


class Start(Categorical):
    def __init__(self) -> None:
        super().__init__("p(z_1)", logits=nn.Parameter(torch.zeros(STATES)))


class Move(Categorical):
    """p(z|h): a table of transitions."""

    def __init__(self) -> None:
        super().__init__("p(z|h)")
        self.table = nn.Parameter(2 * torch.eye(STATES))

    def forward(self, h: Tensor) -> dict[str, Tensor]:
        return {"logits": h @ self.table}


class See(Normal):
    """p(x|z): a mean and a scale for each state."""

    def __init__(self) -> None:
        super().__init__("p(x|z)")
        self.means, self.log_scales = nn.Parameter(2 * torch.randn(STATES, 2)), nn.Parameter(torch.zeros(STATES, 2))

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"loc": z @ self.means, "scale": (z @ self.log_scales).exp()}


def chain(start: Start, move: Move, see: See) -> Distribution:
    p = start * see.replace_var(z="z_1", x="x_1")
    for t in range(2, LENGTH + 1):
        p = p * move.replace_var(z=f"z_{t}", h=f"z_{t - 1}") * see.replace_var(z=f"z_{t}", x=f"x_{t}")
    return p


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/hmm"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    hidden = [f"z_{t}" for t in range(1, LENGTH + 1)]

    truth = chain(Start(), Move(), See())
    with torch.no_grad():
        see = truth.get_submodule("p(x|z)")
        see.means.copy_(torch.tensor([[0.0, 1.5], [-1.2, -0.7], [1.2, -0.7]]))
        see.log_scales.fill_(-0.2)
        truth.get_submodule("p(z|h)").table.copy_(torch.tensor([[3.0, 0.5, -9.0], [-9.0, 3.0, 0.5], [0.5, -9.0, 3.0]]))
        train, test = truth.sample(batch_size=40), truth.sample(batch_size=200)

    joint = chain(Start(), Move(), See())
    p = joint.marginalize_var(hidden)
    model = ML(p, optimizer=torch.optim.Adam, optimizer_params={"lr": 5e-2})
    seen = {name: x for name, x in train.items() if name in p.var}
    for _ in (bar := trange(args.steps, desc="hmm", unit="step")):
        bar.set_postfix(nats=f"{model.train(seen).item() / LENGTH:.4f}")

    with torch.no_grad():
        held = {name: x for name, x in test.items() if name in p.var}
        alone = Categorical("p(k)", probs=p.posterior(f"z_{LENGTH // 2}").mean(seen).mean(0))
        blind = (joint.get_submodule("p(x|z)").replace_var(z="k") * alone).marginalize_var("k")
        apart = sum(blind.log_likelihood({"x": held[f"x_{t}"]}).mean() for t in range(1, LENGTH + 1)) / LENGTH
        exact = truth.marginalize_var(hidden).log_likelihood(held).mean() / LENGTH
        print(f"\nheld out, per step: fitted {p.log_likelihood(held).mean() / LENGTH:.4f} nats, the true model {exact:.4f}, ", end="")
        print(f"the same states without their order {apart:.4f}\n")
        first = {name: x[:1] for name, x in held.items()}
        states = torch.stack([test[z][0] for z in hidden])
        inferred = torch.stack([p.posterior(z).mean(first)[0] for z in hidden])
        # The fitted states come in any order: each true one is matched with the nearest.
        inferred = inferred[:, torch.cdist(see.means, joint.get_submodule("p(x|z)").means).argmin(1)]
        picture(args.out / "hmm.png", torch.stack([first[f"x_{t}"][0] for t in range(1, LENGTH + 1)]), states, inferred)
        right = (inferred.argmax(1) == states.argmax(1)).float().mean()
    print(f"states inferred rightly: {right:.1%}\npicture: {args.out / 'hmm.png'}")


def picture(path: Path, x: Tensor, states: Tensor, inferred: Tensor) -> None:
    colours = plt.get_cmap("tab10")(range(STATES))
    figure, (plane, *lines) = plt.subplots(1, 3, figsize=(10, 3), width_ratios=(1, 1.4, 1.4), layout="constrained")
    plane.plot(*x.T.numpy(), color="0.8", linewidth=0.8, zorder=0)
    plane.scatter(*x.T.numpy(), s=16, c=colours[states.argmax(1)])
    plane.set(title="a series, by its true states", xticks=[], yticks=[], aspect="equal")
    for axis, shares, name in zip(lines, (states, inferred), ("true states", r"$p(z_t\,|\,x_1,\ldots,x_T)$")):
        axis.stackplot(range(1, LENGTH + 1), *shares.T.numpy(), colors=colours, step="mid")
        axis.set(title=name, xlabel="t", ylim=(0, 1), xlim=(1, LENGTH))
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
