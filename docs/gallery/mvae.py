"""A multimodal autoencoder with a product of experts (MVAE): an image and its label, either of which tells of the other.

    python docs/gallery/mvae.py --epochs 100 --device cpu --seed 0 --out out/mvae

Wu and Goodman (2018), https://arxiv.org/abs/1802.05335
"""

import torch
from image_and_label import Heads, arguments, decoder, digits, report
from tqdm import trange

from pixyz.distributions import Bernoulli, Categorical, Normal, ProductOfNormal
from pixyz.losses import ELBO, Parameter
from pixyz.models import Model

DIM = 16


def main() -> None:
    args = arguments(__doc__, "mvae", epochs=100)
    torch.manual_seed(args.seed)
    p_x, p_y = Bernoulli("p(x|z)", logits=decoder(DIM, 64)), Categorical("p(y|z)", logits=decoder(DIM, 10))
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=DIM)
    q = ProductOfNormal([Normal("q(z|x)", Heads(64, DIM)), Normal("q(z|y)", Heads(10, DIM))])
    q_x, q_y = q.given_only("x"), q.given_only("y")

    p = p_x * p_y * prior
    # The bound on both, and on each by itself: so that the experts learn to do without one another.
    every = {"kl": "analytic", "beta": Parameter("beta")}
    loss = -(ELBO(p, q, **every) + ELBO(p_x * prior, q_x, **every) + ELBO(p_y * prior, q_y, **every)).mean()
    print(q.unicode(), q_x.unicode(), q_y.unicode(), loss.unicode(), sep="\n", end="\n\n")
    model = Model(loss, optimizer=torch.optim.AdamW, optimizer_params={"lr": 2e-3, "weight_decay": 1e-2})
    model.loss.to(args.device)

    train, test = digits(args.device)
    for epoch in (bar := trange(args.epochs, desc="training", unit="epoch")):
        beta = min(1.0, 3 * (epoch + 1) / args.epochs)  # rises over the first third, as in the paper
        for batch in torch.randperm(1500).split(50):
            value = model.train({"beta": beta, **{name: t[batch] for name, t in train.items()}})
        bar.set_postfix(loss=f"{value:.2f}")
    model.loss.eval()
    report(p, q, q_x, q_y, train, test, args.out / "mvae.png")


if __name__ == "__main__":
    main()
