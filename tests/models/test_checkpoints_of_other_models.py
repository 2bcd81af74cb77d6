"""A checkpoint of another model: it is rejected with the difference, or what fits is loaded and the rest is listed."""

import re
import warnings

import pytest
import torch
from checkpointed import same, snapshot, steps, vae
from torch import nn, optim
from zoo import Decoder, Encoder, Label, prior

from pixyz.core import CheckpointError, ParameterError, seeded
from pixyz.distributions import Normal
from pixyz.losses import NLL, KullbackLeibler
from pixyz.models import ML, VAE, VI, Model


def wider():
    return vae(hidden=9)


def of_a_bound():
    return VAE(Encoder(), Decoder(), prior(), optimizer_params={"lr": 1e-2})


def in_double():
    with seeded(1):
        p, q = Decoder().double(), Encoder(dropout=0.2).double()
    return VI(p * prior().double(), q, optimizer=optim.Adam, optimizer_params={"lr": 1e-2})


def one_part_trained():
    model = vae()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nobody trains the other
        return Model(model.loss, distributions=[model.q])


OTHERS = {
    "another formula": (
        of_a_bound,
        "- in the file:    -mean(E_q(z|x)[log p(x,z)/q(z|x)])\n  + in this model:  mean(-E_q(z|x)[log p(x|z)] + KL[q(z|x)||p_prior(z)])",
    ),
    "other shapes": (wider, "p(x|z).fc1.weight: (8, 2) in the file, (9, 2) in this model"),
    "another dtype": (in_double, "p(x|z).fc1.weight: float32 in the file, float64 in this model"),
    "another optimiser": (lambda: vae("SGD"), "Adam in the file, SGD in this model"),
    "other trained parameters": (
        one_part_trained,
        "Adam: trains 10 tensors in the file, 6 tensors in this model, first p(x|z).fc1.weight for",
    ),
    "a scheduler": (lambda: vae(scheduler="StepLR"), "schedulers: 0 in the file, 1 in this model"),
    "a moving average": (lambda: vae(ema=True), "the moving average of the weights: only in this model"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_model_is_refused_and_left_as_it_is(other, tmp_path):
    build, message = OTHERS[other]
    model = vae()
    steps(model, 2)
    model.save(tmp_path / "a")
    fresh = build()
    before = snapshot(fresh)
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        fresh.load(tmp_path / "a")
    assert str(caught.value).startswith(f"{tmp_path / 'a'} is of another model. Nothing was loaded.")
    assert "strict=False" in str(caught.value)
    assert "… and -" not in str(caught.value)
    assert same(snapshot(fresh), before)


def test_what_fits_is_loaded_and_the_rest_is_listed(tmp_path):
    model = vae()
    steps(model, 2)
    model.save(tmp_path / "a", extra={"epoch": 1})
    fresh = wider()
    before = snapshot(fresh)
    found = fresh.load(tmp_path / "a", strict=False)
    ours, theirs = dict(fresh.loss.state_dict()), dict(model.loss.state_dict())
    fitting = [n for n in ours if ours[n].shape == theirs[n].shape]
    assert [n for n in fitting if "prior" not in n] == ["p(x|z).fc2.bias", "q(z|x).loc.bias", "q(z|x).scale.bias"]
    assert all(same(ours[n], theirs[n] if n in fitting else before["weights"][n]) for n in ours)
    assert [line.split(":")[0] for line in found.left] == [*[n for n in ours if n not in fitting], "Adam"]
    assert (found.extra, found.step_count) == ({"epoch": 1}, 2)
    assert str(found).splitlines()[:4] == [
        str(tmp_path / "a"),
        "  formula:  -mean(E_q(z|x)[log p(x,z)/q(z|x)])",
        "  steps:    2",
        "  left: p(x|z).fc1.weight: (8, 2) in the file, (9, 2) in this model",
    ]


def test_weights_are_taken_over_by_another_formula(tmp_path):
    model = vae()
    steps(model, 2)
    model.save(tmp_path / "a")
    with seeded(5):
        classifier = Model(NLL(Label(name="q")).mean() + KullbackLeibler(Encoder(), prior()).mean())
    found = classifier.load(tmp_path / "a", strict=False)
    assert same(classifier.loss.state_dict()["q(z|x).fc1.weight"], model.loss.state_dict()["q(z|x).fc1.weight"])
    assert "q(y|x).fc.weight: only in this model" in found.left
    assert "p(x|z).fc1.weight: only in the file" in found.left


def test_a_parameter_without_a_shape(tmp_path):
    p, x = Normal("p(y|x)", loc=nn.LazyLinear(2), scale=1.0), {"x": torch.zeros(3, 4), "y": torch.zeros(3, 2)}
    model = ML(p)
    with pytest.raises(ParameterError, match=r"weight has no shape yet. Evaluate mean\(-log p\(y\|x\)\) once"):
        model.save(tmp_path / "a")
    model.train(x)
    model.save(tmp_path / "a")
