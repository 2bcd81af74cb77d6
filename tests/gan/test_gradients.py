"""The gradient of each side: of every adversarial loss and penalty, against finite differences, enumeration, and the compiled graph."""

import pytest
import torch
import torch.nn.functional as F
from gan.test_losses import PENALTIES, TABLE, made
from torch import nn

from pixyz.core import FormulaError
from pixyz.distributions import Bernoulli, Categorical, Deterministic, Normal
from pixyz.gan import (
    R2,
    AdversarialJensenShannon,
    AdversarialKullbackLeibler,
    AdversarialNonSaturating,
    RelativisticPairing,
)


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


def players():
    torch.manual_seed(0)
    g, net = [nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, n)) for n in (2, 1)]
    p = (Deterministic("p(x|z)", x=g) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)).marginalize_var("z")
    return p, Deterministic("d(t|x)", t=net)


VALUES = {"x": torch.tensor([[0.3, -1.2], [1.5, 0.4], [-0.7, 0.9]], dtype=torch.float64)}


# Each loss, and who plays for it.
SHARES = [*[(name, player) for name in TABLE for player in "pd"], *[(name, "d") for name in PENALTIES]]


def game_of(name, p, d):
    return -made(name, p, d) if name in PENALTIES else made(name, p, d)


def seeded(loss):
    torch.manual_seed(7)
    return loss.estimate(VALUES if "x" in loss.input_var else {}, batch_size=3)


@pytest.mark.parametrize(("name", "player"), SHARES)
def test_the_gradient_is_that_of_finite_differences(name, player):
    p, d = players()
    mine = p if player == "p" else d
    loss = game_of(name, p, d).for_player(mine)
    seeded(loss).backward(inputs=[*mine.parameters()])
    weights = [w for w in mine.parameters() if w.grad is not None]
    assert sum(w.grad.norm() for w in weights) > 1e-4
    step = 1e-5
    for _ in range(3):
        directions = [torch.randn_like(w) for w in weights]
        found = sum((w.grad * v).sum().item() for w, v in zip(weights, directions, strict=True))
        ends = []
        for at in (1, -2, 1):  # there, beyond, and back
            with torch.no_grad():
                for w, v in zip(weights, directions, strict=True):
                    w += at * step * v
            ends.append(seeded(loss).item())
        assert found == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("player", "backend", "kinds"),
    [
        ("p", "eager", {*TABLE}),
        ("d", "eager", {*TABLE, *PENALTIES}),
        # Here the backward pass is traced, too, that of a slope twice, which takes long.
        ("d", "aot_eager", {"AdversarialNonSaturating", "GradientPenalty"}),
    ],
    ids=["p", "d", "d and the backward pass"],
)
def test_one_graph_has_the_same_value_and_gradient(player, backend, kinds):
    """Kinds of losses with different weights, in one sum: to compile each alone takes minutes."""
    p, d = players()
    mine = p if player == "p" else d
    names = {name.partition(" ")[0]: name for name, who in SHARES if who == player and name in kinds}.values()
    loss = sum(game_of(name, p, d) * (1 + i / 10) for i, name in enumerate(names)).for_player(mine)
    found = []
    for compiled in (False, True):
        if compiled:
            loss.compile(backend=backend, fullgraph=True)
        value = seeded(loss)
        found.append((value.detach(), *torch.autograd.grad(value, [*mine.parameters()])))
    for eager, graph in zip(*found, strict=True):
        torch.testing.assert_close(graph, eager, atol=1e-12, rtol=1e-12)


class Scores(nn.Module):
    """Log-probabilities that do not depend on the data."""

    def __init__(self, n):
        super().__init__()
        self.scores = nn.Parameter(torch.linspace(-0.5, 1.0, n))

    def forward(self, z):
        return self.scores.expand(len(z), -1)


@pytest.mark.parametrize("family", [Categorical, Bernoulli])
@pytest.mark.parametrize("loss", [AdversarialNonSaturating, AdversarialJensenShannon, AdversarialKullbackLeibler])
def test_a_generator_of_discrete_data_learns_by_the_score(family, loss):
    n = 3
    draws = family("p(x|z)", **{"logits": Scores(n)}) * Normal("p(z)", loc=0.0, scale=1.0, dim=1)
    net = nn.Linear(n, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0, -1.0, 0.5]]))
    p, d = draws.marginalize_var("z"), Deterministic("d(t|x)", t=net)
    (weight,) = p.parameters()
    values = {"x": torch.eye(n)}
    exact = loss(p, d, estimator={"x": "enumerate", "z": "pathwise"}).for_player(p)
    (want,) = torch.autograd.grad(exact.estimate(values), weight)
    by_score = loss(p, d).for_player(p)
    many = torch.stack([torch.autograd.grad(by_score.estimate({}, batch_size=50), weight)[0] for _ in range(200)])
    error = many.std(0) / len(many) ** 0.5
    assert ((many.mean(0) - want).abs() < 4 * error).all()
    assert want.abs().max() > 10 * error.max()


@pytest.mark.parametrize("loss", [RelativisticPairing, AdversarialJensenShannon])
def test_each_side_takes_the_estimators_of_what_it_draws(loss):
    """All pairs of three values, summed; z is drawn on one side alone, and matters on neither."""
    z = Normal("p(z)", loc=0.0, scale=1.0, dim=1)
    p = (Categorical("p(x|z)", logits=Scores(3)) * z).marginalize_var("z")
    real = Categorical("r(x)", probs=torch.tensor([0.2, 0.5, 0.3]))
    net = nn.Linear(3, 1)
    game = loss(p, Deterministic("d(t|x)", t=net), real, estimator={"x": "enumerate", "z": "pathwise"})
    t = net(torch.eye(3)).squeeze(1)
    of_p, of_real = p.get_submodule("p(x|z)").given_networks.get_submodule("logits").scores.softmax(0), real.probs
    want = {
        RelativisticPairing: (of_real[:, None] * of_p * F.logsigmoid(t[:, None] - t)).sum(),
        AdversarialJensenShannon: of_real @ F.logsigmoid(t) + of_p @ F.logsigmoid(-t),
    }[loss]
    torch.testing.assert_close(game.objective.estimate({}), want, atol=1e-12, rtol=1e-12)
    mine = [*p.parameters()]
    (got,) = torch.autograd.grad(game.objective.estimate({}), mine)
    torch.testing.assert_close(got, torch.autograd.grad(want, mine)[0], atol=1e-12, rtol=1e-12)


def test_an_estimator_for_what_nobody_draws():
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(1)), scale=1.0)
    with pytest.raises(FormulaError, match=r"There is an estimator for y, but only x are drawn"):
        R2(p, Deterministic("d(t|x)", t=nn.Linear(1, 1)), estimator={"x": "pathwise", "y": "score"})
