"""Games in training: several players, sums with other losses, `fit`, checkpoints, processes."""

import copy
import subprocess
import sys
import textwrap

import pytest
import torch
from lightning.pytorch.loggers import Logger
from torch import nn, optim

from pixyz.core import CheckpointError, NonFiniteLossError, Parameter
from pixyz.distributions import Categorical, Deterministic, Laplace, Normal
from pixyz.gan import GAN, R1, AdversarialHinge, AdversarialJensenShannon, AdversarialLeastSquares, AdversarialNonSaturating
from pixyz.losses import ELBO
from pixyz.models import LinearSchedule, Model

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


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


SGD = {"optimizer": optim.SGD, "optimizer_params": {"lr": 0.1}}


def test_two_generators_and_two_discriminators_are_the_hand_written_loop():
    """CycleGAN: least squares both ways, and L1 around."""
    f, g, d, e = [network(2, n) for n in (2, 2, 1, 1)]
    there, back = Deterministic("f(y|x)", y=f), Deterministic("g(x|y)", x=g)
    games = AdversarialLeastSquares(there, Deterministic("d(t|y)", t=d)) + AdversarialLeastSquares(back, Deterministic("e(t|x)", t=e))
    around = Laplace("r(x|y)", loc=g, scale=1.0).log_prob().expectation(there)
    around_again = Laplace("s(y|x)", loc=f, scale=1.0).log_prob().expectation(back)
    theirs = [copy.deepcopy(net) for net in (f, g, d, e)]
    model = Model(games - 0.5 * (around + around_again).mean(), **SGD)
    data = torch.randn(6, 2, 5, 2)
    for x, y in data:
        model.train({"x": x, "y": y})
    f, g, d, e = theirs
    constant = 4 * torch.tensor(2.0).log()
    for x, y in data:
        most = -sum(0.5 * ((net(real) - 1) ** 2).mean() + 0.5 * (net(fake) ** 2).mean() for net, real, fake in ((d, y, f(x)), (e, x, g(y))))
        weights = [*d.parameters(), *e.parameters()]
        for w, slope in zip(weights, torch.autograd.grad(most, weights), strict=True):
            w.data += 0.1 * slope
        least = 0.5 * ((d(f(x)) - 1) ** 2).mean() + 0.5 * ((e(g(y)) - 1) ** 2).mean()
        rounds = (g(f(x)) - x).abs().sum(-1) + (f(g(y)) - y).abs().sum(-1) + constant
        least = least + 0.5 * rounds.mean()
        weights = [*f.parameters(), *g.parameters()]
        for w, slope in zip(weights, torch.autograd.grad(least, weights), strict=True):
            w.data -= 0.1 * slope
    found = [there, back, *[leaf for leaf in model.distributions if leaf.name in "de"]]
    for leaf, net in zip(found, theirs, strict=True):
        for a, b in zip(leaf.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


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


def assert_same(a, b):
    for v, w in zip(a.trained_parameters, b.trained_parameters, strict=True):
        assert torch.equal(v, w)


class Rows(Logger):
    name, version = "rows", 0

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args, **kwargs):
        """There are none."""


X = {"x": torch.linspace(-1, 2, 60, dtype=torch.float64).reshape(20, 3)}


def test_fit_has_both_curves():
    rows, model = Rows(), gan()
    history = model.fit(X, epochs=3, batch_size=5, validate=X, logger=rows, log_every=2, progress=False)
    assert len(history.train) == len(history.discriminator) == len(history.validation) == 3
    logged = {name: [m[name] for _, m in rows.rows if name in m] for name in ("train/loss", "train/discriminator", "validation/loss")}
    assert list(logged.values()) == [history.train, history.discriminator, history.validation]
    assert str(history).splitlines()[0].split() == ["epoch", "train", "validation", "discriminator"]
    assert {"E_p_data(x)[log d(x)]", "E_p(x)[log d(x)]"} <= {name.removeprefix("train/") for _, m in rows.rows for name in m}


def test_a_fit_that_is_resumed_goes_on_bit_for_bit(tmp_path):
    """In the middle of an epoch, between two steps of the discriminator."""
    options = {
        "n_critic": 2,
        "ema": 0.9,
        "scheduler": optim.lr_scheduler.ExponentialLR,
        "scheduler_params": {"gamma": 0.9},
        "d_scheduler": optim.lr_scheduler.ExponentialLR,
        "d_scheduler_params": {"gamma": 0.8},
    }
    whole = gan(**options)
    whole_history = whole.fit(X, epochs=3, batch_size=5, save=tmp_path / "a_{step}", save_every=1, keep=None, progress=False)
    for step in (3, 6):
        resumed = gan(seed=1, **options)
        history = resumed.fit(X, epochs=3, batch_size=5, resume=tmp_path / f"a_{step}", progress=False)
        for found, wanted in ((history.train, whole_history.train), (history.discriminator, whole_history.discriminator)):
            assert found[-1] == wanted[-1]  # of the epoch that was cut, it is the mean of the rest
        assert_same(whole, resumed)
        with whole.averaged(), resumed.averaged():
            assert_same(whole, resumed)
    assert whole.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-2 * 0.9**6)  # a step in two
    assert whole.optimizers[1].param_groups[0]["lr"] == pytest.approx(1e-2 * 0.8**12)
    with pytest.raises(CheckpointError, match="is of another model. Nothing was loaded"):
        gan(loss=AdversarialHinge, **options).load(tmp_path / "a_3")


def test_calls_that_accumulate_are_one_call_with_all_data():
    x, z = torch.randn(8, 3), torch.randn(8, 2)
    models = [Model(AdversarialNonSaturating(*given()), at_once=True, accumulate=n, **SGD) for n in (1, 2)]
    models[0].train({"x": x, "z": z})
    for half in (slice(4), slice(4, 8)):
        models[1].train({"x": x[half], "z": z[half]})
    assert models[0].step_count == models[1].step_count == 1
    for a, b in zip(*[m.trained_parameters for m in models], strict=True):
        torch.testing.assert_close(a, b)


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


FITTED = """
    import sys
    import torch
    from torch import nn
    from pixyz.distributions import Deterministic
    from pixyz.gan import AdversarialNonSaturating, R1
    from pixyz.models import Model

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)

    def build():
        torch.manual_seed(0)
        p = Deterministic("p(x|z)", x=nn.Linear(2, 3))
        d = Deterministic("d(t|x)", t=nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)))
        return Model(AdversarialNonSaturating(p, d) - R1(p, d), optimizer=torch.optim.SGD, optimizer_params={"lr": 0.1}, n_critic=2)

    def fit(model, **options):
        torch.manual_seed(1)
        return model.fit({"x": torch.randn(32, 3), "z": torch.randn(32, 2)}, epochs=2, progress=False, **options)

    if __name__ == "__main__":
        model = build()
        history = fit(model, batch_size=4, accelerator="cpu", devices=2, strategy="ddp_fork")
        torch.save((model.loss.state_dict(), history.train, history.discriminator), sys.argv[1])
"""


def test_fit_on_two_processes_is_fit_with_the_whole_batch(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(FITTED))
    done = subprocess.run([sys.executable, str(program), str(tmp_path / "found.pt")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    weights, *losses = torch.load(tmp_path / "found.pt")
    there: dict = {"__name__": "there"}
    exec(textwrap.dedent(FITTED), there)
    model = there["build"]()
    start = {name: w.clone() for name, w in model.loss.state_dict().items()}
    history = there["fit"](model, batch_size=8)
    for name, weight in model.loss.state_dict().items():
        assert not torch.equal(start[name], weight)
        torch.testing.assert_close(weights[name], weight, rtol=1e-10, atol=1e-10)
    for found, wanted in zip(losses, (history.train, history.discriminator), strict=True):
        assert found == pytest.approx(wanted, abs=1e-10)
