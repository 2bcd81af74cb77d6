"""Each bad formula has one clear error, when it is built: parameters, names, arguments of networks, terms, models."""

import pytest
import torch
from misuses import Two, Wide, check_one_clear_error, kl, score
from torch import nn
from zoo import Decoder, Encoder, Label, binary, prior

from pixyz.core import FormulaError, KindError, ParameterError, ShapeError
from pixyz.distributions import Bernoulli, Deterministic, Normal
from pixyz.losses import ELBO, NLL, Expectation, KullbackLeibler, LogProb, Parameter
from pixyz.models import ML, VAE, VI, Model


def two_networks_with_one_text():
    return Decoder().log_prob() + Decoder().log_prob()


class Clash(Normal):
    def __init__(self):
        super().__init__(var=["z"], cond_var=["x"])
        self.hidden_var = nn.Linear(6, 2)

    def forward(self, x):
        return {"loc": self.hidden_var(x), "scale": 1.0}


# name: (what is done, the error, its words)
CASES = {
    # two modules with one text
    "one text": (two_networks_with_one_text, FormulaError, "Two different distributions are both written p(x|z): a Decoder and a Decoder."),
    "one text in a joint": (lambda: prior() * prior().replace_var(z="w"), FormulaError, "both written p_prior(z)"),
    # names
    "a network that takes a name of ours": (Clash, FormulaError, "Clash: 'hidden_var' is a word of the library's own on a distribution"),
    "a string for a list": (lambda: Normal(var="z", loc=0.0, scale=1.0), KindError, "Write var=['z']."),
    "no name": (lambda: Normal(var=["z.1"], loc=0.0, scale=1.0), FormulaError, "'z.1' in var is no name of a variable"),
    "both sides of the bar": (lambda: Wide(var=["x"], cond_var=["x"]), FormulaError, "p(x|x): x stands on both sides of the bar."),
    "no variables": (lambda: Normal(var=[], loc=0.0, scale=1.0), FormulaError, "Normal: var is empty; a distribution is over at least one"),
    "a number for a network": (
        lambda: Normal("p(z|x)", 3, scale=1.0),
        KindError,
        "p(z|x): the network must be a module or a function; got a int.",
    ),
    "no features": (lambda: Normal("p(x)", loc=0.0, scale=1.0, dim=0), KindError, "p(x): dim must be a positive whole number; got 0."),
    "half a feature": (lambda: Normal("p(x)", loc=0.0, scale=1.0, dim=2.5), KindError, "dim must be a positive whole number; got 2.5."),
    "true features": (lambda: Normal("p(x)", loc=0.0, scale=1.0, dim=True), KindError, "dim must be a positive whole number; got True."),
    "a number for a shape": (
        lambda: Normal("p(x)", loc=0.0, scale=1.0, features_shape=3),
        KindError,
        "p(x): features_shape must be a list of positive whole numbers, like [3, 4]; got 3.",
    ),
    "a shape with a negative size": (
        lambda: Normal("p(x)", loc=0.0, scale=1.0, features_shape=[3, -1]),
        KindError,
        "features_shape must be a list of positive whole numbers, like [3, 4]; got [3, -1].",
    ),
    "a posterior of nothing": (
        lambda: prior().posterior(),
        FormulaError,
        "p_prior(z) hides nothing that is drawn, so say what to infer: posterior('z').",
    ),
    "an aggregate that is none": (
        lambda: Expectation(prior(), LogProb(prior()), aggregate="max"),
        KindError,
        "E_p_prior(z): aggregate must be 'mean', 'log_mean_exp', or the order of a Rényi bound, a number; got 'max'.",
    ),
    "twice": (lambda: Normal(var=["x", "x"], loc=0.0, scale=1.0), FormulaError, "names x twice"),
    "two variables": (lambda: Normal(var=["x", "y"], loc=0.0, scale=1.0), FormulaError, "a Normal has one variable"),
    # formulas
    "ELBO the wrong way round": (
        lambda: ELBO(Encoder(), Decoder() * prior()),
        FormulaError,
        "ELBO: p(x,z) draws all of q(z|x), so nothing is observed. The order is ELBO(p, q).",
    ),
    "ELBO of strangers": (lambda: ELBO(prior(), Label()), FormulaError, "ELBO: p(y|x) draws y, of which p_prior(z) knows nothing."),
    "KL over different variables": (
        lambda: KullbackLeibler(Encoder(), Decoder()),
        FormulaError,
        "the left side is over z, the right side over x.",
    ),
    "expectation the wrong way round": (lambda: Expectation(LogProb(prior()), prior()), KindError, "Is the order q, f?"),
    "no samples": (
        lambda: Expectation(prior(), LogProb(prior()), num_samples=0),
        KindError,
        "num_samples must be a whole number of at least 1; got 0.",
    ),
    "a loss and a string": (lambda: kl() + "1", KindError, "A loss combines with losses, numbers and tensors; got a str"),
    "a loss and a matrix": (
        lambda: kl() * torch.ones(2, 2),
        ShapeError,
        "A tensor in a formula is () or (batch,); this one has shape (2, 2).",
    ),
    "a distribution and a number": (lambda: prior() * 2, KindError, "p_prior(z) multiplies with distributions; got a int."),
    "a parameter with a batch": (
        lambda: (Parameter("beta") * kl()).estimate({"x": binary(4), "beta": torch.ones(4)}),
        ShapeError,
        "The parameter beta is one number, (); its value has shape (4,).",
    ),
    "eval with values": (
        lambda: kl().eval({"x": binary()}),
        KindError,
        "KL[q(z|x)||p_prior(z)].eval() takes no values: it sets evaluation mode",
    ),
    "a batch size that differs": (
        lambda: kl().estimate({"x": binary(4)}, batch_size=3),
        ShapeError,
        "batch_size=3, but the values have batch 4.",
    ),
    "a sample shape": (lambda: prior().sample(sample_shape=5), KindError, "sample_shape must be a list of whole numbers, like [5]; got 5."),
    # models
    "a loss that is not a scalar": (
        lambda: Model(kl()),
        ShapeError,
        "Model: loss needs one number, but KL[q(z|x)||p_prior(z)] has one per datum, (batch,). Append .mean()",
    ),
    "nothing to train": (lambda: ML(prior()), ParameterError, "ML: mean(-log p_prior(z)) has no parameters to train."),
    "a distribution for a loss": (lambda: Model(prior()), KindError, "Model: loss must be a loss; got a Normal."),
    "prior and regularizer": (lambda: VAE(Encoder(), Decoder()), FormulaError, "VAE takes either a prior"),
    "VI the wrong way round": (lambda: VI(Encoder(), Decoder() * prior()), FormulaError, "The order is ELBO(p, q)"),
    # forward against cond_var
    "forward's arguments": (lambda: Wide(var=["z"], cond_var=["y"]), FormulaError, "p(z|y): Wide.forward takes (x), but cond_var is (y)."),
    "too few arguments": (
        lambda: Wide(var=["z"], cond_var=["x", "y"]),
        FormulaError,
        "p(z|x,y): Wide.forward takes (x), but cond_var is (x, y).",
    ),
    "too many arguments": (lambda: Two(var=["z"], cond_var=["x"]), FormulaError, "p(z|x): Two.forward takes (x, y), but cond_var is (x)."),
    # parameters given twice or not at all
    "no parameters": (lambda: Normal(), ParameterError, "p(x): a Normal takes loc and scale; got nothing."),
    "half of the parameters": (lambda: Normal(loc=0.0), ParameterError, "p(x): a Normal takes loc and scale; got loc."),
    "both parametrisations": (
        lambda: Bernoulli(probs=0.5, logits=0.0),
        ParameterError,
        "a Bernoulli takes probs or logits; got logits, probs.",
    ),
    "an unknown parameter": (
        lambda: Normal(loc=0.0, sigma=1.0),
        ParameterError,
        "a Normal has no parameter 'sigma'; it takes loc and scale.",
    ),
    "an unknown output": (
        lambda: score({"loc": torch.zeros(4, 2), "sd": torch.ones(4, 2)}),
        ParameterError,
        "a Normal has no parameter 'sd'",
    ),
    "a missing output": (lambda: score({"loc": torch.zeros(4, 2)}), ParameterError, "q(z|x): a Normal takes loc and scale; got loc."),
    "given and returned": (
        lambda: score({"loc": torch.zeros(4, 2), "scale": torch.ones(4, 2)}, scale=1.0),
        ParameterError,
        "q(z|x): scale is given and returned by a network as well; drop one.",
    ),
    "conditioned, without a network": (
        lambda: Normal(cond_var=["x"], var=["z"], loc=0.0, scale=1.0),
        ParameterError,
        "p(z|x) depends on x, but nothing says how: subclass Normal and write forward(self, x), or give networks, loc=network.",
    ),
    "dim and features_shape": (lambda: Normal(loc=0.0, scale=1.0, dim=2, features_shape=[2]), ParameterError, "two words for one thing"),
    "a bare tensor": (
        lambda: score(torch.zeros(4, 2)),
        KindError,
        'q(z|x): forward must return a dict from names to tensors, like {"loc": ..., "scale": ...}; it returned a tensor of shape (4, 2).',
    ),
    "a deterministic variable without a value": (
        lambda: Deterministic(var=["h"]),
        ParameterError,
        "a forward that returns h, or a value",
    ),
}


@pytest.mark.filterwarnings("ignore:.*does not use")
@pytest.mark.parametrize(("misuse", "error", "words"), CASES.values(), ids=CASES)
def test_a_bad_formula_has_one_clear_error(misuse, error, words):
    check_one_clear_error(misuse, error, words)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: LogProb(3),
        lambda: ELBO(kl(), Encoder()),
        lambda: ELBO(Decoder(), 3),
        lambda: KullbackLeibler(Encoder(), 3),
        lambda: NLL(kl()),
        lambda: VI(kl(), Encoder()),
        lambda: ML(kl()),
        lambda: VAE(Encoder(), kl(), prior()),
    ],
)
def test_something_else_in_place_of_a_distribution(misuse):
    with pytest.raises(KindError, match="takes a distribution; got"):
        misuse()


def test_a_constant_and_a_network_of_one_name():
    class Clash(Normal):
        def __init__(self):
            super().__init__(var=["z"], cond_var=["x"], scale=1.0)
            self.scale = nn.Linear(2, 2)

        def forward(self, x):
            return {"loc": x}

    with pytest.raises(FormulaError, match="scale is given as a constant already"):
        Clash()
