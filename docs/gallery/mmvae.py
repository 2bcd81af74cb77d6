"""A multimodal autoencoder with a mixture of experts (MMVAE): an image and its label, either of which makes the other.

    python docs/gallery/mmvae.py --epochs 100 --device cpu --seed 0 --out out/mmvae

Shi et al. (2019), https://arxiv.org/abs/1911.03393
"""

import torch
from image_and_label import Heads, arguments, decoder, digits, report
from tqdm import trange

from pixyz.distributions import Bernoulli, Categorical, MixtureOfNormal, Normal
from pixyz.losses import IWAE
from pixyz.models import Model

DIM = 16


def main() -> None:
    args = arguments(__doc__, "mmvae", epochs=100)
    torch.manual_seed(args.seed)
    p_x, p_y = Bernoulli("p(x|z)", logits=decoder(DIM, 64)), Categorical("p(y|z)", logits=decoder(DIM, 10))
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=DIM)
    q = MixtureOfNormal([Normal("q(z|x)", Heads(64, DIM)), Normal("q(z|y)", Heads(10, DIM))])
    q_x, q_y = q.given_only("x"), q.given_only("y")

    p = p_x * p_y * prior
    # The sum over the experts is exact: both draw 10 times z, and each z is scored by the whole mixture.
    loss = -IWAE(p, q, num_samples=10).mean()
    print(q.unicode(), loss.unicode(), sep="\n", end="\n\n")
    model = Model(loss, optimizer=torch.optim.AdamW, optimizer_params={"lr": 2e-3, "weight_decay": 1e-2})
    model.loss.to(args.device)

    train, test = digits(args.device)
    for _ in (bar := trange(args.epochs, desc="training", unit="epoch")):
        for batch in torch.randperm(1500).split(50):
            value = model.train({name: t[batch] for name, t in train.items()})
        bar.set_postfix(loss=f"{value:.2f}")
    model.loss.eval()
    report(p, q, q_x, q_y, train, test, args.out / "mmvae.png")


if __name__ == "__main__":
    main()
