"""Two layers of latent variables, inferred from the data upwards or from the top down, beside one layer with as many weights.

    python docs/gallery/hierarchical_vae.py --seeds 3 --epochs 200 --device cpu --out out/hierarchical_vae

Sønderby et al. (2016), https://arxiv.org/abs/1602.02282; Burda et al. (2016), https://arxiv.org/abs/1509.00519
"""

import argparse
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F
from image_and_label import Data, digits
from torch import Tensor, nn
from tqdm import trange

from pixyz.core import Distribution
from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import ELBO, Parameter
from pixyz.models import Evaluation, Model, plot_history, plot_samples


class Heads(nn.Module):
    """The parameters of a normal distribution, from several variables side by side."""

    def __init__(self, size: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * dim))

    def forward(self, *seen: Tensor) -> Data:
        loc, scale = self.net(torch.cat(seen, -1)).chunk(2, dim=-1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


def image(condition: str, dim: int, hidden: int) -> Distribution:
    logits = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 64))
    return Bernoulli(f"p(x|{condition})", logits=logits)


def one_layer() -> tuple[Distribution, Distribution]:
    p = image("z", 12, 93) * Normal("p(z)", loc=0.0, scale=1.0, dim=12)
    return p, Normal("q(z|x)", Heads(64, 12, 93))


def two_layers(hidden: int) -> Distribution:
    return image("z_1", 8, hidden) * Normal("p(z_1|z_2)", Heads(4, 8, hidden)) * Normal("p(z_2)", loc=0.0, scale=1.0, dim=4)


def upwards() -> tuple[Distribution, Distribution]:
    return two_layers(69), Normal("q(z_2|z_1)", Heads(8, 4, 69)) * Normal("q(z_1|x)", Heads(64, 8, 69))


def top_down() -> tuple[Distribution, Distribution]:
    return two_layers(64), Normal("q(z_1|x,z_2)", Heads(64 + 4, 8, 64)) * Normal("q(z_2|x)", Heads(64, 4, 64))


MODELS = {"one layer": one_layer, "two, upwards": upwards, "two, top down": top_down}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--warm-up", type=float, default=0.5, help="over how much of the epochs β grows to 1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("out/hierarchical_vae"))
    args = parser.parse_args()
    train, test = ({"x": data["x"]} for data in digits(args.device))

    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in MODELS}
    history: dict[str, list[float]] = {}
    for seed in range(args.seeds):
        for name, make in MODELS.items():
            torch.manual_seed(seed)
            p, q = make()
            model = warmed_up(p, q)
            model.loss.to(args.device)
            curve = []
            for epoch in (bar := trange(args.epochs, desc=f"seed {seed}, {name}", unit="epoch", leave=False)):
                beta = min(1.0, (epoch + 1) / max(1.0, args.warm_up * args.epochs))
                for batch in torch.randperm(1500).split(100):
                    model.train({"x": train["x"][batch], "beta": beta})
                curve.append(model.evaluate(test).loss)
                bar.set_postfix(held_out=f"{curve[-1]:.2f}")
            at_end, likelihood = model.evaluate(test), model.log_likelihood(test)
            found[name].append((-at_end.loss, likelihood.mean, knows(at_end)))
            if seed == 0:
                history[name] = curve
                weights = sum(w.numel() for w in model.trained_parameters)
                print(f"{name}: {p.prob_text} and {q.prob_text}, {weights:,} weights; held-out log p(x) {likelihood}")
                plot_samples(model, 30, cmap="gray_r", path=args.out / f"samples_{list(MODELS).index(name)}.png")
    print(f"\n{model.loss}\n")

    print(f"held out, nats per image, mean ± standard error over {args.seeds} seeds")
    print(f"  {'':14}{'bound':>16}{'log p(x)':>16}{'over one layer':>18}{'KL of z_2':>14}")
    for name, values in found.items():
        bound, nats, top = zip(*values)
        gain = [b - a for (_, a, _), b in zip(found["one layer"], nats)]
        of_two = "" if name == "one layer" else f"{summary(gain):>18}{summary(top):>14}"
        print(f"  {name:14}{summary(bound):>16}{summary(nats):>16}{of_two}")
    plot_history(history, ylabel="held out, -ELBO, nats", path=args.out / "hierarchical_vae.png")
    print(f"pictures in {args.out}")


def warmed_up(p: Distribution, q: Distribution) -> Model:
    """Trained with β times the divergence, tested with all of it."""
    loss, bound = -ELBO(p, q, beta=Parameter("beta")).mean(), -ELBO(p, q).mean()
    return Model(loss, bound, p=p, q=q, optimizer=torch.optim.AdamW, optimizer_params={"lr": 2e-3, "weight_decay": 1e-2})


def knows(found: Evaluation) -> float:
    """E[log q(z_2|...)/p(z_2)]: what the upper layer says of the data; 0 if it says nothing."""
    terms = found.terms
    return next((value - terms["log p(z_2)"] for text, value in terms.items() if text.startswith("log q(z_2|")), 0.0)


def summary(values: tuple[float, ...] | list[float]) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.2f} ± {error:.2f}"


if __name__ == "__main__":
    main()
