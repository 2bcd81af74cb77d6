"""A discriminator whose last layer gives probabilities is warned of when the game is built."""

import warnings

import pytest
import torch
from torch import nn

from pixyz.distributions import Bernoulli, Deterministic, Normal
from pixyz.gan import GAN, AdversarialNonSaturating, AdversarialWassersteinDistance, Packed


def generator():
    return Normal("p(x)", loc=nn.Parameter(torch.zeros(3)), scale=1.0)


def of(*layers, **options):
    return Deterministic("d(t|x)", t=nn.Sequential(nn.Linear(3, 1), *layers), **options)


SQUASHED = {
    "Sigmoid": lambda: of(nn.Sigmoid()),
    "Hardsigmoid": lambda: of(nn.Hardsigmoid()),
    "Softmax": lambda: of(nn.Softmax(-1)),
    "LogSigmoid": lambda: of(nn.Sequential(nn.Linear(1, 1), nn.LogSigmoid())),
    "Sigmoid, nested and flattened": lambda: of(nn.Sequential(nn.Sequential(nn.Sigmoid())), nn.Flatten()),
    "Sigmoid, packed": lambda: Deterministic("d(t|x)", t=Packed(nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()), 2)),
    "Sigmoid, as a logit": lambda: Bernoulli("d(t|x)", logits=nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())),
    "Sigmoid, alone": lambda: Deterministic("d(t|x)", t=nn.Sigmoid()),
}


@pytest.mark.parametrize("name", SQUASHED)
@pytest.mark.parametrize("game", [AdversarialNonSaturating, AdversarialWassersteinDistance])
def test_a_discriminator_that_ends_in_a_probability_is_warned_of(game, name):
    d = SQUASHED[name]()
    layer = name.split(",")[0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            game(generator(), d)
        except ValueError:  # a network without parameters is no player either
            assert name == "Sigmoid, alone"
    (warning,) = caught
    assert str(warning.message) == (
        f"d(t|x): its network ends in a {layer}, so its numbers are probabilities, or their logarithms. It must give logits, any number: "
        f"leave the {layer} out of its network, for the loss has one where it needs it."
    )
    assert warning.filename == __file__


LOGITS = {
    "a linear layer": of,
    "a sigmoid inside": lambda: of(nn.Sigmoid(), nn.Linear(1, 1)),
    "a tanh": lambda: of(nn.Tanh()),
    "probabilities of a Bernoulli": lambda: Bernoulli("d(t|x)", probs=nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())),
}


@pytest.mark.parametrize("name", LOGITS)
def test_a_discriminator_of_logits_is_not_warned_of(name):
    AdversarialNonSaturating(generator(), LOGITS[name]())  # every warning is an error here


def test_a_model_warns_of_it_once():
    d = of(nn.Sigmoid())
    with pytest.warns(UserWarning, match="its network ends in a Sigmoid"):
        model = GAN(generator(), d)
    for _ in range(21):
        model.train({"x": torch.randn(4, 3)})
