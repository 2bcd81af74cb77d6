"""A deep Markov model of pendulums that are seen as noisy frames, and what it foresees of the second half of a swing.

    python docs/gallery/dmm.py --epochs 150 --device cpu --seed 0 --out out/dmm

Krishnan et al. (2017), https://arxiv.org/abs/1609.09869
"""

import argparse
import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from pixyz.core import Distribution
from pixyz.distributions import Bernoulli, Deterministic, Normal
from pixyz.losses import ELBO, IterativeLoss, KullbackLeibler, Parameter
from pixyz.models import Model

STEPS, SIDE, LATENT, HIDDEN = 30, 16, 4, 64
SEEN, ROLLS, WRONG = 15, 50, 0.02  # frames before a forecast, how many forecasts, share of pixels that are wrong


def swing(count: int) -> Tensor:
    """Angles of pendulums, `(count, STEPS)`, 0 hanging down; with a kick of noise at each step."""
    angle, speed = (2 * torch.rand(count) - 1) * 2.0, 0.1 * torch.randn(count)
    angles = []
    for _ in range(STEPS):
        speed = speed - 0.15 * angle.sin() + 0.01 * torch.randn(count)
        angle = angle + speed
        angles.append(angle)
    return torch.stack(angles, 1)


def bob(angle: Tensor) -> Tensor:
    """Frames, `(*angle.shape, SIDE * SIDE)`, 1 where the bob is."""
    axis = torch.linspace(-1.3, 1.3, SIDE)
    x, y = angle.sin()[..., None, None], angle.cos()[..., None, None]
    return ((axis - x).square() + (axis[:, None] - y).square() < 0.35**2).float().flatten(-2)


class Heads(nn.Module):
    """loc and scale, after a hidden layer; loc from the first input on, if it moves."""

    def __init__(self, inputs: int, *, moves: bool = False) -> None:
        super().__init__()
        self.hidden, self.heads, self.moves = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, 2 * LATENT), moves

    def forward(self, first: Tensor, *more: Tensor) -> dict[str, Tensor]:
        loc, scale = self.heads(torch.tanh(self.hidden(torch.cat([first, *more], -1)))).chunk(2, -1)
        return {"loc": first + loc if self.moves else loc, "scale": F.softplus(scale - 1) + 1e-3}


class Backward(nn.Module):
    """h_t, what the frames from t on say; and h_1 once more, for the start."""

    def __init__(self) -> None:
        super().__init__()
        self.see, self.rnn = nn.Linear(SIDE * SIDE, HIDDEN), nn.GRU(HIDDEN, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.rnn(torch.relu(self.see(x)).flip(1))[0].flip(1)
        return {"h": h, "h_1": h[:, 0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/dmm"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    angles = swing(700)
    clean = bob(angles)
    train, test = torch.where(torch.rand(clean.shape) < WRONG, 1 - clean, clean).to(args.device).split([500, 200])

    # p(z_0) and p(x_t|z_t) p(z_t|z_{t-1}); q(z_0|h_1) and q(z_t|z_{t-1},h_t), where h_t has seen x_t, ..., x_T.
    emission = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, SIDE * SIDE))
    p_x = Bernoulli("p(x|z)", logits=emission)
    p_z = Normal("p(z|z_prev)", Heads(LATENT, moves=True))
    p_0 = Normal("p(z_prev)", loc=0.0, scale=1.0, dim=LATENT)
    rnn = Deterministic("rnn(h,h_1|x)", Backward())
    q_z = Normal("q(z|z_prev,h)", Heads(LATENT + HIDDEN))
    q_0 = Normal("q(z_prev|h_1)", Heads(HIDDEN))

    beta = Parameter("beta")
    steps = IterativeLoss(ELBO(p_x * p_z, q_z, kl="analytic", beta=beta), series_var=["x", "h"], update_value={"z": "z_prev"})
    bound = (steps.expectation(q_0) - beta * KullbackLeibler(q_0, p_0)).expectation(rnn)
    print(f"{bound}\n")

    model = Model(-bound.mean(), optimizer_params={"lr": 5e-3}, clip_grad_norm=10.0)
    model.loss.to(args.device)
    for epoch in (bar := trange(args.epochs, desc="deep Markov model", unit="epoch")):
        weight = min(1.0, 0.02 + 2 * epoch / args.epochs)  # the divergences count in full from the middle on
        for batch in torch.randperm(len(train)).split(25):
            loss = model.train({"x": train[batch], "beta": weight})
        bar.set_postfix(nats=f"{loss / STEPS:.2f}")

    with torch.no_grad():
        q = (rnn, q_0, q_z)
        held_angles, path = angles[500:], infer(test, *q)
        read = read_out(infer(train, *q), angles[:500])
        left = (read(path) - directions(held_angles)).square().mean((0, 1)) / directions(held_angles).flatten(0, 1).var(0)
        rolls = roll(infer(test[:, :SEEN].repeat_interleave(ROLLS, 0), *q)[:, -1], p_z).unflatten(0, (-1, ROLLS))
        future = test[:, SEEN:]
        log_p = p_x.log_likelihood({"x": future.unsqueeze(1).expand(-1, ROLLS, -1, -1).flatten(0, 2), "z": rolls.flatten(0, 2)})
        shares = share_lit(train)
        forecasts = {
            "deep Markov model": log_p.reshape(rolls.shape[:3]).logsumexp(1) - math.log(ROLLS),
            "last frame repeated": log_bernoulli(shares[test[:, SEEN - 1].long()].unsqueeze(1), future),
            "independent pixels": log_bernoulli(train.mean((0, 1)), future),
        }
        noise = -math.log(WRONG) * WRONG - math.log(1 - WRONG) * (1 - WRONG)
        print(
            f"\nheld out, nats per frame: {model.test({'x': test, 'beta': 1.0}) / STEPS:.1f}; the wrong pixels alone: {SIDE**2 * noise:.1f}"
        )
        print(f"linear read-out from z, R²: sine {1 - left[0]:.3f}, cosine {1 - left[1]:.3f}")
        print(f"\nforecast after {SEEN} frames     1 to 5 ahead   {STEPS - SEEN - 4} to {STEPS - SEEN} ahead")
        for name, value in forecasts.items():
            print(f"{name:22}{-value[:, :5].mean():18.1f}{-value[:, -5:].mean():18.1f}")
        example = int((held_angles[:, SEEN - 1] - 1.0).abs().argmin())
        strips = {
            "the pendulum": clean[500 + example],
            "as it is seen": test[example],
            "inferred from all frames": p_x.mean({"z": path[example]}),
            f"foreseen from the first {SEEN}, one roll": p_x.mean({"z": rolls[example, 0]}),
            f"mean of {ROLLS} rolls": p_x.mean({"z": rolls[example].flatten(0, 1)}).unflatten(0, (ROLLS, -1)).mean(0),
        }
        lines = (held_angles[example], angle_of(read(path[example])), angle_of(read(rolls[example, :20])))
        picture(args.out / "dmm.png", strips, lines, (held_angles.flatten(), angle_of(read(path)).flatten()))
    print(f"picture: {args.out / 'dmm.png'}")


def infer(x: Tensor, rnn: Distribution, q_0: Distribution, q_z: Distribution) -> Tensor:
    """z_1, ..., z_T of the posterior, `(batch, time, LATENT)`."""
    seen = rnn.sample({"x": x})
    path = [q_0.sample(seen)["z_prev"]]
    for h in seen["h"].unbind(1):
        path.append(q_z.sample({"z_prev": path[-1], "h": h})["z"])
    return torch.stack(path[1:], 1)


def roll(z: Tensor, p_z: Distribution) -> Tensor:
    """What may follow z, `(batch, STEPS - SEEN, LATENT)`."""
    path = [z]
    for _ in range(STEPS - SEEN):
        path.append(p_z.sample({"z_prev": path[-1]})["z"])
    return torch.stack(path[1:], 1)


def directions(angle: Tensor) -> Tensor:
    return torch.stack([angle.sin(), angle.cos()], -1)


def angle_of(direction: Tensor) -> Tensor:
    return torch.atan2(*direction.unbind(-1))


def read_out(z: Tensor, angle: Tensor) -> nn.Linear:
    """Sine and cosine of the angle as linear functions of z, by least squares."""
    inputs = F.pad(z.flatten(0, 1), (0, 1), value=1.0)
    solution = torch.linalg.lstsq(inputs, directions(angle).flatten(0, 1).to(z.device)).solution
    linear = nn.Linear(LATENT, 2).to(z.device)
    linear.weight.copy_(solution[:-1].T)
    linear.bias.copy_(solution[-1])
    return linear


def share_lit(x: Tensor) -> Tensor:
    """How often a pixel is 1 in a forecast, if in the last frame it was 0, or 1."""
    last, later = x[:, SEEN - 1 : SEEN].expand(-1, STEPS - SEEN, -1), x[:, SEEN:]
    return torch.stack([later[last == v].mean() for v in (0, 1)])


def log_bernoulli(probs: Tensor, x: Tensor) -> Tensor:
    """log p of frames, `(batch, time)`, in nats."""
    p = Bernoulli("p(x|probs)", probs="probs")
    flat = {"x": x.flatten(0, 1), "probs": probs.expand_as(x).flatten(0, 1)}
    return p.log_likelihood(flat).reshape(x.shape[:2])


def picture(path: Path, strips: dict[str, Tensor], lines: tuple[Tensor, Tensor, Tensor], points: tuple[Tensor, Tensor]) -> None:
    figure = plt.figure(figsize=(12, 7.8), layout="constrained")
    film, below = figure.subfigures(2, 1, height_ratios=(2, 1))
    for axis, (name, frames) in zip(film.subplots(len(strips)), strips.items()):
        # Every second frame; a forecast stands below what it foresees.
        whole = F.pad(frames.cpu().reshape(-1, SIDE, SIDE), (0, 0, 0, 0, STEPS - len(frames), 0))[::2]
        tiles = F.pad(whole, (0, 1), value=0.5)
        axis.imshow(tiles.permute(1, 0, 2).flatten(1), cmap="gray_r", vmin=0, vmax=1)
        axis.axvline(SEEN // 2 * (SIDE + 1) + SIDE + 0.5, color="C3", linewidth=1)
        axis.set_title(name, loc="left", fontsize=9, pad=2)
        axis.set(xticks=[], yticks=[])
    truth, inferred, foreseen = (x.cpu() for x in lines)
    course, agreement = below.subplots(1, 2, width_ratios=(2.6, 1))
    course.plot(range(SEEN, STEPS), foreseen.T, color="C0", linewidth=0.6, alpha=0.5)
    course.plot([], color="C0", linewidth=0.6, label="20 rolls")
    course.plot(inferred, "C1.", label="inferred from all frames")
    course.plot(truth, "k", linewidth=1, label="the pendulum")
    course.axvline(SEEN - 0.5, color="C3", linewidth=1)
    course.set(title="angle, read off z by a linear map", xlabel="t")
    course.legend(frameon=False, fontsize=8, ncols=3, loc="lower left")
    agreement.plot([-math.pi, math.pi], [-math.pi, math.pi], color="0.7", linewidth=0.8)
    agreement.plot(*(x.cpu() for x in points), ",", color="C1", alpha=0.6)
    agreement.set(xlabel="angle", ylabel="read off z", aspect="equal", title="200 pendulums")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
