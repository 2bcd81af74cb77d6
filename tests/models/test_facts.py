"""What a formula's text does not show is compared when a checkpoint is loaded: another value is rejected, with both shown."""

import json
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from zoo import Decoder, Encoder, binary, prior

from pixyz.core import CheckpointError
from pixyz.distributions import Bernoulli, Laplace, Normal
from pixyz.losses import (
    ELBO,
    MMD,
    NLL,
    Expectation,
    IterativeLoss,
    KullbackLeibler,
    LogProb,
    Relaxed,
    Renyi,
    Score,
    TotalCorrelation,
    Wasserstein,
)
from pixyz.models import ML, Model

X = binary(5)


def bound(**options):
    return -ELBO(Decoder() * prior(), Encoder(), **options).mean()


def with_prior(p):
    q = Encoder()
    return (KullbackLeibler(q, p, analytic=False) + NLL(Decoder()).expectation(q)).mean()


def code(**options):
    q, p = Bernoulli("q(z|x)", logits=nn.Linear(6, 2)), Bernoulli("p(x|z)", logits=nn.Linear(2, 6))
    return -ELBO(p * Bernoulli("p(z)", probs=torch.full((2,), 0.5)), q, **options).mean()


def network(*layers):
    return NLL(Bernoulli("p(x|z)", logits=nn.Sequential(nn.Linear(2, 6), *layers))).mean()


def sequence(**options):
    q, p = Normal("q(z|x,z_prev)", loc=lambda x, z_prev: x + z_prev, scale=0.5), Normal("p(x|z)", loc=nn.Linear(1, 1), scale=1.0)
    step = LogProb(p * Normal("p(z|z_prev,w)", loc="z_prev", scale="w")).expectation(q) * -1.0
    return IterativeLoss(step, series_var=["x"], **{"update_value": {"z": "z_prev"}, **options}).mean()


def sets(make, **options):
    p, q = Normal("p(z)", loc=nn.Parameter(torch.zeros(1)), scale=1.0), Normal("q(z)", loc=torch.zeros(1), scale=1.0)
    return 1.0 * make(p, q, **options)


def tensor_weight(value):
    return (torch.tensor([1.0, value]) * NLL(Normal("p(x)", loc=nn.Parameter(torch.zeros(1)), scale=1.0))).mean()


def held(value):
    p = Normal("p(x|z)", loc=nn.Linear(1, 1), scale=1.0)
    return NLL(p).constant_var({"z": torch.full((5, 1), value)}).mean()


def normal(loc=0.0, scale=1.0):
    return Normal("p(z)", loc=torch.full((2,), loc), scale=scale)


PAIRS = {
    "a constant of a prior": (
        lambda: with_prior(normal()),
        lambda: with_prior(normal(scale=2.0)),
        "p(z).scale: float32 () [1] in the file, float32 () [2] in this model, where it is a constant",
    ),
    "a tensor of a prior": (
        lambda: with_prior(normal()),
        lambda: with_prior(normal(0.5)),
        "p(z).loc: float32 (2,) [0, 0] in the file, float32 (2,) [0.5, 0.5] in this model, where it is a constant",
    ),
    "a family": (
        lambda: with_prior(normal()),
        lambda: with_prior(Laplace("p(z)", loc=torch.zeros(2), scale=1.0)),
        "p(z): is Normal in the file, Laplace in this model",
    ),
    "the number of draws": (
        lambda: bound(),
        lambda: bound(num_samples=8),
        "E_q(z|x)[log p(x,z)/q(z|x)]: num_samples 1 in the file, 8 in this model",
    ),
    "an estimator": (
        lambda: code(estimator="score", num_samples=2),
        lambda: code(estimator=Score(baseline=0.0), num_samples=2),
        "E_q(z|x)[log p(x,z)/q(z|x)]: estimator score in the file, Score(baseline=0.0) in this model",
    ),
    "a temperature": (
        lambda: code(estimator=Relaxed(0.5)),
        lambda: code(estimator=Relaxed(0.1)),
        "estimator Relaxed(temperature=0.5) in the file, Relaxed(temperature=0.1) in this model",
    ),
    "how much is enumerated": (
        lambda: LogProb(Decoder()).expectation(Encoder()).mean() * -1,
        lambda: Expectation(Encoder(), LogProb(Decoder()), max_enumerate=4).mean() * -1,
        "max_enumerate 256 in the file, 4 in this model",
    ),
    "shared draws": (
        lambda: Expectation(Encoder(), NLL(Decoder())).mean(),
        lambda: Expectation(Encoder(), NLL(Decoder()), share=False).mean(),
        "share True in the file, False in this model",
    ),
    "what a sequence hands on": (
        lambda: sequence(),
        lambda: sequence(update_value={"z": "w"}),
        "carried.updates.z z_prev in the file, w in this model",
    ),
    "a mask of a sequence": (lambda: sequence(), lambda: sequence(mask="m"), "mask None in the file, m in this model"),
    "an activation": (
        lambda: network(nn.ReLU()),
        lambda: network(nn.Tanh()),
        "p(x|z).given_networks.logits.1: is ReLU in the file, Tanh in this model",
    ),
    "one activation more": (
        lambda: network(),
        lambda: network(nn.Tanh()),
        "p(x|z).given_networks.logits.1: its options are only in this model",
    ),
    "dropout": (
        lambda: network(nn.Dropout(0.1)),
        lambda: network(nn.Dropout(0.5)),
        "p(x|z).given_networks.logits.1: options p=0.1, inplace=False in the file, p=0.5, inplace=False in this model",
    ),
    "a kernel": (lambda: sets(MMD), lambda: sets(MMD, sigma_sqr=4.0), "kernel.sigma_sqr.0 1.0 in the file, 4.0 in this model"),
    "a kernel's name": (
        lambda: sets(MMD),
        lambda: sets(MMD, kernel="inverse_multiquadric"),
        "kernel.shape gaussian in the file, inverse_multiquadric in this model",
    ),
    "an order": (
        lambda: sets(Wasserstein, order=1.00000001),
        lambda: sets(Wasserstein, order=1.00000002),
        "order 1.00000001 in the file, 1.00000002 in this model",
    ),
    "draws of a divergence": (
        lambda: sets(Renyi, alpha=0.5, analytic=False).mean(),
        lambda: sets(Renyi, alpha=0.5, analytic=False, num_samples=4).mean(),
        "num_samples 1 in the file, 4 in this model",
    ),
    "the size of a data set": (
        lambda: 1.0 * TotalCorrelation(Encoder(), 100),
        lambda: 1.0 * TotalCorrelation(Encoder(), 200),
        "TC(q(z|x)): dataset_size 100 in the file, 200 in this model",
    ),
    "weights of data": (
        lambda: tensor_weight(2.0),
        lambda: tensor_weight(3.0),
        "constant_0.value: float32 (2,) [1, 2] in the file, float32 (2,) [1, 3] in this model, where it is a constant",
    ),
    "values that are held": (lambda: held(1.0), lambda: held(2.0), "value: float32 (5, 1) [1, 1, 1, 1, …] #"),
}


@pytest.mark.filterwarnings("ignore:.*does not use")
@pytest.mark.parametrize("case", PAIRS)
def test_another_value_is_rejected_with_both_shown(case, tmp_path):
    make, other, message = PAIRS[case]
    loss, another = make(), other()
    assert str(loss) == str(another)
    path = Model(loss).save(tmp_path / "a")
    model = Model(another)
    before = {name: t.clone() for name, t in another.state_dict().items()}
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        model.load(path)
    assert "is of another model. Nothing was loaded." in str(caught.value)
    assert all([torch.equal(t, before[name]) for name, t in another.state_dict().items()])
    left = model.load(path, strict=False).left
    assert any([message in line for line in left])
    Model(make()).load(path)  # the same code builds a model that takes it


def test_a_part_that_stands_twice_is_written_once(tmp_path):
    part = sets(Renyi, alpha=0.5, analytic=False)
    path = Model((part + part.exp()).mean()).save(tmp_path / "a")
    with safe_open(path, "pt") as file:
        assert not [name for name in json.loads(file.metadata()["facts"]) if name.endswith(" (2)")]


def test_a_constant_that_differs_stays_that_of_the_model(tmp_path):
    path = Model(with_prior(normal())).save(tmp_path / "a")
    p = normal(0.5)
    model = Model(with_prior(p))
    model.load(path, strict=False)
    assert torch.equal(p.loc, torch.full((2,), 0.5))


TRAINED = {
    "draws": (bound, {"x": X}),
    "scores": (lambda: code(estimator="score", num_samples=2), {"x": X}),
    "statistics": (lambda: network(nn.BatchNorm1d(6), nn.Dropout(0.5)), {"x": X, "z": torch.ones(5, 2)}),
    "a divergence": (lambda: sets(Renyi, alpha=0.5, analytic=False).mean(), {}),
    "held values": (lambda: held(1.0), {"x": torch.ones(5, 1)}),
}


def facts_in(path):
    """The options of a formula, as a checkpoint holds them."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["facts"])


@pytest.mark.parametrize(("make", "values"), TRAINED.values(), ids=TRAINED)
def test_training_changes_no_option(make, values, tmp_path):
    model = Model(make())
    before = facts_in(model.save(tmp_path / "a"))
    model.train(values)
    model.evaluate(values)
    path = model.save(tmp_path / "b")
    assert facts_in(path) == before
    assert Model(make()).load(path).left == ()


class Counting(Normal):
    """p(x), with state of its own."""

    def __init__(self, width=1):
        super().__init__("p(x)")
        self.calls, self.width = 0, width
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self):
        self.calls += 1
        return {"loc": self.place, "scale": torch.ones(1)}


def test_what_a_users_class_keeps_is_its_own(tmp_path):
    model = ML(Counting())
    model.train({"x": torch.zeros(3, 1)})
    path = model.save(tmp_path / "a")
    renamed = type("Renamed", (Counting,), {})
    assert ML(renamed(width=2)).load(path).left == ()


def without_facts(path):
    with safe_open(path, "pt") as file:
        texts = file.metadata()
    del texts["facts"]
    save_file(load_file(path), path, texts)
    return path


def test_a_file_without_options_is_loaded_and_this_is_said(tmp_path):
    path = without_facts(Model(bound(num_samples=2)).save(tmp_path / "a"))
    with pytest.warns(UserWarning, match="was saved by a version that did not keep the options of a formula") as caught:
        found = Model(bound()).load(path)
    assert caught[0].filename == __file__
    assert found.left == ()


@pytest.mark.parametrize("facts", ["{", "[]", '{"a": 1}', '{"a": {"b": [1e999]}}'])
def test_options_that_no_model_wrote_are_an_error(facts, tmp_path):
    path = Model(bound()).save(tmp_path / "a")
    with safe_open(path, "pt") as file:
        texts = file.metadata()
    save_file(load_file(path), path, {**texts, "facts": facts})
    with pytest.raises(CheckpointError, match=r"its facts are no|its options are only in this model"):
        Model(bound()).load(path)
