"""One small training of each kind, for laws that hold for all of them.

Each is built from the same seed, trains on batches that follow from their numbers, and has layers and options whose state a resumed
training must have: dropout, running statistics, averages, schedulers, baselines.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info
from zoo import Decoder, Encoder, prior

from pixyz.distributions import Bernoulli, Categorical, Deterministic, MixtureModel, Normal
from pixyz.flows import ActNorm, Coupling, InverseTransformedDistribution
from pixyz.gan import GAN, AdversarialNonSaturating, AdversarialWassersteinDistance, GradientPenalty
from pixyz.losses import ELBO, IWAE, IterativeLoss, MovingAverage, Parameter, Score
from pixyz.models import ML, VAE, VI, CyclicalSchedule, LinearSchedule, Model, scaled_losses

Values = dict[str, Tensor]
BATCH, BATCHES = 4, 5
X, Z = 6, 2


@dataclass(frozen=True)
class Training:
    """A model, its data, and what `fit` is told."""

    build: Callable[..., Model]
    batch: Callable[[int], Values] = field(default_factory=lambda: binary)
    """The data of a number."""
    loader: Callable[[list[Values]], Any] | None = None
    """What gives the batches; a mapping of all data, which `fit` shuffles, if not given."""
    fit: Mapping[str, Any] = field(default_factory=dict)
    best: bool = False
    """Whether there is a validation loss, which keeps the best weights and may end the training."""
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    calls: int = 1
    """How many batches make one step."""
    by_hand: bool = False
    """Whether the loop is the user's."""

    def model(self) -> Model:
        """The model, the same each time."""
        torch.manual_seed(0)
        return self.build()

    def data(self, batches: int = BATCHES) -> dict[str, Any]:
        """The arguments of `fit` for an epoch of so many batches."""
        parts = [self.batch(n) for n in range(batches)]
        if self.loader is not None:
            return {"data": self.loader(parts)}
        return {"data": {v: torch.cat([part[v] for part in parts]) for v in parts[0]}, "batch_size": BATCH}

    def run(self, model: Model, folder: Path, *, epochs: int, callbacks: Any = (), batches: int = BATCHES, save_every: int = 1) -> None:
        """Trains from the last checkpoint in the folder, or from the beginning, and saves the model after every `save_every` steps."""
        saving = {"save": folder / "step_{step}.safetensors", "keep": 2}
        with self.around():
            if self.by_hand:
                self._run_by_hand(model, epochs * batches, batches, callbacks, save_every, saving)
                return
            more: dict[str, Any] = {"save_every": save_every, "resume": True, "progress": False, "callbacks": callbacks, **self.fit}
            if self.best:
                more |= {"validation": self.batch(BATCHES), "best": folder / "best.safetensors", "patience": 1000}
            model.fit(**self.data(batches), epochs=epochs, **saving, **more)

    def _run_by_hand(self, model: Model, steps: int, batches: int, callbacks: Any, save_every: int, saving: dict[str, Any]) -> None:
        with suppress(FileNotFoundError):
            model.load(saving["save"])
        while model.step_count < steps:
            model.train(self.batch(model.step_count % batches))
            for callback in callbacks:
                callback.on_train_batch_end()
            if model.step_count % save_every == 0:
                model.save(saving["save"], keep=saving["keep"], extra={"loop": "by hand"})


def _draws(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def binary(number: int) -> Values:
    return {"x": torch.rand(BATCH, X, generator=_draws(number)).round()}


def real(number: int) -> Values:
    return {"x": torch.randn(BATCH, X, generator=_draws(number))}


def large(number: int) -> Values:
    """Batches whose scaled gradients overflow now and then."""
    return {"x": (1e4 if number % 3 == 2 else 1.0) * real(number)["x"]}


def series(number: int) -> Values:
    """Series of up to 5 steps, the longest of which differs from batch to batch; nan fills up the others."""
    draws = _draws(number)
    longest = 2 + number % 4
    lengths = torch.randint(1, longest + 1, (BATCH,), generator=draws)
    lengths[0] = longest
    mask = torch.arange(longest) < lengths[:, None]
    x = torch.rand(BATCH, longest, X, generator=draws).round().masked_fill(~mask[..., None], torch.nan)
    return {"x": x, "m": mask, "z_prev": torch.zeros(BATCH, Z)}


class Listed(Dataset[Values]):
    """Batches by their numbers."""

    def __init__(self, batches: list[Values]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Values:
        return self.batches[number]


class Stream(IterableDataset[Values]):
    """Batches without a length, of which each worker gives its share, with noise that it draws."""

    def __init__(self, batches: list[Values]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        info = get_worker_info()
        start, step = (0, 1) if info is None else (info.id, info.num_workers)
        for part in self.batches[start::step]:
            yield {"x": torch.bernoulli(0.8 * part["x"] + 0.1)}


def _first(batch: list[Values]) -> Values:
    return batch[0]


def _net(*sizes: int, dropout: float = 0.1, norm: bool = False) -> nn.Sequential:
    inputs, hidden, outputs = sizes
    between = [nn.BatchNorm1d(hidden)] if norm else []
    return nn.Sequential(nn.Linear(inputs, hidden), *between, nn.Dropout(dropout), nn.Tanh(), nn.Linear(hidden, outputs))


def _vi(**options: Any) -> VI:
    return VI(Decoder() * prior(), Encoder(dropout=0.2), **{"optimizer_params": {"lr": 1e-2}, **options})


def _vae() -> VAE:
    decoder = Bernoulli("p(x|z)", logits=_net(Z, 8, X, norm=True))
    return VAE(Encoder(dropout=0.2), decoder, prior(), optimizer=optim.AdamW, ema=0.9, clip_grad_norm=0.5)


def _scheduled() -> Model:
    p, q = Decoder() * prior(), Encoder(dropout=0.2)
    loss = (-ELBO(p, q, kl="analytic", beta=Parameter("beta")) + Parameter("c") * q.log_prob().expectation(q)).mean()
    return Model(
        loss,
        -ELBO(p, q, kl="analytic").mean(),
        optimizer=optim.SGD,
        optimizer_params={"lr": 0.1, "momentum": 0.9, "nesterov": True},
        scheduler=lr_scheduler.OneCycleLR,
        scheduler_params={"max_lr": 0.1, "total_steps": 100_000},
        schedules={"beta": LinearSchedule(0.1, 1.0, steps=30), "c": CyclicalSchedule(0.0, 0.1, period=7)},
        clip_grad_value=0.1,
    )


def _ml() -> ML:
    p = MixtureModel(
        [Normal(f"p_{k}(x)", loc=nn.Parameter(torch.randn(X)), scale=1.0) for k in range(2)],
        Categorical("p(k)", logits=nn.Parameter(torch.zeros(2))),
    )
    return ML(p, optimizer=optim.RMSprop, scheduler=lr_scheduler.MultiStepLR, scheduler_params={"milestones": [3, 9]}, clip_grad_norm=1.0)


def _players() -> tuple[Any, Any]:
    generator = Deterministic("p(x|z)", x=_net(Z, 8, X, norm=True))
    net = _net(X, 8, 1)
    net[0] = nn.utils.parametrizations.spectral_norm(net[0])
    return (generator * prior()).marginalize_var("z"), Deterministic("d(t|x)", t=net)


def _gan(**options: Any) -> GAN:
    return GAN(
        *_players(),
        optimizer_params={"lr": 1e-2, "betas": (0.5, 0.9)},
        d_optimizer=optim.RMSprop,
        d_optimizer_params={"lr": 1e-2, "momentum": 0.5},
        scheduler=lr_scheduler.ExponentialLR,
        scheduler_params={"gamma": 0.99},
        d_scheduler=lr_scheduler.StepLR,
        d_scheduler_params={"step_size": 3, "gamma": 0.9},
        ema=0.9,
        **options,
    )


def _with_penalties() -> GAN:
    return GAN(
        *_players(),
        loss=lambda p, d: AdversarialWassersteinDistance(p, d) - 10 * GradientPenalty(p, d),
        optimizer_params={"lr": 1e-3, "betas": (0.0, 0.9)},
        n_critic=3,
    )


def _vae_gan() -> Model:
    decoder = Normal("p(x|z)", loc=_net(Z, 8, X), scale=0.5)
    joint = decoder * prior()
    game = AdversarialNonSaturating(joint.marginalize_var("z"), Deterministic("d(t|x)", t=_net(X, 8, 1)))
    return Model(-ELBO(joint, Encoder()).mean() + Parameter("w") * game, schedules={"w": LinearSchedule(0.0, 1.0, 20)}, ema=0.9)


class _Step(Normal):
    """q(z|x,z_prev)"""

    def __init__(self) -> None:
        super().__init__(var=["z"], cond_var=["x", "z_prev"], name="q")
        self.net = _net(X + Z, 8, Z)

    def forward(self, x: Tensor, z_prev: Tensor) -> dict[str, Any]:
        return {"loc": self.net(torch.cat([x, z_prev], -1)), "scale": 0.5}


def _ragged() -> Model:
    p = Decoder() * Normal("p(z|z_prev)", loc=nn.Linear(Z, Z), scale=0.5)
    loss = IterativeLoss(ELBO(p, _Step(), kl="analytic"), series_var=["x"], update_value={"z": "z_prev"}, mask="m")
    return Model(-loss.mean(), optimizer=optim.NAdam, optimizer_params={"lr": 1e-2})


def _binary_posterior() -> tuple[Any, Any]:
    p = Bernoulli("p(x|b)", logits=nn.Linear(3, X)) * Bernoulli("p(b)", probs=0.5, dim=3)
    return p, Bernoulli("q(b|x)", logits=_net(X, 8, 3))


def _iwae() -> Model:
    p, q = _binary_posterior()
    baseline = Score(baseline=nn.Sequential(nn.Linear(X, 4), nn.Dropout(0.1), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)))
    return Model(-IWAE(p, q, num_samples=3, estimator=baseline).mean(), optimizer=optim.Adagrad)


def _moving_baseline() -> Model:
    p, q = _binary_posterior()
    return Model(-ELBO(p, q, estimator=Score(baseline=MovingAverage())).mean(), optimizer_params={"lr": 1e-2, "amsgrad": True})


def _flow() -> ML:
    noise = Normal(var=["z"], loc=0.0, scale=1.0, features_shape=[X])
    p = InverseTransformedDistribution(noise, ActNorm(X) >> Coupling(X, hidden=[4]) >> ActNorm(X) >> Coupling(X, hidden=[4]), "p(x)")
    return ML(p, optimizer=optim.Adamax, optimizer_params={"lr": 1e-2}, ema=0.5)


def _wide() -> ML:
    return ML(Normal("p(x)", loc=nn.Parameter(torch.zeros(X)), scale=1.0), clip_grad_norm=1.0)


TRAININGS = {
    "VI": Training(partial(_vi, scheduler=lr_scheduler.CosineAnnealingLR, scheduler_params={"T_max": 20})),
    "VAE": Training(_vae, best=True),
    "schedules": Training(_scheduled),
    "ML": Training(_ml, real, loader=lambda batches: DataLoader(Listed(batches), batch_size=1, shuffle=True, collate_fn=_first)),
    "GAN": Training(_gan, real),
    "GAN with a penalty": Training(_with_penalties, real),
    "GAN, both at once, accumulated": Training(partial(_gan, at_once=True, accumulate=2), real, calls=2),
    "VAE-GAN": Training(_vae_gan, real),
    "ragged series": Training(_ragged, series, loader=lambda batches: batches),
    "IWAE, scored": Training(_iwae),
    "ELBO, moving baseline": Training(_moving_baseline),
    "accumulated": Training(partial(_vi, accumulate=3, ema=0.9, clip_grad_norm=0.1), calls=3),
    "compiled": Training(partial(_vi, compile={"backend": "eager"})),
    "a stream of two workers": Training(
        _vi, loader=lambda batches: DataLoader(Stream(batches), batch_size=None, num_workers=2, multiprocessing_context="fork")
    ),
    "scaled losses": Training(_wide, large, around=partial(scaled_losses, init_scale=2.0**116, growth_interval=3)),
    "a flow": Training(_flow, real),
    "deferred checks": Training(
        partial(_vi, validate="deferred", ema=0.9, scheduler=lr_scheduler.ConstantLR, scheduler_params={"total_iters": 6})
    ),
    "a loop by hand": Training(partial(_vi, clip_grad_norm=0.5), by_hand=True),
}
