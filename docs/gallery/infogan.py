"""InfoGAN on scikit-learn's digits: a code of ten values that the images must tell, found without a label.

    python docs/gallery/infogan.py --steps 4000 --device cpu --seed 0 --out out/infogan

Chen et al. (2016), https://arxiv.org/abs/1606.03657
"""

import matplotlib.pyplot as plt
import torch
from implicit import Network, arguments, batch, digits, save, show_images
from torch import nn
from tqdm import trange

from pixyz.distributions import Categorical, Deterministic, Normal
from pixyz.gan import R1, AdversarialNonSaturating
from pixyz.models import Model

DIM, CODES = 16, 10


def infogan() -> Model:
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=DIM) * Categorical("p(c)", probs=torch.full((CODES,), 1 / CODES))
    p = Deterministic("p(x|z,c)", x=Network(DIM + CODES, 128, 128, 64, last=nn.Tanh())) * prior
    d = Deterministic("d(t|x)", t=Network(64, 128, 128, 1))
    q = Categorical("q(c|x)", logits=Network(64, 128, CODES))
    game = AdversarialNonSaturating(p, d) - 0.1 * R1(p, d)
    information = q.log_prob().expectation(p).mean()  # and the entropy of the code, which is constant
    return Model(game - information, optimizer_params={"lr": 1e-3, "betas": (0.5, 0.9)}, ema=0.99, p=p, q=q)


def main() -> None:
    args = arguments(__doc__, "infogan", steps=4000)
    data = digits(args.device)
    model = infogan()
    model.loss.to(args.device)
    print(model.loss.unicode(), end="\n\n")
    for _ in trange(args.steps, desc="InfoGAN", unit="step"):
        model.train({"x": batch(data, 64)["x"]})

    every = torch.eye(CODES, device=args.device)
    with torch.no_grad(), model.averaged():
        p_x = model.p / model.p.get_submodule("p(c)")
        x = p_x.sample({"c": every.repeat_interleave(10, 0)})["x"]
        inferred = model.q.mode({"x": data["x"]}).argmax(-1)
    counts = torch.zeros(CODES, 10).index_put_((inferred.cpu(), data["y"].argmax(-1).cpu()), torch.tensor(1.0), accumulate=True)
    print(f"images whose digit is the commonest of their code: {counts.amax(1).sum() / counts.sum():.1%}")
    _, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
    show_images(axes[0], x, 10, "p(x|c), a code c in each row")
    axes[1].imshow(counts / counts.sum(1, keepdim=True).clamp(min=1), cmap="Blues", vmin=0, vmax=1)
    axes[1].set(xlabel="digit", ylabel="inferred code", xticks=range(10), yticks=range(CODES))
    axes[1].set_title("the digits of each code", fontsize=10)
    save(args.out / "infogan.png")


if __name__ == "__main__":
    main()
