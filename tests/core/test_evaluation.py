"""One evaluation runs each network once per distinct input, and nothing lives beyond it."""

import gc
import weakref

import pytest
import torch
from torch import nn, optim
from zoo import Decoder, Encoder, binary, prior

from pixyz.core import seeded
from pixyz.distributions import Normal
from pixyz.losses import ELBO, KullbackLeibler
from pixyz.models import VI, Model


@pytest.fixture
def vae():
    return Decoder(), Encoder(), prior()


def count_calls(module):
    """A list that grows by one at every call of the module's network."""
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def kl_form(p, q, prior, **options):
    return -(p.log_prob().expectation(q, **options) - KullbackLeibler(q, prior)).mean()


def estimate(loss, x):
    with seeded(3), torch.no_grad():
        return loss.estimate({"x": x})


def test_same_tensor_object_twice_in_training(vae):
    p, q, prior = vae
    x = binary()
    model = VI(p * prior, q, optimizer=optim.SGD, optimizer_params={"lr": 0.5})
    model.train({"x": x})
    after_one_step = estimate(model.loss, x)
    assert after_one_step == estimate(model.loss, x.clone())
    model.train({"x": x})
    assert estimate(model.loss, x) == estimate(model.loss, x.clone()) != after_one_step


def test_value_changed_in_place_between_evaluations(vae):
    p, q, prior = vae
    loss, x = kl_form(p, q, prior), binary()
    before = estimate(loss, x)
    x.copy_(1 - x)
    assert estimate(loss, x) == estimate(loss, x.clone()) != before


def test_parameters_changed_by_load_state_dict(vae):
    p, q, prior = vae
    loss, x = kl_form(p, q, prior), binary()
    before = estimate(loss, x)
    other = kl_form(Decoder(), Encoder(), prior)
    loss.load_state_dict(other.state_dict())
    assert estimate(loss, x) == estimate(other, x) != before


def test_parameters_changed_by_an_optimiser_step(vae):
    p, q, prior = vae
    loss, x = kl_form(p, q, prior), binary()
    optimiser = optim.SGD(loss.parameters(), lr=1.0)
    before = estimate(loss, x)
    loss.estimate({"x": x}).backward()
    optimiser.step()
    fresh = kl_form(*[type(d)() for d in (p, q)], prior)
    fresh.load_state_dict(loss.state_dict())
    assert estimate(loss, x) == estimate(fresh, x) != before


def test_no_grad_sampling_then_training_on_the_same_tensor(vae):
    p, q, prior = vae
    x = binary()
    with torch.no_grad():
        assert not q.sample({"x": x})["z"].requires_grad
    (-ELBO(p * prior, q).mean()).estimate({"x": x}).backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in q.parameters())


def test_dropout_in_train_then_eval(vae):
    p, _, prior = vae
    q, x = Encoder(dropout=0.5), binary(64)
    loss = kl_form(p, q, prior)
    loss.train()
    kl = KullbackLeibler(q, prior)
    kl.train()
    assert not torch.equal(kl.estimate({"x": x}), kl.estimate({"x": x}))
    kl.eval()
    assert torch.equal(kl.estimate({"x": x}), kl.estimate({"x": x}))


def test_deleted_model_and_30_past_batches_are_released():
    p, q = Decoder(), Encoder()
    model = VI(p * prior(), q)
    batches = []
    for _ in range(30):
        x = binary()
        model.train({"x": x})
        batches.append(weakref.ref(x))
    del x
    gc.collect()
    assert not any(b() is not None for b in batches)
    parts = [weakref.ref(m) for m in (p, q, model.loss)]
    del p, q, model
    gc.collect()
    assert not any(m() is not None for m in parts)


@pytest.mark.parametrize("num_samples", [1, 7])
@pytest.mark.parametrize("form", ["ELBO", "KL"])
def test_encoder_and_decoder_run_exactly_once_per_step(vae, form, num_samples):
    p, q, prior = vae
    elbo = -ELBO(p * prior, q, num_samples=num_samples).mean()
    model = Model(elbo if form == "ELBO" else kl_form(p, q, prior, num_samples=num_samples))
    encoder, decoder = count_calls(q), count_calls(p)
    for step in range(1, 4):
        model.train({"x": binary()})
        assert (len(encoder), len(decoder)) == (step, step)


def test_values_are_never_modified(vae):
    p, q, prior = vae
    x = binary()
    values, kept = {"x": x, "else": "untouched"}, x.clone()
    kl_form(p, q, prior).estimate(values)
    q.sample({"x": x})
    assert list(values) == ["x", "else"]
    assert torch.equal(x, kept)


def test_evaluation_is_reentrant(vae):
    p, q, prior = vae

    class Nosy(Normal):
        """Evaluates another loss in the middle of its own forward."""

        def forward(self, z):
            inner = KullbackLeibler(q, prior).estimate({"x": x})
            return {"loc": z + 0 * inner.mean(), "scale": torch.ones_like(z)}

    x = binary()
    nosy = Nosy(var=["w"], cond_var=["z"], name="r")
    joint = nosy.log_prob().expectation(q)
    encoder = count_calls(q)
    value = joint.estimate({"x": x, "w": torch.zeros(5, 2)})
    assert value.shape == (5,)
    assert len(encoder) == 2


def test_forward_hooks_run(vae):
    p, q, prior = vae
    seen = []
    q.register_forward_hook(lambda module, args, kwargs, out: seen.append(set(kwargs)), with_kwargs=True)
    kl_form(p, q, prior).estimate({"x": binary()})
    assert seen == [{"x"}]


def test_no_process_wide_switch_is_touched(vae):
    p, q, prior = vae
    validate = torch.distributions.Distribution._validate_args
    dtype = torch.get_default_dtype()
    kl_form(p, q, prior).estimate({"x": binary()})
    assert torch.distributions.Distribution._validate_args is validate
    assert torch.get_default_dtype() is dtype


def test_seeded_restores_the_generator():
    state = torch.get_rng_state()
    with seeded(1):
        a = torch.rand(3)
    with seeded(1):
        b = torch.rand(3)
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)


class Conv(Normal):
    """An encoder with a convolution and batch normalisation."""

    def __init__(self, var, cond_var, name):
        super().__init__(var=[var], cond_var=[cond_var], name=name)
        self.net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1))
        self.shapes = []

    def forward(self, **given):
        (x,) = given.values()
        self.shapes.append(tuple(x.shape))
        h = self.net(x)
        return {"loc": h, "scale": torch.ones_like(h)}


def test_many_samples_in_one_call_with_convolutions_and_batch_norm():
    q, p = Conv("z", "x", "q"), Conv("x", "z", "p")
    loss = p.log_prob().expectation(q, num_samples=4)
    value = loss.estimate({"x": torch.randn(5, 1, 6, 6)})
    assert value.shape == (5,)
    assert p.shapes == [(20, 1, 6, 6)]
    assert q.shapes == [(5, 1, 6, 6)]
    value.sum().backward()
    assert all(w.grad is not None for w in q.parameters())
