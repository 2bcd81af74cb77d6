"""Games: who minimises what, and what a step of one player leaves alone."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend
from torch._functorch.aot_autograd import make_boxed_func

from pixyz.core import FormulaError, KindError, Loss, Parameter, ParameterError, ShapeError, formula
from pixyz.distributions import Bernoulli, Deterministic, Normal
from pixyz.gan import (
    GAN,
    R1,
    R2,
    AdversarialJensenShannon,
    AdversarialKullbackLeibler,
    AdversarialNonSaturating,
    GradientPenalty,
    RelativisticPairing,
)
from pixyz.models import Model, Optimizer


def networks(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3)), nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def players(g, d):
    p = (Deterministic("p(x|z)", x=g) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)).marginalize_var("z")
    return p, Deterministic("d(t|x)", t=d)


def test_a_game_prints_as_papers_write_it():
    p, d = players(*networks())
    game = AdversarialJensenShannon(p, d)
    assert str(game) == "min_p max_d E_p_data(x)[log d(x)] + E_p(x)[log (1 - d(x))]"
    assert str(game.for_player(p)) == "E_p(x)[log (1 - d(x))]"
    assert str(game.for_player(d)) == "-(E_p_data(x)[log d(x)] + E_p(x)[log (1 - d(x))])"
    assert game.latex().startswith(r"\min_{p} \max_{d} \mathbb{E}_{p_{\mathrm{data}}(x)}")
    ours = AdversarialNonSaturating(p, d)
    assert str(ours) == "min_p -E_p(x)[log d(x)]; max_d E_p_data(x)[log d(x)] + E_p(x)[log (1 - d(x))]"


def test_the_slope_of_the_gradient_penalty_is_one_in_between():
    p, d = players(*networks())
    assert str(GradientPenalty(p, d)) == "max_d E_p_data(x_data)p(x)[(norm(∇_x_between d(x_between)) - 1)^2]"


def test_a_divergence_by_its_ratio_trains_its_left_side_alone():
    p, d = players(*networks())
    q = Normal("q(x)", loc=nn.Parameter(torch.zeros(3)), scale=1.0)
    game = AdversarialKullbackLeibler(p, d, real=q)
    assert str(game) == "min_p E_p(x)[log (1 - d(x))/d(x)]; max_d E_q(x)[log d(x)] + E_p(x)[log (1 - d(x))]"
    with pytest.raises(FormulaError, match=r"q\(x\) has no part in"):
        game.for_player(q)


def test_games_add_up_with_losses():
    p, d = players(*networks())
    q = Normal("q(x)", loc=nn.Parameter(torch.zeros(3)), scale=1.0)
    loss = -q.log_prob().mean() + 0.1 * AdversarialJensenShannon(p, d) - 10 * R1(p, d)
    assert str(loss).startswith("min_p max_d -mean(log q(x)) + 0.1 * (E_p_data(x)[log d(x)] + E_p(x)[log (1 - d(x))]) - 10 * E_p_data(x)")
    assert str(loss.for_player(q)) == "-mean(log q(x))"
    assert str(loss.for_player(p)) == "0.1 * E_p(x)[log (1 - d(x))]"
    assert "10 * E_p_data(x)[norm(∇_x d(x))^2]" in str(loss.for_player(d))
    assert "q(x)" not in str(loss.for_player(d))


@pytest.mark.parametrize("d_of", [lambda net: Deterministic("d(t|x)", t=net), lambda net: Bernoulli("d(t|x)", logits=net)])
def test_at_a_logit_of_zero_the_value_is_minus_two_log_two(d_of):
    p, _ = players(*networks())
    net = nn.Linear(3, 1)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    value = AdversarialJensenShannon(p, d_of(net)).estimate({"x": torch.randn(7, 3)})
    assert value.item() == pytest.approx(-2 * math.log(2), abs=1e-6)


def test_a_hundred_steps_equal_a_hand_written_loop():
    data = torch.randn(100, 16, 3, dtype=torch.float64)
    ours, theirs = [[net.double() for net in networks()] for _ in range(2)]
    p, d = players(*ours)
    p.double()
    model = GAN(p, d, optimizer=torch.optim.Adam, optimizer_params={"lr": 1e-2})
    torch.manual_seed(1)
    for x in data:
        loss, d_loss = model.train({"x": x})
    g, net = theirs
    optimizers = [torch.optim.Adam(m.parameters(), lr=1e-2) for m in (g, net)]
    torch.manual_seed(1)
    for x in data:
        fake = g(torch.randn(16, 2, dtype=torch.float64))
        d_want = F.softplus(-net(x)).mean() + F.softplus(net(fake.detach())).mean()
        optimizers[1].zero_grad()
        d_want.backward()
        optimizers[1].step()
        want = F.softplus(-net(fake)).mean()
        optimizers[0].zero_grad()
        want.backward()
        optimizers[0].step()
    torch.testing.assert_close((loss, d_loss), (want.detach(), d_want.detach()), atol=1e-10, rtol=0)
    for a, b in zip([*ours[0].parameters(), *ours[1].parameters()], [*g.parameters(), *net.parameters()], strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_the_generator_runs_once_in_a_step():
    g, net = networks()
    p, d = players(g, net)
    calls = []
    g.register_forward_hook(lambda *_: calls.append("g"))
    net.register_forward_hook(lambda *_: calls.append("d"))
    model = Model(AdversarialNonSaturating(p, d))
    model.train({"x": torch.randn(5, 3)})
    assert calls == ["d", "g", "d", "d"]  # the data, the fakes; and the fakes again, when it has stepped


def test_penalties_judge_nothing_anew():
    g, net = networks()
    p, d = players(g, net)
    game = RelativisticPairing(p, d) - 0.5 * (R1(p, d) + R2(p, d))
    calls = []
    net.register_forward_hook(lambda *_: calls.append("d"))
    x = torch.randn(5, 3)
    torch.manual_seed(0)
    value = game.for_player(d).estimate({"x": x})
    assert calls == ["d", "d"]  # the data and the fakes
    assert not x.requires_grad
    torch.manual_seed(0)
    fake = g(torch.randn(5, 2)).detach().requires_grad_()
    x.requires_grad_()
    slopes = [torch.autograd.grad(net(at).sum(), at)[0].square().sum(-1).mean() for at in (x, fake)]
    torch.testing.assert_close(value, F.softplus(net(fake) - net(x)).mean() + 0.5 * sum(slopes))
    with torch.no_grad():
        torch.manual_seed(0)
        torch.testing.assert_close(game.for_player(d).estimate({"x": x.detach()}), value)


@pytest.mark.parametrize("compile", [False, {"backend": "eager"}])
def test_a_step_of_one_player_leaves_the_other_as_it_was(compile):
    g = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 8)), nn.BatchNorm1d(8), nn.Linear(8, 1))
    p, d = players(g, net)
    model = Model(AdversarialNonSaturating(p, d), n_critic=3, compile=compile)
    values = {"x": torch.randn(5, 3)}
    model.train(values)

    def state(module):
        return [t.detach().clone() for t in (*module.state_dict().values(), *[w.grad for w in module.parameters()])]

    before = state(g)
    for _ in range(2):  # the discriminator alone
        model.train(values)
    for a, b in zip(before, state(g), strict=True):
        assert torch.equal(a, b)
    (of_d,) = [each for each in model.optimizers if any(w is next(d.parameters()) for w in each.param_groups[0]["params"])]
    stepped = []
    of_d.register_step_post_hook(lambda *_: stepped.append(state(net)))
    model.train(values)  # the discriminator, and the generator after it
    assert any(not torch.equal(a, b) for a, b in zip(before, state(g), strict=True))
    for a, b in zip(*stepped, state(net), strict=True):
        assert torch.equal(a, b)


def test_a_scheduled_weight_of_a_penalty_needs_no_new_graph():
    p, d = players(*networks())
    game = AdversarialNonSaturating(p, d) - Parameter("gamma") * R1(p, d)
    backend = CompileCounterWithBackend("eager")
    model = Model(game, schedules={"gamma": lambda step: 1.0 / (1 + step)}, compile={"backend": backend})
    graphs = []
    for _ in range(4):
        model.train({"x": torch.randn(5, 3)})
        graphs.append(backend.frame_count)
    assert graphs == [graphs[0]] * 4


def test_at_once_both_step_from_the_same_weights():
    x = torch.randn(6, 3)
    p, d = players(*networks())
    model = Model(AdversarialJensenShannon(p, d), at_once=True, optimizer=torch.optim.SGD, optimizer_params={"lr": 0.1})
    torch.manual_seed(3)
    model.train({"x": x})
    g, net = networks()
    torch.manual_seed(3)
    fake = g(torch.randn(6, 2))
    value = F.logsigmoid(net(x)).mean() + F.logsigmoid(-net(fake)).mean()
    slopes = torch.autograd.grad(value, [*g.parameters(), *net.parameters()])
    with torch.no_grad():
        for w, slope in zip(g.parameters(), slopes[:4], strict=True):
            w -= 0.1 * slope
        for w, slope in zip(net.parameters(), slopes[4:], strict=True):
            w += 0.1 * slope
    for a, b in zip([*p.parameters(), *d.parameters()], [*g.parameters(), *net.parameters()], strict=True):
        torch.testing.assert_close(a, b)


class Twice(Loss):
    """A loss that says it is a sum of terms, and gives itself."""

    def __init__(self, of):
        super().__init__([of])
        self.of = of

    @property
    def formula(self):
        return formula.Call("Twice", self.of.formula)

    def each_term(self, change):
        return change(self)

    def evaluate(self, scope):
        return scope.evaluate(self.of)


def test_what_cannot_play():
    p, d = players(*networks())
    with pytest.raises(FormulaError, match=r"d\(t\|y\) sees nothing that p\(x\) draws, x"):
        AdversarialJensenShannon(p, Deterministic("d(t|y)", t=nn.Linear(3, 1)))
    with pytest.raises(FormulaError, match=r"q\(x\) is no discriminator"):
        AdversarialJensenShannon(p, Normal("q(x)", loc=0.0, scale=1.0))
    shared = nn.Linear(3, 3)
    both = Deterministic("p(x|z)", x=shared) * Normal("p(z)", loc=0.0, scale=1.0, dim=3)
    with pytest.raises(ParameterError, match=r"are one parameter, of p\(x\) and of d\(t\|x\), which play against each other"):
        AdversarialJensenShannon(both.marginalize_var("z"), Deterministic("d(t|x)", t=nn.Sequential(shared, nn.Linear(3, 1))))
    with pytest.raises(ParameterError, match=r"p\(x\) has no parameters to train, so it cannot be a player"):
        AdversarialJensenShannon(Normal("p(x)", loc=0.0, scale=1.0, dim=3), d)
    with pytest.raises(ShapeError, match=r"must have one number for each datum, \(N,\) or \(N, 1\); got 2"):
        AdversarialJensenShannon(p, Deterministic("d(t|x)", t=nn.Linear(3, 2))).estimate({"x": torch.zeros(4, 3)})
    with pytest.raises(ShapeError, match=r"p\(x\) draws x of features \(3,\), but the data have \(2,\)"):
        AdversarialJensenShannon(p, d).for_player(p).estimate({"x": torch.zeros(4, 2)})
    with pytest.raises(KindError, match=r"p\(x\) draws x as torch.float32 on cpu, but the data are torch.float64 on cpu. Convert one with"):
        AdversarialJensenShannon(p, d).for_player(p).estimate({"x": torch.zeros(4, 3).double()})
    with pytest.raises(ShapeError, match=r"log d\(x\): d\(t\|x\) must have one number for each datum, the logit; got 2\."):
        AdversarialJensenShannon(p, Bernoulli("d(t|x)", logits=nn.Linear(3, 2))).estimate({"x": torch.zeros(4, 3)})
    pair, real = (
        Normal("p(x)", loc=nn.Parameter(torch.zeros(3)), scale=1.0) * Normal("p(y)", loc=0.0, scale=1.0),
        Normal("q(x)", loc=0.0, scale=1.0, dim=3),
    )
    with pytest.raises(FormulaError, match=r"d\(t\|x,y\) sees y of p\(x,y\), of which q\(x\) knows nothing\."):
        AdversarialJensenShannon(pair, Deterministic("d(t|x,y)", lambda x, y: {"t": x}), real=real)
    with pytest.raises(FormulaError, match=r"p\(x,t\) stands on both sides of min_p max_d .*; ask for one of them\."):
        AdversarialJensenShannon(p, d).for_player(p * d)
    with pytest.raises(FormulaError, match=r"^Twice\(min_p max_d .*\) is a function of a game\."):
        Twice(AdversarialJensenShannon(p, d)).for_player(p)
    with pytest.raises(FormulaError, match="is a function of a game"):
        AdversarialJensenShannon(p, d).exp()
    with pytest.raises(FormulaError, match=r"q\(z\) has no part in"):
        AdversarialJensenShannon(p, d).for_player(Normal("q(z)", loc=nn.Parameter(torch.zeros(1)), scale=1.0))
    game = AdversarialJensenShannon(p, d).mean()
    with pytest.raises(ParameterError, match=r"Model: optimiser 1 trains p\(x\|z\), p\(z\), d\(t\|x\), which stand on both sides of mean"):
        Model(game, optimizers=[Optimizer([p, d])])
    for players_, side in (([p], "maximises"), ([d], "minimises")):
        said = rf"^Model: nobody trains the side that {side} in mean\(min_p max_d .*\. Add an optimiser for it\."
        with pytest.warns(UserWarning, match="which nobody trains"), pytest.raises(ParameterError, match=said):
            Model(game, optimizers=[Optimizer(players_)])
    with pytest.raises(ParameterError, match="n_critic is for games"):
        Model(Normal("q(z)", loc=nn.Parameter(torch.zeros(1)), scale=1.0).log_prob().mean(), n_critic=2)


class Squashed(nn.Module):
    """A network whose forward alone knows that its numbers are probabilities."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return torch.sigmoid(self.net(x))


def test_numbers_that_look_like_probabilities_are_warned_of():
    g, net = networks()
    p, d = players(g, Squashed(net))
    model = GAN(p, d)
    for _ in range(19):
        model.train({"x": torch.randn(8, 3)})
    with pytest.warns(UserWarning, match="leave the sigmoid out of its network"):
        model.train({"x": torch.randn(8, 3)})


def test_where_the_host_may_not_read_they_are_warned_of_by_check():
    g, net = networks()
    p, d = players(g, Squashed(net))
    model = GAN(p, d, validate="deferred")
    for _ in range(20):
        model.train({"x": torch.randn(8, 3)})
    with pytest.warns(UserWarning, match="leave the sigmoid out of its network"):
        model.check()
    model.check()  # once


@pytest.mark.parametrize(
    "loss",
    [
        AdversarialNonSaturating,
        lambda p, d: RelativisticPairing(p, d) - 0.5 * (R1(p, d) + R2(p, d)),
    ],
)
def test_a_generator_learns_where_the_data_are(loss):
    torch.manual_seed(0)
    p, d = players(*networks())
    model = GAN(p, d, loss=loss, optimizer_params={"lr": 1e-2, "betas": (0.0, 0.9)})
    for _ in range(200):
        model.train({"x": torch.randn(64, 3) * 0.3 + 2.0})
    x = p.sample(batch_size=1000)["x"]
    assert (x.mean(0) - 2).abs().max() < 0.3


def test_a_compiled_turn_takes_the_gradients_of_its_own_side_alone():
    counts = []

    def backward(graph, inputs):
        counts.append(sum(out is not None for out in graph.graph.output_node().args[0]))
        return make_boxed_func(graph.forward)

    def forward(graph, inputs):
        return make_boxed_func(graph.forward)

    p, d = players(*networks())
    model = GAN(p, d, compile={"backend": aot_autograd(fw_compiler=forward, bw_compiler=backward)})
    for _ in range(2):
        model.train({"x": torch.randn(4, 3)})
    assert counts == [len([*d.parameters()]), len([*p.parameters()])]
    with pytest.raises(RuntimeError, match="linear"):
        model.train({"x": torch.randn(4, 5)})
    assert all(weight.requires_grad for weight in model.loss.parameters())
