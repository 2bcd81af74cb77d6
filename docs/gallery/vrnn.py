"""A variational recurrent network that writes digits row by row, beside a recurrent network without latent variables.

    python docs/gallery/vrnn.py --epochs 150 --device cpu --seed 0 --out out/vrnn

Chung et al. (2015), https://arxiv.org/abs/1506.02216
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

from pixyz.core import Distribution
from pixyz.distributions import Bernoulli, Deterministic, Normal
from pixyz.losses import ELBO, IWAE, IterativeLoss, Parameter
from pixyz.models import Model

ROWS, PIXELS, LATENT, HIDDEN = 8, 8, 8, 64
PLAIN = 88  # units of the network without latent variables, for as many parameters


class Heads(nn.Module):
    """loc and scale, after a hidden layer."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.hidden, self.heads = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, 2 * LATENT)

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        loc, scale = self.heads(torch.relu(self.hidden(torch.cat(inputs, -1)))).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


class Pixels(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PIXELS))

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(torch.cat(inputs, -1))}


class Memory(nn.Module):
    """h, of all that is given and of the h before, which comes last."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(inputs, units)

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        return {"h": self.cell(torch.cat(inputs[:-1], -1), inputs[-1])}


def digits() -> tuple[Tensor, Tensor]:  # in grey, rows as steps; 1,500 to train on, 297 held out
    x = torch.tensor(load_digits().images / 16, dtype=torch.float32)
    order = np.random.RandomState(0).permutation(len(x))
    return x[order[:1500]], x[order[1500:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/vrnn"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    train, test = (x.to(args.device) for x in digits())
    held = test.bernoulli()

    # p(x_t|z_t,h_{t-1}) p(z_t|h_{t-1}), q(z_t|x_t,h_{t-1}), and h_t of all that they depend on.
    p_x_z = Bernoulli("p(x|z,h_prev)", Pixels(LATENT + HIDDEN))
    p = p_x_z * Normal("p(z|h_prev)", Heads(HIDDEN))
    q = Normal("q(z|x,h_prev)", Heads(PIXELS + HIDDEN))
    rnn = Deterministic("rnn(h|x,z,h_prev)", Memory(PIXELS + LATENT, HIDDEN))
    variational = IterativeLoss(ELBO(p, q * rnn, kl="analytic", beta=Parameter("beta")), series_var=["x"], update_value={"h": "h_prev"})
    tighter = IterativeLoss(IWAE(p, q * rnn, num_samples=100), series_var=["x"], update_value={"h": "h_prev"})

    # The same without z: p(x_t|h_t), where h_t has seen the rows before.
    p_x_h = Bernoulli("p(x|h)", Pixels(PLAIN))
    memory = Deterministic("rnn(h|x_prev,h_prev)", Memory(PIXELS, PLAIN))
    plain = IterativeLoss(p_x_h.log_prob().expectation(memory), series_var=["x"], update_value={"x": "x_prev", "h": "h_prev"})

    print(f"{variational}\n{tighter}\n{plain}\n")

    models = {}
    for name, objective, units in (("VRNN", variational, HIDDEN), ("RNN", plain, PLAIN)):
        trained = models[name] = Model(-objective.mean(), optimizer_params={"lr": 3e-3})
        trained.loss.to(args.device)
        for epoch in (bar := trange(args.epochs, desc=name, unit="epoch")):
            beta = min(1.0, 4 * epoch / args.epochs)  # the divergence counts in full from a quarter on
            for batch in torch.randperm(len(train)).split(50):
                loss = trained.train({**start(train[batch].bernoulli(), units), "beta": beta})
            bar.set_postfix(loss=f"{loss:.2f}")

    with torch.no_grad():
        frequency = (train.sum(0) + 1) / (len(train) + 2)
        bounds = {
            "independent pixels": (frequency.numel(), Bernoulli(probs=frequency).log_likelihood({"x": held}).mean()),
            "RNN": (size(models["RNN"]), -models["RNN"].test(start(held, PLAIN))),
            "VRNN, ELBO": (size(models["VRNN"]), -models["VRNN"].test({**start(held, HIDDEN), "beta": 1.0})),
            "VRNN, IWAE, K = 100": (size(models["VRNN"]), tighter.mean().estimate(start(held, HIDDEN))),
        }
        print(f"\n{'held out':22}parameters   nats per image")
        for name, (parameters, nats) in bounds.items():
            print(f"{name:22}{parameters:10,}{nats:17.2f}")
        vrnn = (p_x_z, p * rnn, q * rnn, HIDDEN)
        none, upper = held[:12, :0], held[:12, : ROWS // 2]
        rows = {
            "held out": held[:12],
            "drawn by the VRNN": rows_after(none, *vrnn),
            "drawn by the RNN": rows_after(none, p_x_h, p_x_h * memory, memory, PLAIN),
            "upper halves of the first row, and lower halves drawn by the VRNN": rows_after(upper, *vrnn),
            "the same again": rows_after(upper, *vrnn),
            "by the RNN": rows_after(upper, p_x_h, p_x_h * memory, memory, PLAIN),
        }
    picture(args.out / "vrnn.png", rows)
    print(f"picture: {args.out / 'vrnn.png'}")


def start(x: Tensor, units: int) -> dict[str, Tensor]:
    return {"x": x, "x_prev": torch.zeros_like(x[:, 0]), "h_prev": x.new_zeros(len(x), units)}


def rows_after(seen: Tensor, p_x: Distribution, generate: Distribution, infer: Distribution, units: int) -> Tensor:
    """Digits `(batch, ROWS, PIXELS)`: the rows that were seen, then rows that are drawn, of which the probabilities are shown."""
    before = {"x_prev": seen.new_zeros(len(seen), PIXELS), "h_prev": seen.new_zeros(len(seen), units)}
    rows = []
    for t in range(ROWS):
        given = t < seen.shape[1]
        step = infer.sample({**before, "x": seen[:, t]}) if given else generate.sample(before)
        rows.append(step["x"] if given else p_x.mean(step))
        before = {"x_prev": step["x"], "h_prev": step["h"]}
    return torch.stack(rows, 1)


def size(model: Model) -> int:
    return sum(w.numel() for w in model.trained_parameters)


def picture(path: Path, rows: dict[str, Tensor]) -> None:
    figure, axes = plt.subplots(len(rows), figsize=(9, 6), layout="constrained")
    for axis, (name, images) in zip(axes, rows.items()):
        tiles = nn.functional.pad(images.cpu(), (0, 1))
        axis.imshow(tiles.permute(1, 0, 2).flatten(1), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(name, loc="left", fontsize=9, pad=2)
        axis.axis("off")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
