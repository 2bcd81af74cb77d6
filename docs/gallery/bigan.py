"""Adversarially learned inference (ALI, BiGAN) on scikit-learn's digits: a discriminator of pairs trains a generator and an encoder.

    python docs/gallery/bigan.py --steps 6000 --device cpu --seed 0 --out out/bigan

Dumoulin et al. (2017), https://arxiv.org/abs/1606.00704; Donahue et al. (2017), https://arxiv.org/abs/1605.09782
"""

import matplotlib.pyplot as plt
import torch
from implicit import Heads, Network, arguments, batch, digits, save, show_images
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from tqdm import trange

from pixyz.distributions import Deterministic, Normal
from pixyz.gan import R1, AdversarialNonSaturating
from pixyz.models import Model

DIM = 8


def bigan() -> Model:
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=DIM)
    p = Deterministic("p(x|z)", x=Network(DIM, 128, 128, 64, last=nn.Tanh())) * prior
    q = Normal("q(z|x)", Heads(64, 128, 128, 2 * DIM))
    d = Deterministic("d(t|x,z)", t=Network(64 + DIM, 256, 256, 1))
    game = AdversarialNonSaturating(p, d, real=q) - 0.05 * R1(p, d, real=q)
    return Model(game, optimizer_params={"lr": 1e-3, "betas": (0.5, 0.9)}, ema=0.99, p=p, q=q)


def main() -> None:
    args = arguments(__doc__, "bigan", steps=6000)
    data = digits(args.device)
    model = bigan()
    model.loss.to(args.device)
    print(model, end="\n\n")
    for _ in trange(args.steps, desc="BiGAN", unit="step"):
        model.train({"x": batch(data, 64)["x"]})

    shown = data["x"][:50]
    with torch.no_grad(), model.averaged():
        new = model.sample(50)["x"]
        z = model.q.mean({"x": data["x"]})
        again = model.p.get_submodule("p(x|z)").sample({"z": z[:50]})["x"]
    labels = data["y"].argmax(-1).cpu()
    near = KNeighborsClassifier(5).fit(z[:1500].cpu(), labels[:1500]).score(z[1500:].cpu(), labels[1500:])
    print(f"digits told from their five neighbours in z, of the last 297: {near:.1%}")
    _, axes = plt.subplots(1, 3, figsize=(10, 2.1), layout="constrained")
    show_images(axes[0], shown, 10, "data x")
    show_images(axes[1], again, 10, "p(x|z) of the mean of q(z|x)")
    show_images(axes[2], new, 10, "p(x)")
    save(args.out / "bigan.png")


if __name__ == "__main__":
    main()
