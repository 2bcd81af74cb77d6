"""Training: against hand-written loops, modes, clipping, printing, and losses that are not finite."""

import copy
import math
import re

import pytest
import torch
from placed import NoiseOfTheCPU, on
from torch import nn, optim
from zoo import Decoder, Encoder, Label, binary, prior

import pixyz.models
from pixyz.core import NonFiniteLossError, ParameterError, seeded
from pixyz.distributions import Normal
from pixyz.losses import ELBO, NLL, KullbackLeibler, Parameter
from pixyz.models import ML, VAE, VI, Model


def hand_written(p, q, x, num_steps, *, kl_form):
    """The same steps without the library's losses."""
    optimiser = optim.Adam([*p.parameters(), *q.parameters()], lr=1e-2)
    losses = []
    for _ in range(num_steps):
        given = q(x=x)
        loc, scale = given["loc"], given["scale"]
        z = loc + scale * torch.randn_like(loc)
        reconstruction = torch.distributions.Bernoulli(p(z=z)["probs"]).log_prob(x).sum(-1)
        if kl_form:
            kl = 0.5 * (loc**2 + scale**2 - 1 - 2 * scale.log()).sum(-1)
        else:
            kl = (torch.distributions.Normal(loc, scale).log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z)).sum(-1)
        loss = (kl - reconstruction).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


DTYPES = pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["float64", "float32"])


@pytest.mark.gpu
@DTYPES
@pytest.mark.parametrize("kl_form", [False, True], ids=["VI", "VAE"])
def test_forty_steps_equal_a_hand_written_loop(kl_form, dtype, atol, device):
    torch.set_default_dtype(dtype)
    p, q = Decoder(), Encoder()
    p2, q2 = copy.deepcopy(p), copy.deepcopy(q)
    x, z = binary(20).to(dtype), prior().to(dtype).to(device)
    p.to(device), q.to(device)
    options = {"optimizer": optim.Adam, "optimizer_params": {"lr": 1e-2}}
    model = VAE(q, p, z, **options) if kl_form else VI(p * z, q, **options)
    with seeded(0), NoiseOfTheCPU():
        ours = [model.train({"x": x.to(device)}).item() for _ in range(40)]
    with seeded(0):
        theirs = hand_written(p2, q2, x, 40, kl_form=kl_form)
    assert ours == pytest.approx(theirs, abs=atol)
    for a, b in zip([*p.parameters(), *q.parameters()], [*p2.parameters(), *q2.parameters()]):
        torch.testing.assert_close(a.cpu(), b, rtol=0, atol=atol)


@pytest.mark.gpu
@DTYPES
def test_forty_steps_of_maximum_likelihood_equal_a_hand_written_loop(dtype, atol, device):
    torch.set_default_dtype(dtype)
    f = Label()
    f2 = copy.deepcopy(f)
    f.to(device)
    x, index = torch.randn(20, 6), torch.arange(20) % 3
    model = ML(f, optimizer=optim.Adam, optimizer_params={"lr": 1e-2})
    optimiser = optim.Adam(f2.parameters(), lr=1e-2)
    for _ in range(40):
        ours = model.train(on(device, {"x": x, "y": torch.eye(3)[index]}))
        theirs = nn.functional.cross_entropy(f2.fc(x), index)
        optimiser.zero_grad()
        theirs.backward()
        optimiser.step()
        assert ours.item() == pytest.approx(theirs.item(), abs=atol)
    for a, b in zip(f.parameters(), f2.parameters()):
        torch.testing.assert_close(a.cpu(), b, rtol=0, atol=atol)


def test_ml_is_the_mean_over_the_batch():
    f = Label()
    x, y = binary(8), torch.eye(3)[torch.arange(8) % 3]
    loss = ML(f).train({"x": x, "y": y})
    f2 = Label()
    assert str(ML(f2).loss) == "mean(-log p(y|x))"
    assert loss.item() == pytest.approx(1.1, abs=0.3)
    assert not loss.requires_grad


def test_maximum_likelihood_finds_the_moments():
    x = torch.randn(500, 3) * 2 + 1
    loc, log_scale = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))

    class P(Normal):
        def __init__(self):
            super().__init__(var=["x"])
            self.loc, self.log_scale = loc, log_scale

        def forward(self):
            return {"loc": self.loc, "scale": self.log_scale.exp()}

    model = ML(P(), optimizer=optim.Adam, optimizer_params={"lr": 0.05})
    for _ in range(500):
        model.train({"x": x})
    torch.testing.assert_close(loc.detach(), x.mean(0), atol=1e-2, rtol=0)
    torch.testing.assert_close(log_scale.detach().exp(), x.std(0, unbiased=False), atol=2e-2, rtol=0)


def test_test_evaluates_and_restores_every_mode():
    q = Encoder(dropout=0.5)
    model = VAE(q, Decoder(), prior())
    x = binary()
    q.drop.eval()  # the user's own choice, deep inside
    model.loss.train()
    q.drop.eval()
    before = [(m, m.training) for m in model.loss.modules()]
    with seeded(0):
        a = model.test({"x": x})
    with seeded(0):
        b = model.test({"x": x})
    assert torch.equal(a, b)
    assert not a.requires_grad
    assert [(m, m.training) for m in model.loss.modules()] == before


def test_train_sets_train_mode():
    q = Encoder(dropout=0.5)
    model = VAE(q, Decoder(), prior())
    q.eval()
    model.train({"x": binary()})
    assert q.drop.training


def test_a_test_loss_of_its_own():
    p, q, z = Decoder(), Encoder(), prior()
    model = Model(-ELBO(p * z, q).mean(), KullbackLeibler(q, z).mean())
    x = binary()
    torch.testing.assert_close(model.test({"x": x}), KullbackLeibler(q, z).mean().estimate({"x": x}).detach())


@pytest.mark.parametrize("clip", [{"clip_grad_norm": 1e-3}, {"clip_grad_value": 1e-4}])
def test_gradients_are_clipped(clip):
    p, q = Decoder(), Encoder()
    model = VI(p * prior(), q, optimizer=optim.SGD, optimizer_params={"lr": 1.0}, **clip)
    before = [w.detach().clone() for w in model.trained_parameters]
    model.train({"x": binary()})
    moved = torch.cat([(w - b).flatten() for w, b in zip(model.trained_parameters, before)]).detach()
    if "clip_grad_norm" in clip:
        assert moved.norm().item() == pytest.approx(1e-3, rel=1e-2)
    else:
        assert 0 < moved.abs().max().item() <= 1e-4 * (1 + 1e-2)


def test_only_the_named_distributions_are_trained():
    p, q = Decoder(), Encoder()
    with pytest.warns(UserWarning, match=r"uses p\(x\|z\), which nobody trains\. Add it to the distributions, or say that it is fixed"):
        model = Model(-ELBO(p * prior(), q).mean(), distributions=[q])
    before = copy.deepcopy(p.state_dict())
    model.train({"x": binary()})
    assert all(torch.equal(before[k], v) for k, v in p.state_dict().items())
    assert model.trained_parameters == [*q.parameters()]


def test_a_joint_may_name_what_is_trained():
    p, q = Decoder(), Encoder()
    model = Model(-ELBO(p * prior(), q).mean(), distributions=[p * prior(), q])
    assert len(model.trained_parameters) == len([*p.parameters(), *q.parameters()])


def test_parameters_of_the_formula_are_trained():
    p, q = Decoder(), Encoder()
    weight = nn.Parameter(torch.tensor(1.0))
    model = Model((weight * KullbackLeibler(q, prior()) + NLL(p).expectation(q)).mean())
    model.train({"x": binary()})
    assert weight.item() != 1.0


def test_a_schedule_is_given_with_the_data():
    p, q = Decoder(), Encoder()
    beta = Parameter("beta")
    model = Model((beta * KullbackLeibler(q, prior()) - p.log_prob().expectation(q)).mean())
    assert model.train({"x": binary(), "beta": 0.0}).isfinite()
    assert model.train({"x": binary(), "beta": torch.tensor(1.0)}).isfinite()


def test_print():
    model = VI(Decoder() * prior(), Encoder(), optimizer=optim.Adam, optimizer_params={"lr": 1e-3}, clip_grad_norm=5)
    assert str(model) == (
        "VI\n"
        "  minimises:  -mean(E_q(z|x)[log p(x,z)/q(z|x)])\n"
        "  trains:     p(x|z): 78 parameters\n"
        "              q(z|x): 92 parameters\n"
        "  optimiser:  Adam(lr=0.001)\n"
        "  gradients:  clipped at norm 5"
    )


def weights(model):
    return [w.detach().clone() for w in model.trained_parameters]


def assert_not_stepped(model, before):
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model)))
    assert not model.optimizer.state


def test_a_loss_that_is_not_finite_names_the_term_and_the_data():
    class Wild(Normal):
        """p(x|z), whose scale is so small that two of the data overflow."""

        def __init__(self):
            super().__init__(var=["x"], cond_var=["z"])
            self.fc = nn.Linear(2, 6)

        def forward(self, z):
            loc = self.fc(z)
            scale = torch.ones_like(loc)
            scale[:2] = 1e-30
            return {"loc": loc, "scale": scale}

    q = Encoder()
    model = VAE(q, Wild(), prior())
    before = weights(model)
    with pytest.raises(
        NonFiniteLossError, match=r"^log p\(x\|z\) is -infinite for 2 of 5 data, so mean\(.*\) is not finite\. The optimiser has not"
    ):
        model.train({"x": binary()})
    assert_not_stepped(model, before)


def test_a_nan_of_the_users_own_names_its_term():
    q, p = Encoder(), Decoder()
    model = Model((Parameter("beta") * KullbackLeibler(q, prior()) + NLL(p).expectation(q)).mean())
    before = weights(model)
    with pytest.raises(NonFiniteLossError, match="^beta is nan, so mean") as caught:
        model.train({"x": binary(), "beta": float("nan")})
    assert_not_stepped(model, before)
    values = caught.value.explanation.as_dict()
    assert math.isnan(values["beta"])
    assert math.isfinite(next(value for text, value in values.items() if text.startswith("KL[")))
    assert re.search(r"\n +beta +nan", str(caught.value))


def test_a_nan_in_the_weights_stops_before_the_step():
    q, p = Encoder(), Decoder()
    model = VAE(q, p, prior())
    with torch.no_grad():
        q.loc.bias[0] = float("nan")
    before = weights(model)
    with pytest.raises(NonFiniteLossError, match=r"q\(z\|x\): loc must be a number, but 5 of 10 are not .* The optimiser has not stepped"):
        model.train({"x": binary()})
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(before, weights(model)))
    assert not model.optimizer.state


def test_the_diagnosis_sees_the_samples_that_failed():
    """A term that overflows for some draws only is found again, because the draws are the same."""

    class Cliff(Normal):
        def __init__(self):
            super().__init__(var=["x"], cond_var=["z"])
            self.fc = nn.Linear(2, 6)

        def forward(self, z):
            loc = self.fc(z)
            return {"loc": torch.where(z[:, :1] > 1.5, torch.full_like(loc, 1e30), loc), "scale": torch.ones_like(loc)}

    model = VAE(Encoder(), Cliff(), prior())
    for seed in range(50):
        torch.manual_seed(seed)
        try:
            model.train({"x": binary()})
        except NonFiniteLossError as error:
            assert str(error).startswith("log p(x|z) is -infinite for")
            break
    else:
        pytest.fail("no draw overflowed")


def test_compiled_models_say_it_too():
    q, p = Encoder(), Decoder()
    model = VAE(q, p, prior())
    model.loss.compile(fullgraph=True, backend="eager")
    with torch.no_grad():
        p.fc2.bias[0] = float("nan")
    with pytest.raises(NonFiniteLossError, match=r"p\(x\|z\)"):
        model.train({"x": binary()})


def test_an_optimiser_with_nothing_to_train():
    with pytest.raises(ParameterError, match="has no parameters to train"):
        ML(prior())


def test_the_public_api_is_what_is_listed():
    plots = {"plot_history", "plot_latent", "plot_reconstructions", "plot_samples"}
    found = {"Checkpoint", "Evaluation", "History", "LogLikelihood"}
    schedules = {"CyclicalSchedule", "LinearSchedule"}
    assert set(pixyz.models.__all__) == {"Model", "Optimizer", "VI", "VAE", "ML", "scaled_losses", *found, *schedules, *plots}


def test_the_diagnosis_leaves_the_model_as_it_was():
    class Normalised(Normal):
        def __init__(self):
            super().__init__(var=["x"], cond_var=["z"])
            self.net = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6))

        def forward(self, z):
            loc = self.net(z)
            return {"loc": loc, "scale": torch.ones_like(loc)}

    p, q = Normalised(), Encoder()
    model = Model((Parameter("c") * NLL(p).expectation(q)).mean())
    with pytest.raises(NonFiniteLossError, match="^c is nan"):
        model.train({"x": binary(), "c": float("nan")})
    assert p.net[1].num_batches_tracked == 1


def test_an_impossible_value_is_not_blamed():
    """q(y|x) = 0 for one value adds nothing; what is infinite is log p(x|y)."""

    class Q(Label):
        def forward(self, x):
            probs = self.fc(x).softmax(-1) * torch.tensor([1.0, 1.0, 0.0])
            return {"probs": probs / probs.sum(-1, keepdim=True)}

    class P(Normal):
        def forward(self, y):
            return {"loc": y @ torch.ones(3, 6), "scale": torch.full((len(y), 6), 1e-30)}

    model = Model(NLL(P(var=["x"], cond_var=["y"])).expectation(Q(name="q")).mean())
    with pytest.raises(NonFiniteLossError, match=r"^log p\(x\|y\) is -infinite"):
        model.train({"x": binary()})


def test_a_schedule_of_numbers_is_one_graph():
    torch._dynamo.reset()
    kl = KullbackLeibler(Encoder(), prior())
    model = Model((Parameter("beta") * kl).mean())
    model.loss.compile(fullgraph=True, backend="eager")
    for i in range(12):
        model.train({"x": binary(), "beta": i / 10})
