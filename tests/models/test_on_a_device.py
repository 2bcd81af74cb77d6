"""A trained model on a device answers what one on the CPU answers, from the same noise; its errors come there too."""

import pytest
import torch
from placed import NoiseOfTheCPU, on
from torch import nn, optim
from zoo import Decoder, Encoder, binary, prior

from pixyz.core import NonFiniteLossError, SupportError, seeded
from pixyz.distributions import Bernoulli, Normal
from pixyz.models import ML, VI, Model

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


def data():
    with seeded(5):
        return {"x": binary(8).double()}


def trained(device):
    """A model after three steps, with all that happens around them."""
    with seeded(1), NoiseOfTheCPU():
        p, q, z = Decoder(), Encoder(dropout=0.2), prior().double()
        for part in (p, q, z):
            part.to(device)
        options = {"optimizer": optim.Adam, "optimizer_params": {"lr": 1e-2}, "clip_grad_norm": 1.0, "ema": 0.9, "accumulate": 2}
        model = VI(p * z, q, **options)
        for _ in range(4):
            model.train(on(device, data()))
    return model


ASKED = {
    "the weights": lambda model: torch.cat([w.detach().flatten() for w in model.trained_parameters]),
    "test": lambda model: model.test(on(model.trained_parameters[0].device, data())),
    "samples": lambda model: model.sample(3)["x"],
    "codes": lambda model: model.infer(data())["z"],
    "means of codes": lambda model: model.infer(data(), mean_of="z")["z"],
    "reconstructions": lambda model: model.reconstruct(data())["x"],
    "the likelihood": lambda model: model.log_likelihood(data(), num_samples=5).each,
    "every term": lambda model: torch.tensor([*model.evaluate(data()).terms.values()]),
}


def answer(device, ask):
    model = trained(device)
    with seeded(2), NoiseOfTheCPU():
        return torch.as_tensor(ask(model)).detach().cpu().double()


@pytest.mark.parametrize("what", ASKED)
def test_it_answers_what_a_model_on_the_cpu_answers(what, device):
    if what in ("the likelihood", "every term"):
        pytest.importorskip("tqdm.auto", reason="tqdm shows the progress through batches")
    torch.testing.assert_close(answer(device, ASKED[what]), answer(torch.device("cpu"), ASKED[what]), rtol=1e-8, atol=1e-10)


def three_steps(model, values):
    """On a device an error may come one step late."""
    for _ in range(3):
        model.train(values)


def test_a_value_outside_of_the_support_is_named_and_no_later_step_changes_a_weight(device):
    model = trained(device)
    before = [w.detach().clone() for w in model.trained_parameters]
    with pytest.raises(SupportError, match=r"p\(x\|z\) \(Bernoulli\): x must be 0 or 1"):
        three_steps(model, on(device, {"x": torch.full((3, 6), 2.0)}))
    assert all(torch.equal(a, b) for a, b in zip(before, model.trained_parameters))


def test_a_loss_that_is_nan_changes_no_weight_and_is_named(device):
    p = Normal("p(y|x)", loc=nn.Linear(2, 1), scale=1.0).to(device)
    model = ML(p, optimizer=optim.SGD, optimizer_params={"lr": 0.1})
    before = [w.detach().clone() for w in model.trained_parameters]
    values = on(device, {"x": torch.full((3, 2), 1e200), "y": torch.full((3, 1), 1e200)})
    with pytest.raises(NonFiniteLossError):
        three_steps(model, values)
    assert all(torch.equal(a, b) for a, b in zip(before, model.trained_parameters))


@pytest.mark.parametrize("make", [optim.Adam, optim.SGD, optim.RMSprop])
def test_a_model_moves_with_all_that_it_remembers(make, device):
    p = Bernoulli("p(x)", logits=nn.Parameter(torch.zeros(6)))
    q = Bernoulli("p(x)", logits=nn.Parameter(torch.ones(6)))
    model = Model(-p.log_prob().mean(), -q.log_prob().mean(), p=q, optimizer=make, optimizer_params={"lr": 0.1}, ema=0.9)
    x = torch.ones(4, 6)
    model.train({"x": x})
    assert model.to(device) is model
    model.train({"x": x.to(device)})
    assert model.test({"x": x.to(device)}).device.type == device.type
    model.to("cpu").train({"x": x})
    assert model.step_count == 3
    assert {v.device.type for s in model.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)} <= {"cpu"}
