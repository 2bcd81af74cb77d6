"""Training with everything: epochs, validation, warming up, checkpoints, TensorBoard, going on after an interruption, pictures.

    python docs/gallery/training.py --epochs 60 --device cpu --seed 0 --out out/training

Stop it at any time and run the same line again: it goes on where it was.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn

from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import ELBO, Parameter
from pixyz.models import LinearSchedule, Model, plot_history, plot_latent, plot_reconstructions, plot_samples


class Heads(nn.Module):
    """The parameters of q(z|x)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.1), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        loc, scale = self.net(x).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


def build(device: str) -> Model:
    decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))
    p = Bernoulli("p(x|z)", logits=decoder) * Normal("p(z)", loc=0.0, scale=1.0, dim=8)
    q = Normal("q(z|x)", Heads())
    loss = -ELBO(p, q, kl="analytic", beta=Parameter("beta")).mean().to(device)
    return Model(
        loss,
        test_loss=-ELBO(p, q, kl="analytic").mean(),
        optimizer=torch.optim.AdamW,
        optimizer_params={"lr": 2e-3},
        schedules={"beta": LinearSchedule(0.0, 1.0, steps=500)},
        ema=0.99,
        p=p,
        q=q,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/training"))
    args = parser.parse_args()
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images > 7.5, dtype=torch.float32)
    train, test = {"x": x[:1500]}, {"x": x[1500:]}

    torch.manual_seed(args.seed)
    model = build(args.device)
    print(model, end="\n\n")
    history = model.fit(
        train,
        epochs=args.epochs,
        validation=test,
        batch_size=50,
        save=args.out / "step_{step}.safetensors",
        resume=True,
        patience=20,
        best=args.out / "best.safetensors",
        logger=TensorBoardLogger(args.out, name="log"),
    )
    best = model.load(args.out / "best.safetensors")
    print(f"{len(history.train)} epochs; the best was number {history.best_epoch}, {history.validation[history.best_epoch - 1]:.2f} nats")
    with model.averaged():
        print(f"{best.path.name}, step {best.step_count}: log p(x) = {model.log_likelihood(test, num_samples=200)}")
        plot_samples(model, 60, cmap="gray_r", path=args.out / "samples.png")
        plot_reconstructions(model, test, cmap="gray_r", path=args.out / "reconstructions.png")
        plot_latent(model, test, labels=torch.tensor(labels[1500:]), path=args.out / "latent.png")
    plot_history(history, ylabel="nats", path=args.out / "history.png")
    print(f"pictures and checkpoints in {args.out}; the curves of every term: tensorboard --logdir {args.out / 'log'}")


if __name__ == "__main__":
    main()
