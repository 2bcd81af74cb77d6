"""Rows of sequences, marginals and posteriors: sums over steps, and exact sums and integrals."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixyz.distributions import Affine, Bernoulli, Categorical, Deterministic, Distribution, MultivariateNormal, Normal
from pixyz.losses import ELBO, IWAE, Entropy, Expectation, IterativeLoss, KullbackLeibler, LogProb

from .row import BATCH, Row, Stacked, differentiated, f64, free, wave

STEPS = 4
SERIES, START = wave(BATCH, STEPS, 3), wave(BATCH, 2, shift=2.0)
MASK = f64([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
HAND_ON = {"z": "z_prev"}


class Encoder(Normal):
    """q(z|x,z_prev)"""

    def __init__(self) -> None:
        super().__init__(var=["z"], cond_var=["x", "z_prev"], name="q")
        self.layer = nn.Linear(5, 4)

    def forward(self, x: Tensor, z_prev: Tensor) -> dict[str, Tensor]:
        loc, scale = self.layer(torch.cat([x, z_prev], -1)).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale) + 0.1}


class Memory(Deterministic):
    """f(h|z,h_prev), a recurrent network."""

    def __init__(self) -> None:
        super().__init__(var=["h"], cond_var=["z", "h_prev"], name="f")
        self.cell = nn.GRUCell(2, 3)

    def forward(self, z: Tensor, h_prev: Tensor) -> dict[str, Tensor]:
        return {"h": self.cell(z, h_prev)}


class Window(Deterministic):
    """Two steps of a series at once."""

    def __init__(self) -> None:
        super().__init__(var=["w"], cond_var=["x", "t"], name="slice")

    def forward(self, x: Tensor, t: Tensor) -> dict[str, Tensor]:
        number = int(t.flatten()[0])
        return {"w": x[:, number : number + 2].flatten(1)}


def emission() -> Normal:
    return Normal("p(x|z)", loc=nn.Linear(2, 3), scale=free(0.5))


def transition() -> Normal:
    return Normal("p(z|z_prev)", loc=nn.Linear(2, 2), scale=free(0.7))


def state_space(make: Callable[..., object], masked: bool = False, **options: object) -> Row:
    step = make(emission() * transition(), Encoder(), **options)
    loss = IterativeLoss(step, series_var="x", update_value=HAND_ON, mask="m" if masked else None)
    x = torch.where(MASK.unsqueeze(-1) > 0, SERIES, torch.nan) if masked else differentiated(SERIES)
    return Row(loss, {"x": x, "z_prev": differentiated(START), **({"m": MASK} if masked else {})})


def recurrent() -> Row:
    h = Memory()
    q = Normal("q(z|x,h_prev)", loc=Stacked(6, 2), scale=free(0.4))
    p = Normal("p(x|z,h_prev)", loc=Stacked(5, 3), scale=free(0.6)) * Normal("p(z|h_prev)", loc=nn.Linear(3, 2), scale=1.0)
    loss = IterativeLoss(ELBO(p, q * h, kl="analytic"), series_var="x", update_value={"h": "h_prev"})
    return Row(loss, {"x": SERIES, "h_prev": torch.zeros(BATCH, 3)})


def finite(estimator: str, num_samples: int = 1, masked: bool = False) -> Row:
    """A hidden Markov chain, its states drawn or summed."""
    q = Categorical("q(z|z_prev)", logits=nn.Linear(3, 3))
    cost = Normal("p(x|z)", loc=nn.Linear(3, 3), scale=free(0.6)).log_prob()
    step = Expectation(q, cost, estimator=estimator, num_samples=num_samples)
    loss = IterativeLoss(step, series_var="x", update_value=HAND_ON, mask="m" if masked else None)
    return Row(loss, {"x": SERIES, "z_prev": torch.eye(3), **({"m": MASK} if masked else {})})


def autoregression() -> Row:
    p = Normal("p(x|x_prev)", loc=nn.Linear(3, 3), scale=free(0.5))
    return Row(IterativeLoss(LogProb(p), series_var="x", update_value={"x": "x_prev"}), {"x": SERIES, "x_prev": wave(BATCH, 3, shift=1.0)})


def numbered() -> Row:
    p = Normal("p(x|t)", loc=lambda t: 0.1 * t.double().reshape(-1, 1).expand(-1, 3), scale=free(0.5))
    return Row(IterativeLoss(LogProb(p), series_var="x", timestep_var="t", max_iter=3), {"x": SERIES})


def sliced() -> Row:
    p = Normal("p(w)", loc=nn.Parameter(wave(6)), scale=free(0.5))
    return Row(IterativeLoss(LogProb(p), series_var="x", slice_step=Window(), timestep_var="t", max_iter=3), {"x": SERIES})


def from_a_drawn_start() -> Row:
    loss = IterativeLoss(ELBO(emission() * transition(), Encoder(), num_samples=2), series_var="x", update_value=HAND_ON)
    start = Normal("q(z_prev|y)", loc=nn.Linear(1, 2), scale=0.5)
    return Row(Expectation(start, loss), {"x": SERIES, "y": wave(BATCH, 1)})


def chain(prior: Distribution, move: Distribution, see: Distribution, steps: int) -> Distribution:
    """p(z_1)p(x_1|z_1) Π p(z_t|z_{t-1})p(x_t|z_t), where the transition is p(z|h)."""
    p = prior * see.replace_var(z="z_1", x="x_1")
    for t in range(2, steps + 1):
        p = p * move.replace_var(z=f"z_{t}", h=f"z_{t - 1}") * see.replace_var(z=f"z_{t}", x=f"x_{t}")
    return p


def states(steps: int) -> list[str]:
    return [f"z_{t}" for t in range(1, steps + 1)]


def observations(steps: int, features: int = 2) -> dict[str, Tensor]:
    x = 1.5 * wave(BATCH, steps, features)
    return {f"x_{t + 1}": differentiated(x[:, t]) for t in range(steps)}


def hidden_markov(steps: int) -> Distribution:
    prior = Categorical("p(z_1)", logits=nn.Parameter(wave(3)))
    move = Categorical("p(z|h)", logits=nn.Linear(3, 3, bias=False))
    return chain(prior, move, Normal("p(x|z)", loc=nn.Linear(3, 2), scale=free(0.7)), steps)


def linear_gaussian(steps: int) -> Distribution:
    prior = MultivariateNormal("p(z_1)", loc=free([1.0, -1.0]), covariance_matrix=free([[1.0, 0.2], [0.2, 2.0]]))
    move = MultivariateNormal("p(z|h)", loc=nn.Linear(2, 2), covariance_matrix=free([[0.4, 0.1], [0.1, 0.3]]))
    return chain(prior, move, Normal("p(x|z)", loc=nn.Linear(2, 2), scale=free([0.5, 0.6])), steps)


def likelihood(make: Callable[[int], Distribution], steps: int) -> Row:
    return Row(make(steps).marginalize_var(states(steps)).log_prob(), observations(steps))


def gap(make: Callable[[int], Distribution]) -> Row:
    values = observations(4)
    del values["x_3"]
    return Row(make(4).marginalize_var([*states(4), "x_3"]).log_prob(), values)


def smoothed(make: Callable[[int], Distribution], var: str, at: Tensor) -> Row:
    """The posterior of one state, at a value of it."""
    return Row(make(4).marginalize_var(states(4)).posterior(var).log_prob(), {**observations(4), var: at})


def uncertain(make: Callable[[int], Distribution], var: str) -> Row:
    """The entropy of the posterior of one state."""
    return Row(Entropy(make(4).marginalize_var(states(4)).posterior(var)), observations(4))


def paths(make: Callable[[int], Distribution]) -> Row:
    """A function of paths that are drawn from the posterior, and their density."""
    q = make(3).posterior(states(3))
    return Row(Expectation(q, 0.1 * LogProb(q), num_samples=2, estimator="sample"), observations(3))


def exact_bound(make: Callable[[int], Distribution]) -> Row:
    """The ELBO of the exact posterior is the likelihood for every draw."""
    p = make(3)
    return Row(ELBO(p, p.posterior(states(3)), num_samples=2), observations(3))


def factors() -> Distribution:
    """p(x|z)p(z) of factor analysis."""
    return Normal("p(x|z)", loc=nn.Linear(2, 3), scale=free([0.5, 0.6, 0.7])) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)


def clusters() -> Distribution:
    return Normal("p(x|k)", loc=nn.Linear(3, 2), scale=free(0.6)) * Categorical("p(k)", logits=nn.Parameter(wave(3)))


def mixture_of_factors() -> Distribution:
    z = Normal("p(z|k)", loc=nn.Linear(2, 2), scale=free([0.8, 1.2]))
    return Normal("p(x|z)", loc=nn.Linear(2, 3), scale=0.5) * z * Categorical("p(k)", logits=free([0.3, -0.4]))


def tree() -> Distribution:
    leaves = Normal("p(d|c)", loc=nn.Linear(3, 1), scale=0.3) * Normal("p(e|b)", loc="b", scale=free(0.4))
    inner = Normal("p(c|a)", loc=nn.Linear(2, 3), scale=f64([0.5, 1.0, 1.5])) * Normal("p(b|a)", loc=nn.Linear(2, 2), scale=0.7)
    return leaves * inner * Normal("p(a)", loc=free([0.5, 0.2]), scale=1.2)


def given_affine() -> Row:
    p = Normal("p(x|z,u)", loc=Affine(3, z=2, u=1), scale=free(0.5)) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    return Row(p.marginalize_var("z").log_prob(), {"x": wave(BATCH, 3), "u": wave(BATCH, 1)})


def noisy_or() -> Row:
    bits = Bernoulli("p(y|b,c)", logits=Stacked(2, 1)) * Bernoulli("p(b)", probs=free([0.3])) * Bernoulli("p(c)", probs=free([0.6]))
    return Row(bits.marginalize_var(["b", "c"]).log_prob(), {"y": f64([[0.0], [1.0], [1.0]])})


def posterior_of(make: Callable[[], Distribution], var: str, values: dict[str, Tensor], at: Tensor) -> Row:
    q = make().posterior(var)
    return Row(q.log_prob(), {**values, var: at})


def divergence_from_the_posterior() -> Row:
    q = Normal("q(z|x)", loc=nn.Linear(3, 2), scale=free([0.8, 0.6]))
    return Row(KullbackLeibler(q, factors().posterior("z"), num_samples=2), {"x": wave(BATCH, 3)})


SEQUENCES: dict[str, Callable[[], Row]] = {
    "ELBO of a state space": partial(state_space, ELBO),
    "ELBO of a state space, analytic, 2 draws": partial(state_space, ELBO, kl="analytic", num_samples=2),
    "ELBO of a state space, scored": partial(state_space, ELBO, estimator="score", num_samples=2),
    "ELBO of a state space, a mask": partial(state_space, ELBO, True, kl="analytic"),
    "IWAE of a state space": partial(state_space, IWAE, num_samples=3),
    "a recurrent network": recurrent,
    "a finite chain, summed": partial(finite, "enumerate"),
    "a finite chain, summed, a mask": partial(finite, "enumerate", masked=True),
    "a finite chain, scored": partial(finite, "score", 2),
    "a finite chain, relaxed": partial(finite, "relaxed"),
    "a finite chain, straight-through": partial(finite, "straight_through"),
    "a series that is handed on": autoregression,
    "the number of the step": numbered,
    "slices of a series": sliced,
    "a start that is drawn": from_a_drawn_start,
}
MARGINALS: dict[str, Callable[[], Row]] = {
    "hidden Markov chain of 2": partial(likelihood, hidden_markov, 2),
    "hidden Markov chain of 7": partial(likelihood, hidden_markov, 7),
    "hidden Markov chain with a gap": partial(gap, hidden_markov),
    "linear-Gaussian chain of 2": partial(likelihood, linear_gaussian, 2),
    "linear-Gaussian chain of 6": partial(likelihood, linear_gaussian, 6),
    "linear-Gaussian chain with a gap": partial(gap, linear_gaussian),
    "linear-Gaussian tree": lambda: Row(tree().marginalize_var(["a", "b", "c"]).log_prob(), {"d": wave(BATCH, 1), "e": wave(BATCH, 2)}),
    "factor analysis": lambda: Row(factors().marginalize_var("z").log_prob(), {"x": wave(BATCH, 3)}),
    "an affine map of a given variable": given_affine,
    "mixture": lambda: Row(clusters().marginalize_var("k").log_prob(), {"x": wave(BATCH, 2)}),
    "mixture of factor analysers": lambda: Row(mixture_of_factors().marginalize_var(["z", "k"]).log_prob(), {"x": wave(BATCH, 3)}),
    "bits": noisy_or,
}
POSTERIORS: dict[str, Callable[[], Row]] = {
    "hidden Markov chain, a state": lambda: smoothed(hidden_markov, "z_2", torch.eye(3)),
    "hidden Markov chain, the entropy of a state": partial(uncertain, hidden_markov, "z_2"),
    "hidden Markov chain, paths": partial(paths, hidden_markov),
    "hidden Markov chain, the exact bound": partial(exact_bound, hidden_markov),
    "linear-Gaussian chain, a state": lambda: smoothed(linear_gaussian, "z_3", differentiated(START)),
    "linear-Gaussian chain, paths": partial(paths, linear_gaussian),
    "linear-Gaussian chain, the exact bound": partial(exact_bound, linear_gaussian),
    "factor analysis": lambda: posterior_of(factors, "z", {"x": wave(BATCH, 3)}, START),
    "factor analysis, a divergence": divergence_from_the_posterior,
    "mixture": lambda: posterior_of(clusters, "k", {"x": wave(BATCH, 2)}, torch.eye(3)),
    "mixture of factor analysers": lambda: posterior_of(
        lambda: mixture_of_factors().marginalize_var("k"), "z", {"x": wave(BATCH, 3)}, START
    ),
}
ROWS: dict[str, Callable[[], Row]] = {
    **{f"sequence: {name}": make for name, make in SEQUENCES.items()},
    **{f"marginal: {name}": make for name, make in MARGINALS.items()},
    **{f"posterior: {name}": make for name, make in POSTERIORS.items()},
}
