"""Games in training: several players, sums with other losses, what a model does around its steps."""

import copy

import pytest
import torch
from placed import NoiseOfTheCPU, on
from torch import nn, optim

from pixyz.core import NonFiniteLossError, Parameter, ParameterError
from pixyz.distributions import Categorical, Deterministic, Laplace, Normal
from pixyz.gan import (
    GAN,
    R1,
    AdversarialJensenShannon,
    AdversarialLeastSquares,
    AdversarialNonSaturating,
    AdversarialWassersteinDistance,
    GradientPenalty,
)
from pixyz.losses import ELBO
from pixyz.models import LinearSchedule, Model


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


def network(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, outputs))


def prior(text="p(z)", dim=2):
    return Normal(text, loc=0.0, scale=1.0, dim=dim)


def players(seed=0):
    torch.manual_seed(seed)
    p = (Deterministic("p(x|z)", x=network(2, 3)) * prior()).marginalize_var("z")
    return p, Deterministic("d(t|x)", t=network(3, 1))


def given():
    """The same, but the generator's z is a value, so that nothing is drawn."""
    torch.manual_seed(0)
    return Deterministic("p(x|z)", x=network(2, 3)), Deterministic("d(t|x)", t=network(3, 1))


def descend(networks, loss, rate):
    """A step of gradient descent."""
    weights = [w for network in networks for w in network.parameters()]
    for w, slope in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
        if slope is not None:
            w.data -= rate * slope


SGD = {"optimizer": optim.SGD, "optimizer_params": {"lr": 0.1}}


@pytest.mark.gpu
def test_two_generators_and_two_discriminators_are_the_hand_written_loop(device):
    """CycleGAN: least squares both ways, and L1 around."""
    f, g, d, e = [network(2, n) for n in (2, 2, 1, 1)]
    there, back = Deterministic("f(y|x)", y=f), Deterministic("g(x|y)", x=g)
    games = AdversarialLeastSquares(there, Deterministic("d(t|y)", t=d)) + AdversarialLeastSquares(back, Deterministic("e(t|x)", t=e))
    around = Laplace("r(x|y)", loc=g, scale=1.0).log_prob().expectation(there)
    around_again = Laplace("s(y|x)", loc=f, scale=1.0).log_prob().expectation(back)
    theirs = [copy.deepcopy(net) for net in (f, g, d, e)]
    model = Model((games - 0.5 * (around + around_again).mean()).to(device), **SGD)
    data = torch.randn(6, 2, 5, 2)
    for x, y in data:
        model.train(on(device, {"x": x, "y": y}))
    f, g, d, e = theirs
    for x, y in data:
        pairs = ((d, y, f(x).detach()), (e, x, g(y).detach()))
        descend([d, e], sum(((net(real) - 1) ** 2).mean() / 2 + (net(fake) ** 2).mean() / 2 for net, real, fake in pairs), 0.1)
        least = ((d(f(x)) - 1) ** 2).mean() / 2 + ((e(g(y)) - 1) ** 2).mean() / 2
        rounds = (g(f(x)) - x).abs().sum(-1) + (f(g(y)) - y).abs().sum(-1)
        descend([f, g], least + 0.5 * rounds.mean(), 0.1)
    found = [there, back, *[leaf for leaf in model.distributions if leaf.name in "de"]]
    for leaf, net in zip(found, theirs, strict=True):
        for a, b in zip(leaf.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(a.cpu(), b, atol=1e-10, rtol=0)


@pytest.mark.gpu
def test_a_wasserstein_distance_with_its_penalty_is_the_hand_written_loop(device):
    """WGAN-GP: two steps of the critic to one of the generator."""
    p, d = players()
    loss = AdversarialWassersteinDistance(p, d) - 10 * GradientPenalty(p, d)
    g, net = [copy.deepcopy(next(m for m in r.modules() if isinstance(m, nn.Sequential))) for r in (p, d)]
    model = Model(loss.to(device), n_critic=2, optimizer=optim.SGD, optimizer_params={"lr": 0.01})
    data = torch.randn(6, 8, 3)
    torch.manual_seed(1)
    with NoiseOfTheCPU():
        for x in data:
            model.train({"x": x.to(device)})
    torch.manual_seed(1)
    for step, x in enumerate(data):
        fake = g(torch.randn(8, 2))
        share = torch.rand(8)[:, None]
        between = (share * x + (1 - share) * fake.detach()).requires_grad_()
        (slope,) = torch.autograd.grad(net(between).sum(), between, create_graph=True)
        descend([net], net(fake.detach()).mean() - net(x).mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean(), 0.01)
        if step % 2 == 0:
            descend([g], -net(fake).mean(), 0.01)
    for a, b in zip([*p.parameters(), *d.parameters()], [*g.parameters(), *net.parameters()], strict=True):
        torch.testing.assert_close(a.cpu(), b, atol=1e-12, rtol=0)


def test_what_infers_a_code_is_trained_with_the_generator():
    """InfoGAN."""
    torch.manual_seed(0)
    code = Categorical("p(c)", probs=torch.full((3,), 1 / 3))

    class Generator(Deterministic):
        def __init__(self):
            super().__init__(var=["x"], cond_var=["z", "c"], name="p")
            self.net = network(5, 3)

        def forward(self, z, c):
            return {"x": self.net(torch.cat([z, c], -1))}

    joint = Generator() * prior() * code
    d, q = Deterministic("d(t|x)", t=network(3, 1)), Categorical("q(c|x)", logits=network(3, 3))
    information = q.log_prob().expectation(joint, estimator={"c": "score", "z": "pathwise"}).mean()
    loss = AdversarialNonSaturating(joint.marginalize_var(["z", "c"]), d) - information
    assert str(loss.for_player(q)) == "-mean(E_p(x,z,c)[log q(c|x)])"
    assert "q(c|x)" not in str(loss.for_player(d))
    model = Model(loss, optimizer_params={"lr": 0.02})
    before = information.estimate({}, batch_size=300).item()
    for _ in range(60):
        model.train({"x": torch.randn(32, 3)})
    assert before < -1 < -0.7 < information.estimate({}, batch_size=300).item()


def test_a_bound_and_a_game_in_one_sum():
    """VAE-GAN: the decoder has the gradient of both, the encoder that of the bound, the discriminator that of the game."""
    torch.manual_seed(0)
    decoder = Normal("p(x|z)", loc=network(2, 3), scale=0.5)
    q, d = Normal("q(z|x)", loc=network(3, 2), scale=0.3), Deterministic("d(t|x)", t=network(3, 1))
    joint = decoder * prior()
    bound = -ELBO(joint, q).mean()
    game = AdversarialJensenShannon(joint.marginalize_var("z"), d)
    weight = Parameter("w")
    loss = bound + weight * game
    values = {"x": torch.randn(8, 3)}

    def slopes(loss, player, **more):
        torch.manual_seed(1)
        value = loss.for_player(player).estimate({**values, **more})
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, [*player.parameters()])])

    at = [slopes(loss, decoder, w=w) for w in (0.0, 1.0, 2.0)]
    torch.testing.assert_close(at[0], slopes(bound, decoder))
    torch.testing.assert_close(at[2] - at[1], at[1] - at[0])
    assert (at[1] - at[0]).norm() > 1e-4
    torch.testing.assert_close(slopes(loss, q, w=2.0), slopes(bound, q))
    torch.testing.assert_close(slopes(loss, d, w=2.0), 2 * slopes(loss, d, w=1.0))
    model = Model(bound + 0.1 * game, optimizer_params={"lr": 1e-2})
    first, *_, last = [model.train(values)[0].item() for _ in range(30)]
    assert last < first


def gan(seed=0, **options):
    p, d = players(seed)
    options = {"optimizer": optim.Adam, "optimizer_params": {"lr": 1e-2}, **options}
    return GAN(p, d, **options)


X = {"x": torch.linspace(-1, 2, 60, dtype=torch.float64).reshape(20, 3)}


def test_calls_that_accumulate_are_one_call_with_all_data():
    x, z = torch.randn(8, 3), torch.randn(8, 2)
    models = [Model(AdversarialNonSaturating(*given()), at_once=True, accumulate=n, **SGD) for n in (1, 2)]
    models[0].train({"x": x, "z": z})
    for half in (slice(4), slice(4, 8)):
        models[1].train({"x": x[half], "z": z[half]})
    assert models[0].step_count == models[1].step_count == 1
    for a, b in zip(*[m.trained_parameters for m in models], strict=True):
        torch.testing.assert_close(a, b)


def test_in_turns_nothing_accumulates():
    with pytest.raises(ParameterError, match=r"with accumulate=2 the sides of a game step from the same weights; say so with at_once=True"):
        Model(AdversarialNonSaturating(*given()), accumulate=2)


@pytest.mark.parametrize("options", [{"n_critic": 2}, {"at_once": True}], ids=["in turns", "at once"])
def test_a_compiled_model_takes_the_same_steps(options):
    found = []
    values = {"x": torch.randn(8, 3), "z": torch.randn(8, 2)}
    for compile in (False, {"backend": "eager"}):
        model = Model(AdversarialNonSaturating(*given()), compile=compile, **SGD, **options)
        losses = torch.stack([model.train(values) for _ in range(4)])
        found.append((losses, *[w.detach() for w in model.trained_parameters]))
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(eager, compiled, equal_nan=True)


def test_the_average_is_of_the_generator_alone():
    model = gan(ema=0.5, optimizer=optim.SGD)
    p, d = model.p, model.discriminator
    for _ in range(3):
        model.train(X)
    before = [[w.clone() for w in r.parameters()] for r in (p, d)]
    with model.averaged():
        assert all(not torch.equal(a, w) for a, w in zip(before[0], p.parameters(), strict=True))
        assert all(torch.equal(a, w) for a, w in zip(before[1], d.parameters(), strict=True))


def test_the_weight_of_a_penalty_has_a_schedule():
    p, d = players()
    loss = AdversarialNonSaturating(p, d) - Parameter("gamma") * R1(p, d)
    model = Model(loss, schedules={"gamma": LinearSchedule(2.0, 0.0, steps=2)})
    for gamma in (2.0, 1.0, 0.0, 0.0):
        torch.manual_seed(1)
        scheduled = model.test(X)
        torch.manual_seed(1)
        assert torch.equal(scheduled, model.test({**X, "gamma": gamma}))
        if gamma:
            assert not torch.equal(scheduled, model.test({**X, "gamma": 0.0}))
        model.train(X)


def test_a_discriminator_that_has_diverged_is_named():
    model = gan()
    model.train(X)
    with torch.no_grad():
        next(model.discriminator.parameters()).fill_(torch.nan)
    before = [w.clone() for w in model.p.parameters()]
    with pytest.raises(
        NonFiniteLossError, match=r"log d\(x\) is nan for 20 of 20 data, so .* is not finite. The optimiser has not stepped"
    ):
        model.train(X)
    assert all(torch.equal(a, w) for a, w in zip(before, model.p.parameters(), strict=True))
