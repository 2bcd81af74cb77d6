"""Games in sums, and several losses of one evaluation."""

import pytest
import torch
from torch import nn

from pixyz.core import Constant, FormulaError, Game, Parameter, Together, maximum
from pixyz.distributions import Deterministic, Normal
from pixyz.models import Model


def normal(text, loc=0.0):
    return Normal(text, loc=nn.Parameter(torch.full((1,), loc)), scale=1.0)


def players():
    """p and d on the two sides of a game, q beside it; a penalty on d."""
    p, d, q = normal("p(x)", 1.0), normal("d(x)", 2.0), normal("q(x)", 3.0)
    game = Game((p.log_prob() - d.log_prob()).mean(), p, d)
    return p, d, q, game, Game(d.log_prob().mean() ** 2, (), d)


def test_players_stand_before_the_whole_sum():
    p, d, q, game, penalty = players()
    loss = q.log_prob().mean() + Parameter("beta") * game / 2 - 10 * penalty
    assert str(loss) == "min_p max_d mean(log q(x)) + (beta * mean(log p(x) - log d(x)))/2 - 10 * mean(log d(x))^2"
    assert loss.unicode().startswith("min_p max_d mean(log q(x)) + (β · mean(log p(x) − log d(x)))/2 − 10 · mean(log d(x))")
    assert loss.latex().startswith(r"\min_{p} \max_{d} \mathrm{mean}\left(\log q(x)\right) + ")
    assert str(penalty) == "max_d mean(log d(x))^2"
    assert str(game + game) == "min_p max_d mean(log p(x) - log d(x)) + mean(log p(x) - log d(x))"


def test_two_objectives_stand_beside_each_other():
    p, d, q, game, penalty = players()
    other = Game(game.objective, p, d, loss=-p.log_prob().mean())
    loss = q.log_prob().mean() + 2 * other - penalty
    assert str(loss) == "min_p mean(log q(x)) + 2 * (-mean(log p(x))); max_d 2 * mean(log p(x) - log d(x)) - mean(log d(x))^2"
    assert loss.latex().startswith(r"\min_{p} ")
    assert r"\max_{d} 2 " in loss.latex()


def test_each_plays_for_its_terms():
    p, d, q, game, penalty = players()
    beta = Parameter("beta")
    loss = q.log_prob().mean() + beta * game / 2 - 10 * penalty
    x = torch.randn(5, 1)
    values = {"x": x, "beta": 0.3}
    log_p, log_d, log_q = [r.log_prob().mean().estimate({"x": x}) for r in (p, d, q)]
    torch.testing.assert_close(loss.for_player(q).estimate(values), log_q)
    torch.testing.assert_close(loss.for_player(p).estimate(values), 0.15 * log_p)
    torch.testing.assert_close(loss.for_player(d).estimate(values), 0.15 * log_d + 10 * log_d**2)
    torch.testing.assert_close(loss.estimate(values), log_q + 0.15 * (log_p - log_d) - 10 * log_d**2)


def test_a_sum_loses_the_terms_that_become_zero():
    a, b = [normal(text).log_prob() for text in ("p(x)", "q(x)")]

    def without(gone):
        return lambda term: Constant(0.0) if term is gone else term

    loss = 2 * a.mean() - b.sum() / Parameter("c") + (a * b).exp()
    assert str(loss.each_term(without(a))) == "-sum(log q(x))/c + exp(log p(x) * log q(x))"
    assert str(loss.each_term(without(b))) == str(2 * a.mean() + (a * b).exp())
    assert (a - b).each_term(without(b)) is a
    assert (2 * (a - b).mean()).each_term(lambda _: Constant(0.0)).number == 0.0
    product = a * b  # of two losses, which is one term
    assert product.each_term(lambda _: Constant(0.0)).number == 0.0
    assert product.each_term(without(a)) is product


FUNCTIONS = {
    "a function": lambda game: game.exp(),
    "a power": lambda game: game**2,
    "a product": lambda game: game * game,
    "a quotient": lambda game: 1 / game,
    "a gradient stopped": lambda game: game.detach(),
    "values put in": lambda game: game.constant_var({"x": torch.zeros(2, 1)}),
    "an expectation": lambda game: game.expectation(normal("r(x)")),
    "a product with a loss": lambda game: normal("r(x)").log_prob().mean() * game,
    "a power of a number": lambda game: 2**game,
    "a bound": lambda game: game.clamp(min=0.0),
    "a greatest": lambda game: maximum(game, 0.0),
    "a sum inside": lambda game: (1 + 2 * game).log(),
    "a game of a game": lambda game: Game(game, normal("r(x)"), game.maximiser),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_a_game_is_refused(name):
    game = players()[3]
    with pytest.raises(
        FormulaError, match=r"is a function of a game. Games add up with losses, and with numbers before them; no more. Write"
    ):
        FUNCTIONS[name](game)


def test_the_error_shows_the_function_of_the_game():
    game = players()[3]
    with pytest.raises(FormulaError, match=r"^exp\(min_p max_d mean\(log p\(x\) - log d\(x\)\)\) is a function of a game"):
        game.exp()
    with pytest.raises(FormulaError, match=r"or inside of the game's objective\.$"):
        game * game


@pytest.mark.parametrize(
    "write",
    [
        lambda game, penalty, q: game + 10 * penalty,
        lambda game, penalty, q: game - (-penalty),
        lambda game, penalty, q: q - (0.5 - Parameter("beta") * penalty / 2) + game,
    ],
)
def test_a_penalty_is_not_added(write):
    p, d, q, game, penalty = players()
    loss = write(game, penalty, q.log_prob().mean())
    for refused in (lambda: loss.for_player(d), lambda: loss.for_player(p), lambda: Model(loss)):
        with pytest.raises(FormulaError, match=r"d\(x\) maximises, so it would seek the penalty mean\(log d\(x\)\)\^2. Subtract it"):
            refused()


@pytest.mark.parametrize("write", [lambda game, q: -game, lambda game, q: q - 0.1 * game, lambda game, q: q + game / torch.tensor(-2.0)])
def test_a_game_is_not_subtracted(write):
    p, d, q, game, _ = players()
    loss = write(game, q.log_prob().mean())
    for refused in (lambda: loss.for_player(d), lambda: Model(loss)):
        with pytest.raises(FormulaError, match=r"max_d .* is subtracted, so d\(x\) would minimise what it maximises. Add it"):
            refused()


def test_a_sum_that_is_subtracted_may_subtract_a_game():
    p, d, q, game, penalty = players()
    loss = -(q.log_prob().mean() - 0.1 * (game - 3 * penalty))
    assert Model(loss).train({"x": torch.zeros(2, 1)}).shape == (2,)
    x = torch.randn(5, 1)
    log_d = d.log_prob().mean().estimate({"x": x})
    torch.testing.assert_close(loss.for_player(d).estimate({"x": x}), 0.1 * (log_d + 3 * log_d**2))


def counted(net, calls, name):
    net.register_forward_hook(lambda *_: calls.append(name))
    return net


def test_together_a_network_runs_once_and_again_when_it_has_changed():
    calls = []
    first, second, third = [counted(nn.Linear(1, 1), calls, name) for name in "abc"]
    a = Deterministic("a(y|x)", y=first)
    b = Normal("b(z|y)", loc=second, scale=1.0)
    c = Normal("c(u|x)", loc=third, scale=1.0)
    of_b = b.log_prob().expectation(a).mean()
    of_c = c.log_prob().mean()
    values = {"x": torch.ones(2, 1), "z": torch.zeros(2, 1), "u": torch.zeros(2, 1)}
    together = Together(of_b + of_c, values)
    before = [together.value(loss).item() for loss in (of_b, of_c, of_b + of_c)]
    assert calls == ["a", "b", "c"]
    assert before[0] + before[1] == pytest.approx(before[2])

    for net, others, again in ((second, [a, c], ["b"]), (third, [a, b], ["c"]), (first, [b, c], ["a", "b"])):
        calls.clear()
        with torch.no_grad():
            net.weight += 1
        together.keep({*others})
        found = [together.value(loss).item() for loss in (of_b, of_c)]
        assert calls == again
        assert found == pytest.approx([loss.estimate(values).item() for loss in (of_b, of_c)])


def test_together_draws_are_kept_until_their_weights_change():
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(1)), scale=1.0)
    q = Normal("q(x)", loc=nn.Parameter(torch.zeros(1)), scale=1.0)
    loss = q.log_prob().expectation(p)
    together = Together(loss, {}, batch_size=4)
    before = together.value(loss)
    assert torch.equal(together.value(loss), before)
    together.keep({p})
    torch.testing.assert_close(together.value(loss), before)  # scored again, of the same draws
    together.keep({q})
    assert not torch.equal(together.value(loss), before)
