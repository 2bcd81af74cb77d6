"""FactorVAE: a spot on 8x8 pixels, whose two coordinates become latent dims of their own under a penalty on the total correlation.

    python docs/gallery/factor_vae.py --steps 4000 --device cpu --seed 0 --out out/factor_vae

Kim and Mnih (2018), https://arxiv.org/abs/1802.05983
"""

import matplotlib.pyplot as plt
import torch
from implicit import Heads, Network, arguments, save
from torch import Tensor
from tqdm import trange

from pixyz.distributions import Bernoulli, Deterministic, Normal
from pixyz.gan import AdversarialKullbackLeibler, ProductOfMarginals
from pixyz.losses import ELBO
from pixyz.models import Model

DIM = 2


def factor_vae(gamma: float) -> Model:
    p = Bernoulli("p(x|z)", logits=Network(DIM, 128, 128, 64)) * Normal("p(z)", loc=0.0, scale=1.0, dim=DIM)
    q = Normal("q(z|x)", Heads(64, 128, 128, 2 * DIM))
    d = Deterministic("d(t|z)", t=Network(DIM, 128, 128, 1))
    loss = -ELBO(p, q, kl="analytic").mean()
    if gamma:  # the weight of the total correlation
        loss = loss + gamma * AdversarialKullbackLeibler(q, d, real=ProductOfMarginals(q))
    return Model(loss, optimizer_params={"lr": 1e-3, "betas": (0.5, 0.9)}, p=p, q=q)


def spots(place: Tensor) -> Tensor:
    """A disc of radius 1.6 at each place, `(N, 64)`."""
    pixels = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
    return (torch.cdist(place, pixels) < 1.6).float()


def main() -> None:
    args = arguments(__doc__, "factor_vae", steps=4000)
    line = torch.linspace(1, 6, 24)
    places = torch.cartesian_prod(line, line)
    figure, axes = plt.subplots(2, DIM, figsize=(4.6, 4.9), layout="constrained")
    for row, gamma in zip(axes, (0.0, 20.0)):
        torch.manual_seed(args.seed)
        model = factor_vae(gamma)
        model.loss.to(args.device)
        print(model, end="\n\n")
        for _ in trange(args.steps, desc=f"gamma = {gamma:g}", unit="step"):
            model.train({"x": spots(1 + 5 * torch.rand(128, 2)).to(args.device)})
        x = spots(places).to(args.device)
        with torch.no_grad():
            z, variance = model.q.mean({"x": x}).cpu(), model.q.variance({"x": x}).mean(0).cpu()
        known = (z.var(0) / (z.var(0) + variance)).argsort(descending=True)
        for axis, j in zip(row, known):
            axis.imshow(z[:, j].reshape(24, 24), cmap="coolwarm")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"γ = {gamma:g}")
        both = torch.corrcoef(torch.cat([z[:, known[:2]], places], 1).T).abs()[:2, 2:]
        print(f"gamma = {gamma:g}: the two dims that tell most, and how far each correlates with height and width:")
        print("  " + "; ".join(f"{down:.2f}, {across:.2f}" for down, across in both.tolist()))
    figure.suptitle("the mean of each latent dim, by the place of the spot", fontsize=10)
    save(args.out / "factor_vae.png")


if __name__ == "__main__":
    main()
