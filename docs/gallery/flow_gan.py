"""Flow-GAN on eight normal distributions: a flow, trained by its likelihood, against a discriminator, and by both at once.

    python docs/gallery/flow_gan.py --steps 3000 --device cpu --seed 0 --out out/flow_gan

Grover et al. (2018), https://arxiv.org/abs/1705.08868
"""

import matplotlib.pyplot as plt
import torch
from implicit import Network, arguments, ring, save, show_points
from tqdm import trange

from pixyz.core import Distribution, Loss
from pixyz.distributions import Deterministic
from pixyz.flows import RealNVP
from pixyz.gan import R1, AdversarialNonSaturating
from pixyz.losses import NLL
from pixyz.models import Model


def losses(p: Distribution, d: Distribution) -> dict[str, Loss]:
    likelihood = NLL(p).mean()
    game = AdversarialNonSaturating(p, d) - 0.1 * R1(p, d)
    return {"likelihood": likelihood, "adversarial": game, "both": game + likelihood}


def main() -> None:
    args = arguments(__doc__, "flow_gan", steps=3000)
    _, axes = plt.subplots(1, 4, figsize=(11, 3.1), layout="constrained")
    show_points(axes[0], ring(2000), "data", 3)
    test = ring(5000).to(args.device)
    for axis, name in zip(axes[1:], ("likelihood", "adversarial", "both")):
        torch.manual_seed(args.seed)
        p = RealNVP("p(x)", features=2, transforms=6, hidden=(64, 64))
        loss = losses(p, Deterministic("d(t|x)", t=Network(2, 128, 128, 1)))[name]
        model = Model(loss.to(args.device), optimizer_params={"lr": 1e-3, "betas": (0.5, 0.9)}, ema=0.98)
        for _ in trange(args.steps, desc=name, unit="step"):
            model.train({"x": ring(128).to(args.device)})
        with torch.no_grad(), model.averaged():
            nats = -p.log_likelihood({"x": test}).mean().item()
            x = p.sample(batch_size=2000)["x"]
        print(f"{loss.unicode()}\n  {nats:.4g} nats, held out\n")
        show_points(axis, x, f"{name}: {nats:.3g} nats", 3)
    save(args.out / "flow_gan.png")


if __name__ == "__main__":
    main()
