"""Small models whose steps are graphed, each with a twin whose steps are not."""

import torch
from recorded_graphs import Recorded
from torch import nn, optim

from pixyz.core import Parameter
from pixyz.cuda_utils import graphed
from pixyz.distributions import Bernoulli, Deterministic, Normal
from pixyz.gan import AdversarialNonSaturating, AdversarialWassersteinDistance, GradientPenalty
from pixyz.losses import KullbackLeibler
from pixyz.models import VAE, LinearSchedule, Model


def prior():
    return Normal("p(z)", loc=torch.zeros(2), scale=torch.ones(2))


def autoencoder(make=VAE, *, validate="deferred", **options):
    """Batch normalisation and dropout stand in the encoder."""
    torch.manual_seed(0)
    hidden = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 2))
    q = Normal("q(z|x)", loc=hidden, scale=nn.Sequential(nn.Linear(6, 2), nn.Softplus()))
    p = Bernoulli("p(x|z)", logits=nn.Linear(2, 6))
    return make(q, p, prior(), validate=validate, **options)


def weighted(**options):
    """A bound whose divergence has a weight that is scheduled."""

    def make(q, p, prior, **options):
        loss = (-p.log_prob().expectation(q) + Parameter("beta") * KullbackLeibler(q, prior)).mean()
        return Model(loss, schedules={"beta": LinearSchedule(0.0, 1.0, steps=5)}, **options)

    return autoencoder(make, **options)


def network(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, outputs))


def adversaries(*, loss=AdversarialNonSaturating, penalty=0.0, norm=False, **options):
    torch.manual_seed(0)
    g = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 6)) if norm else network(2, 6)
    p = (Deterministic("p(x|z)", x=g) * prior()).marginalize_var("z")
    d = Deterministic("d(t|x)", t=network(6, 1))
    game = loss(p, d)
    if penalty:
        game = game - penalty * GradientPenalty(p, d).mean()
    return Model(game, validate="deferred", **options)


def batches(count=8, size=8):
    generator = torch.Generator().manual_seed(1)
    return [{"x": torch.randint(2, (size, 6), generator=generator).float()} for _ in range(count)]


SGD = {"optimizer": optim.SGD, "optimizer_params": {"lr": 0.1}}
MOMENTUM = {"optimizer": optim.SGD, "optimizer_params": {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "nesterov": False}}
ADAM = {"optimizer": optim.Adam, "optimizer_params": {"lr": 0.02}}
DECAY = {"scheduler": optim.lr_scheduler.CosineAnnealingLR, "scheduler_params": {"T_max": 6}}

# How a model is built, and how many graphs its step has.
MODELS = {
    "Adam": (lambda: autoencoder(**ADAM), 1),
    "AdamW, clipped by norm": (lambda: autoencoder(optimizer=optim.AdamW, clip_grad_norm=0.5), 1),
    "Adagrad, clipped by value": (lambda: autoencoder(optimizer=optim.Adagrad, clip_grad_value=0.01), 1),
    "SGD": (lambda: autoencoder(**SGD), 1),
    "momentum with dampening": (lambda: autoencoder(**MOMENTUM), 1),
    "average": (lambda: autoencoder(**ADAM, ema=0.9), 1),
    "accumulated": (lambda: autoencoder(**ADAM, accumulate=3, ema=0.9, clip_grad_norm=1.0), 3),
    "two calls a step": (lambda: autoencoder(**MOMENTUM, accumulate=2), 2),
    "schedule": (lambda: weighted(**ADAM), 1),
    "scheduler": (lambda: autoencoder(**MOMENTUM, **DECAY), 1),
    "unchecked": (lambda: autoencoder(**ADAM, validate=False, ema=0.5), 1),
    "game": (lambda: adversaries(**ADAM), 1),
    "game with batch normalisation": (lambda: adversaries(**SGD, norm=True, ema=0.5), 1),
    "game at once": (lambda: adversaries(**ADAM, at_once=True), 1),
    "game at once, accumulated": (lambda: adversaries(**MOMENTUM, at_once=True, accumulate=2), 2),
    "critic of three steps": (
        lambda: adversaries(loss=AdversarialWassersteinDistance, penalty=10.0, n_critic=3, **ADAM, ema=0.9),
        2,
    ),
    "compiled game": (lambda: adversaries(**SGD, compile={"backend": "eager"}), 1),
}


def state_of(model):
    """All that a model goes on from, and torch's random state."""
    return {
        "weights": {name: t.clone() for name, t in model.loss.state_dict().items()},
        "optimizers": [copy_of(o.state_dict()) for o in model.optimizers],
        "schedulers": [s.state_dict() for s in model.schedulers],
        "average": None if model.ema is None else copy_of(model.ema.state_dict()),
        "steps": model.step_count,
        "between": model.is_between_steps,
        "random": torch.get_rng_state(),
    }


def copy_of(tree):
    """A tree of tensors, copied, without what says how a step is run."""
    if isinstance(tree, torch.Tensor):
        return tree.clone()
    if isinstance(tree, dict):
        return {k: copy_of(v) for k, v in tree.items() if k not in ("capturable", "foreach", "fused", "differentiable")}
    return [copy_of(v) for v in tree] if isinstance(tree, (list, tuple)) else tree


def need_same(one, other):
    """An error unless two states are the same, bit for bit."""
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def graphs_of(model, example=None, **options):
    """The model, graphed by recording operations on the CPU, and the graphs. Unless asked to, nobody looks for obstacles first."""
    graphs = Recorded()
    options = {"inspect": False, **options}
    assert graphed(model, batches(1)[0] if example is None else example, graphs=graphs, **options) is model
    return model, graphs


def train(model, data, seed=3):
    """The losses of steps with these data."""
    torch.manual_seed(seed)
    return torch.stack([model.train(values) for values in data])
