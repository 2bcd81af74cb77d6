# ruff: noqa: E501
"""Rows of pixyz.core: arithmetic and functions of losses, values, masks, games, and joints that are renamed, conditioned and divided."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pixyz.core import (
    Constant,
    ConstantVar,
    Expectation,
    FromFunction,
    Game,
    Joint,
    LogProb,
    Loss,
    Mean,
    Parameter,
    Term,
    Together,
    log_mean_exp,
    log_sigmoid,
    logsumexp,
    maximum,
    minimum,
)
from pixyz.distributions import Categorical, Deterministic, Distribution, Normal

from .row import BATCH, Row, Stacked, differentiated, f64, free, wave

X, Z = wave(BATCH, 3), wave(BATCH, 2, shift=2.0)
MASK = f64([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def q(text: str = "q(z|x)") -> Normal:
    return Normal(text, loc=nn.Linear(3, 2), scale=free([0.8, 1.1]))


def prior(text: str = "p(z)") -> Normal:
    return Normal(text, loc=free([0.2, -0.1]), scale=free([1.1, 0.9]))


def likelihood(text: str = "p(x|z)") -> Normal:
    return Normal(text, loc=nn.Linear(2, 3), scale=free(0.5))


def of_two(make: Callable[[Loss, Loss], Loss]) -> Row:
    """A function of two log-densities."""
    return Row(make(q().log_prob(), prior().log_prob()), {"x": X, "z": differentiated(Z)})


def of_expectations(make: Callable[[Loss, Loss], Loss]) -> Row:
    """A function of two expectations over one distribution."""
    below = q()
    a, b = likelihood().log_prob(), prior().log_prob()
    return Row(make(a.expectation(below, num_samples=2), b.expectation(below, num_samples=2)), {"x": X})


def at(p: Distribution, **values: Tensor) -> Row:
    return Row(p.log_prob(), {k: differentiated(v) for k, v in values.items()})


class Doubled(Loss):
    """A loss of one's own."""

    def __init__(self, loss: Loss) -> None:
        super().__init__([loss])
        self.inner = loss

    @property
    def formula(self) -> object:
        return (2 * self.inner).formula

    def evaluate(self, scope: object) -> Term:
        tensor, dims = scope.evaluate(self.inner)
        return Term(2 * tensor, dims)


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(5, 1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.tanh(self.net(torch.cat([x, z], -1))).squeeze(-1)


def from_function() -> Row:
    return Row(FromFunction(Critic(), "f", var=["x", "z"]), {"x": differentiated(X), "z": differentiated(Z)})


def game(role: str) -> Row:
    p, d = prior("p(x)"), Normal("d(x)", loc=free([0.5, 0.3]), scale=free(1.2))
    both = Game(Mean(p.log_prob() - d.log_prob()), p, d)
    player = {"p": p, "d": d}[role]
    return Row(both.for_player(player), {"x": Z}, trained=player)


def game_with_a_loss(role: str) -> Row:
    p, d = prior("p(x)"), Normal("d(x)", loc=free([0.5, 0.3]), scale=free(1.2))
    both = Game(Mean(p.log_prob() - d.log_prob()), p, d, loss=-Mean(log_sigmoid(p.log_prob()))) + 0.1 * Mean(p.log_prob())
    player = {"p": p, "d": d}[role]
    return Row(both.for_player(player), {"x": Z}, trained=player)


def together() -> Row:
    """Two losses of one evaluation, as one loss: what they have in common runs once."""
    below = q()
    body = likelihood().log_prob()
    a, b = ((sign * body).expectation(below) for sign in (1, 0.5))
    both = Together(a + 2 * b, {"x": X})
    return Row(Constant(torch.stack([both.value(a).mean(), both.value(b).mean()]).detach()))


def labelled() -> Distribution:
    return Normal("p(x|y,z)", loc=Stacked(5, 3), scale=0.7) * Categorical("p(y)", logits=free([0.1, 0.4, -0.2])) * prior()


def divided() -> Row:
    p = likelihood() * prior()
    return at(p / p.marginalize_var("z"), x=X, z=Z)


def renamed_twice() -> Row:
    """Two copies of one module under two names."""
    p = likelihood()
    both = p.replace_var(x="x_1", z="z_1") * p.replace_var(x="x_2", z="z_2")
    return at(both, x_1=X, x_2=wave(BATCH, 3, shift=1.0), z_1=Z, z_2=wave(BATCH, 2))


def joint_by_hand() -> Row:
    a, b = likelihood(), prior()
    return at(Joint([*a.factors, *b.factors]), x=X, z=Z)


def hidden_by_a_deterministic_factor() -> Row:
    p = Deterministic("f(h|z)", h=nn.Linear(2, 2)) * prior()
    return Row(Normal("p(x|h)", loc=nn.Linear(2, 3), scale=0.6).log_prob().expectation(p), {"x": X})


ONE_EACH: dict[str, Callable[[Loss, Loss], Loss]] = {
    "a + b": lambda a, b: a + b,
    "a - 2 b + 3": lambda a, b: a - 2 * b + 3,
    "a b": lambda a, b: a * b,
    "a / b": lambda a, b: a / b,
    "2 / a": lambda a, b: 2 / a,
    "a ** 2": lambda a, b: a**2,
    "exp(a) ** b": lambda a, b: a.exp() ** (0.1 * b),
    "2 ** a": lambda a, b: 2**a,
    "abs(a)": lambda a, b: abs(a),
    "exp(a)": lambda a, b: a.exp(),
    "log(exp(a) + exp(b))": lambda a, b: (a.exp() + b.exp()).log(),
    "clamp": lambda a, b: a.clamp(min=-2.9, max=b - 0.01),
    "stop(a) b": lambda a, b: a.detach() * b,
    "maximum": lambda a, b: maximum(a, b, -2.3),
    "minimum": lambda a, b: minimum(a, b, -2.25),
    "logsumexp": lambda a, b: logsumexp(a, b, -2.0),
    "log_mean_exp": lambda a, b: log_mean_exp(a, b),
    "log_sigmoid": lambda a, b: log_sigmoid(a - b),
    "mean": lambda a, b: a.mean() - b,
    "sum": lambda a, b: a.sum(),
    "a weight for each datum": lambda a, b: f64([0.5, 1.0, 2.0]) * a,
    "a trained weight": lambda a, b: free(0.3) * a + b,
    "a loss of one's own": lambda a, b: Doubled(a) + b,
}
OF_EXPECTATIONS: dict[str, Callable[[Loss, Loss], Loss]] = {
    "difference": lambda a, b: a - b,
    "product": lambda a, b: a * b,
    "square": lambda a, b: a**2,
    "cube": lambda a, b: 0.01 * a**3,
    "quotient": lambda a, b: a / b,
    "exp": lambda a, b: (0.1 * (a - b)).exp(),
    "maximum": lambda a, b: maximum(a, 1.5 * b),
    "logsumexp": lambda a, b: logsumexp(a, b),
}
ROWS: dict[str, Callable[[], Row]] = {
    **{f"log-densities: {name}": (lambda make=make: of_two(make)) for name, make in ONE_EACH.items()},
    **{f"expectations: {name}": (lambda make=make: of_expectations(make)) for name, make in OF_EXPECTATIONS.items()},
    "Constant": lambda: Row(Constant(f64(0.3)) * prior().log_prob(), {"z": Z}),
    "ConstantVar": lambda: Row(ConstantVar(Parameter("a") * q().log_prob(), {"a": free(2.0), "x": X}), {"z": differentiated(Z)}),
    "ConstantVar inside of an expectation": lambda: Row(likelihood().log_prob().constant_var({"x": X}).expectation(prior(), num_samples=2), batch_size=BATCH),
    "Expectation, nested": lambda: Row(Expectation(q(), Expectation(prior("r(w)"), LogProb(Normal("p(y|z,w)", loc=Stacked(4, 1), scale=0.5)), num_samples=2), num_samples=2), {"x": X, "y": wave(BATCH, 1)}),
    "FromFunction": from_function,
    "FromFunction under an expectation": lambda: Row(Loss.from_function(Critic(), "f", var=["x", "z"]).expectation(q(), num_samples=2), {"x": X}),
    "Game, p": lambda: game("p"),
    "Game, d": lambda: game("d"),
    "Game with a loss for p, p": lambda: game_with_a_loss("p"),
    "Game with a loss for p, d": lambda: game_with_a_loss("d"),
    "Together": together,
    "Joint": joint_by_hand,
    "Joint, renamed twice": renamed_twice,
    "Joint through what is computed": hidden_by_a_deterministic_factor,
    "Joint, a condition on a label": lambda: at(labelled().condition(y=f64([0.0, 1.0, 0.0])), x=X, z=Z),
    "Joint, a condition": lambda: at(Normal("p(x|z,y)", loc=Stacked(4, 3), scale=0.5).condition(y=f64([0.3, -0.2])), x=X, z=Z),
    "Joint, a condition on what is drawn": lambda: at((likelihood() * prior()).condition(x=f64([0.3, -0.2, 0.5])), z=Z),
    "Joint, divided by a marginal": divided,
    "Joint, divided by a factor": lambda: at((lambda p, r: (p * r) / r)(likelihood(), prior()), x=X, z=Z),
}  # fmt: skip
