"""VAE-GAN on scikit-learn's digits: the likelihood is one of what the discriminator sees in an image, not of its pixels.

    python docs/gallery/vae_gan.py --steps 4000 --device cpu --seed 0 --out out/vae_gan

Larsen et al. (2016), https://arxiv.org/abs/1512.09300
"""

import matplotlib.pyplot as plt
import torch
from implicit import Heads, Network, arguments, batch, digits, save, show_images
from torch import nn
from tqdm import trange

from pixyz.distributions import Deterministic, Normal
from pixyz.gan import AdversarialNonSaturating
from pixyz.losses import KullbackLeibler
from pixyz.models import Model

DIM = 8


def vae_gan() -> Model:
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=DIM)
    p = Deterministic("p(x|z)", x=Network(DIM, 128, 128, 64, last=nn.Tanh()))
    q = Normal("q(z|x)", Heads(64, 128, 128, 2 * DIM))
    layer = Network(64, 128, 64, last=nn.LeakyReLU(0.2))
    d = Deterministic("d(t|x)", t=nn.Sequential(layer, Network(64, 64, 1)))
    # Plain functions register no weights: the layer is d's, and only d trains it.
    h = Deterministic("h(h|x)", h=lambda x: layer(x))
    p_h = Normal("p(h|y)", loc=lambda y: layer(y), scale=0.5) * p.replace_var(x="y")
    likelihood = p_h.marginalize_var("y").log_prob().expectation(q * h)
    game = AdversarialNonSaturating((p * prior).marginalize_var("z"), d)
    again = (p.replace_var(x="y") * q).marginalize_var("z")  # reconstructions y of x are fakes as well
    same = Deterministic("p_data(y|x)", y=lambda x: x)
    game_again = AdversarialNonSaturating(again, d.replace_var(x="y"), same)
    loss = (KullbackLeibler(q, prior) - likelihood).mean() + 2.5 * (game + game_again)
    return Model(
        loss,
        optimizer_params={"lr": 1e-3, "betas": (0.5, 0.9)},
        ema=0.99,
        p=p * prior,
        q=q,
    )


def main() -> None:
    args = arguments(__doc__, "vae_gan", steps=4000)
    data = digits(args.device)
    model = vae_gan()
    model.loss.to(args.device)
    print(model, end="\n\n")
    for _ in trange(args.steps, desc="VAE-GAN", unit="step"):
        model.train({"x": batch(data, 64)["x"]})

    shown = {"x": data["x"][:50]}
    with torch.no_grad(), model.averaged():
        again = model.p.get_submodule("p(x|z)").sample({"z": model.q.mean(shown)})["x"]
        new = model.sample(50)["x"]
    _, axes = plt.subplots(1, 3, figsize=(10, 2.1), layout="constrained")
    show_images(axes[0], shown["x"], 10, "data x")
    show_images(axes[1], again, 10, "p(x|z) of the mean of q(z|x)")
    show_images(axes[2], new, 10, "p(x)")
    save(args.out / "vae_gan.png")


if __name__ == "__main__":
    main()
