"""A conditional VAE, p(x|y,z) with y the class of the digit, beside an unconditional one: likelihood, classes, samples.

    python docs/gallery/cvae.py --epochs 200 --device cpu --seed 0 --out out/cvae

Sohn et al. (2015), https://papers.nips.cc/paper/5775
"""

import torch
import torch.nn.functional as F
from image_and_label import Data, arguments, decoder, digits
from torch import Tensor, nn
from tqdm import trange

from pixyz.distributions import Bernoulli, Normal
from pixyz.models import VAE, plot_latent, plot_samples

DIM = 8


class Beside(nn.Module):
    """A network that sees several variables side by side."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *seen: Tensor) -> Tensor:
        return self.net(torch.cat(seen, -1))


class Heads(Beside):
    """The parameters of q(z|x) or q(z|x,y)."""

    def __init__(self, size: int) -> None:
        super().__init__(nn.Sequential(nn.Dropout(0.1), nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, 2 * DIM)))

    def forward(self, *seen: Tensor) -> Data:
        loc, scale = super().forward(*seen).chunk(2, dim=-1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


def unconditional() -> VAE:
    p, prior = Bernoulli("p(x|z)", logits=decoder(DIM, 64)), Normal("p(z)", loc=0.0, scale=1.0, dim=DIM)
    return VAE(Normal("q(z|x)", Heads(64)), p, prior, optimizer=torch.optim.AdamW, optimizer_params={"lr": 1e-3, "weight_decay": 1e-2})


def conditional() -> VAE:
    p, prior = Bernoulli("p(x|y,z)", logits=Beside(decoder(10 + DIM, 64))), Normal("p(z)", loc=0.0, scale=1.0, dim=DIM)
    return VAE(
        Normal("q(z|x,y)", Heads(64 + 10)), p, prior, optimizer=torch.optim.AdamW, optimizer_params={"lr": 1e-3, "weight_decay": 1e-2}
    )


def trained(model: VAE, data: Data, epochs: int, name: str) -> VAE:
    model.loss.to(data["x"].device)
    for _ in (bar := trange(epochs, desc=name, unit="epoch")):
        for batch in torch.randperm(len(data["x"])).split(100):
            loss = model.train({v: t[batch] for v, t in data.items()})
        bar.set_postfix(loss=f"{loss:.2f}")
    return model


def main() -> None:
    args = arguments(__doc__, "cvae", epochs=200)
    torch.manual_seed(args.seed)
    train, test = digits(args.device)
    plain = trained(unconditional(), {"x": train["x"]}, args.epochs, "p(x|z)")
    model = trained(conditional(), train, args.epochs, "p(x|y,z)")
    print(model, end="\n\n")

    # The same images under every class: p(x) is the mean over the classes, and p(y|x) what each adds.
    classes = torch.eye(10, device=args.device)
    under = [model.log_likelihood({"x": test["x"], "y": y.expand(len(test["x"]), 10)}).each for y in classes]
    joint = torch.stack(under, -1) + (train["y"].mean(0).log()).cpu()
    right = (joint.argmax(-1) == test["y"].argmax(-1).cpu()).float().mean()
    log_px, alone = joint.logsumexp(-1), plain.log_likelihood(test)
    ahead = log_px - alone.each
    print("held out, nats per image: the bound, and the likelihood by importance sampling (1,000 draws)")
    print(f"  VAE,  log p(x)    {-plain.evaluate(test).loss:7.2f}   {alone}")
    print(f"  CVAE, log p(x|y)  {-model.evaluate(test).loss:7.2f}   {model.log_likelihood(test)}")
    print(f"  CVAE, log p(x)              {error_bar(log_px)} nats, y summed out; {error_bar(ahead)} over the VAE, image by image")
    print(f"the class of greatest p(y|x): right for {right:.1%}")

    # A column for each class. In the second picture a row has one z: its style, in every class.
    styles = torch.randn(5, DIM, device=args.device).repeat_interleave(10, 0)
    every = classes.repeat(5, 1)
    plot_samples(model, given={"y": every}, cmap="gray_r", path=args.out / "cvae.png")
    plot_samples(model, given={"y": every, "z": styles}, cmap="gray_r", path=args.out / "cvae_styles.png")
    for name, shown in (("vae", plain), ("cvae", model)):
        plot_latent(shown, test, labels=test["y"], path=args.out / f"{name}_latent.png")
    print(f"pictures in {args.out}")


def error_bar(values: Tensor) -> str:
    return f"{values.mean():.2f} ± {values.std() / len(values) ** 0.5:.2f}"


if __name__ == "__main__":
    main()
