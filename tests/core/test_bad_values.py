"""Each bad value has one clear error: a missing variable, a wrong shape, a number outside its support, another dtype or device."""

import re

import numpy as np
import pytest
import torch
from misuses import Two, Wide, check_one_clear_error, elbo, kl, score
from torch import nn
from zoo import Decoder, Encoder, Hidden, Label, Linear, binary, prior

from pixyz.core import (
    BoundVariableError,
    FormulaError,
    IntractableError,
    KindError,
    MissingVariableError,
    ParameterError,
    ShapeError,
    SupportError,
)
from pixyz.distributions import Categorical, Deterministic, Normal
from pixyz.losses import ELBO, NLL, Expectation, KullbackLeibler, LogProb
from pixyz.models import Model


def mixed_devices():
    Encoder().to("meta").sample({"x": binary()})


def wide(**shapes):
    p = Wide(var=["z"], cond_var=["x"])
    return p.log_likelihood({k: torch.zeros(*s) for k, s in shapes.items()})


def batches_meet():
    return (kl() + NLL(Decoder())).estimate({"x": binary(3), "z": torch.zeros(4, 2)})


def weights_of_another_batch():
    return (torch.ones(3) * kl()).estimate({"x": binary(4)})


class Forgets(Deterministic):
    def __init__(self):
        super().__init__("f(a,b|x)")

    def forward(self, x):
        return {"a": x}


class Both(Forgets):
    def forward(self, x):
        return {"a": x, "b": x}


Q = Normal("q(z|x)", loc="x", scale=1.0)
GIVEN_Z, GIVEN_H = Normal("p(x|z)", loc="z", scale=1.0), Normal("p(x|h)", loc="h", scale=1.0)
MATRIX = Normal("p(z)", loc=torch.zeros(2, 2), scale=1.0)
JOINT = MATRIX * GIVEN_Z
BY_TANH = (MATRIX * Deterministic("d(h|z)", h=nn.Tanh()) * GIVEN_H).marginalize_var(["z", "h"])
BY_COPIES = (Normal("p(z)", loc=0.0, scale=1.0, dim=2) * GIVEN_Z * GIVEN_Z.replace_var(x="y")).marginalize_var("z")
CHAIN = Normal("p(z)", loc=0.0, scale=1.0, dim=2) * Normal("p(w|z)", loc="z", scale=1.0) * Normal("p(x|w)", loc="w", scale=1.0)
SUM = (Normal("p(z)", loc=0.0, scale=1.0, dim=2) * GIVEN_Z).marginalize_var("z")


class Wrong(Deterministic):
    def __init__(self):
        super().__init__(var=["h"], cond_var=["x"], name="f")

    def forward(self, x):
        return {"h": torch.zeros(3)}


NAN = torch.full((4, 2), float("nan"))


# name: (what is done, the error, its words)
CASES = {
    # a missing or misspelt variable
    "missing": (lambda: elbo().estimate({}), MissingVariableError, "E_q(z|x)[log p(x,z)/q(z|x)] needs x; got {}."),
    "misspelt": (lambda: elbo().estimate({"X": binary(), "y": 1}), MissingVariableError, "needs x; got {'X', 'y'}. Did you mean 'X'?"),
    "nothing": (lambda: elbo().estimate(), MissingVariableError, "needs x; got {}."),
    "missing in sample": (lambda: Decoder().sample(), MissingVariableError, "p(x|z) needs z; got {}."),
    "missing in likelihood": (lambda: Decoder().log_likelihood({"x": binary()}), MissingVariableError, "log p(x|z) needs z; got {'x'}."),
    # a value for a variable that the formula only binds
    "bound": (
        lambda: elbo().estimate({"x": binary(), "z": torch.zeros(5, 2)}),
        BoundVariableError,
        "E_q(z|x)[log p(x,z)/q(z|x)] draws z itself, so a value for z has no place in it. Leave z out of the values",
    ),
    # sample dims, and a proposal
    "sample dims beside a proposal": (
        lambda: SUM.log_likelihood({"x": torch.zeros(4, 2)}, sample_dims={"x": 1}, proposal=Q),
        KindError,
        "log p(x): sample_dims and a proposal, whose draws have a sample dim, exclude one another.",
    ),
    "no draws of a proposal": (
        lambda: SUM.log_likelihood({"x": torch.zeros(4, 2)}, proposal=Q, num_samples=0),
        KindError,
        "log p(x): num_samples must be a whole number of at least 1; got 0.",
    ),
    "a value for what a proposal draws": (
        lambda: JOINT.log_likelihood({"x": torch.zeros(4, 2), "z": torch.zeros(4, 2)}, proposal=Q),
        BoundVariableError,
        "log p(z,x): z has a value, and q(z|x) draws it as well; leave one of them out.",
    ),
    "too few dims for the samples": (
        lambda: GIVEN_Z.log_likelihood({"x": torch.zeros(4), "z": torch.zeros(4)}, sample_dims={"x": 1}),
        ShapeError,
        "log p(x|z): x has shape (4,), too few dims for 1 sample dims and a batch.",
    ),
    "samples that differ": (
        lambda: GIVEN_Z.log_likelihood({"x": torch.zeros(5, 4, 1), "z": torch.zeros(6, 4, 1)}, sample_dims={"x": 1, "z": 1}),
        ShapeError,
        "log p(x|z): z has 6 samples where others have 5.",
    ),
    "samples of a stranger": (
        lambda: GIVEN_Z.log_likelihood({"x": torch.zeros(4, 1), "z": torch.zeros(4, 1)}, sample_dims={"X": 1}),
        FormulaError,
        "log p(x|z): sample_dims names X, which is none of its variables. Did you mean 'x'?",
    ),
    # exact integrals and moments
    "an integral of matrices": (
        lambda: JOINT.marginalize_var("z").log_likelihood({"x": torch.zeros(3, 2, 2)}),
        IntractableError,
        "log p(x): exact integrals take vectors, but z of p(z) has features (2, 2).",
    ),
    "an integral of what a function computes": (
        lambda: BY_TANH.log_likelihood({"x": torch.zeros(3, 2, 2)}),
        IntractableError,
        "d(h|z) computes from z, which is normal, by a function that is not known to be linear. Estimate it with",
    ),
    "copies of different features": (
        lambda: BY_COPIES.log_likelihood({"x": torch.zeros(3, 2), "y": torch.zeros(3, 3)}),
        ShapeError,
        "p(y|z) and its copies have variables of different features: y (3,) and x (2,).",
    ),
    "the mean of two hidden variables": (
        lambda: CHAIN.posterior(["z", "w"]).mean({"x": torch.zeros(3, 2)}),
        IntractableError,
        "p(z,w|x) (posterior) has no mean in closed form here; estimate it by p.sample(values, sample_shape=[1000])['z'].mean(0).",
    ),
    "parameters of what has none": (
        lambda: Deterministic("d(h|x)", h=nn.Linear(3, 2)).get_params({"x": torch.zeros(4, 3)}),
        IntractableError,
        "d(h|x) (Deterministic) has no parameters.",
    ),
    # a network
    "a network that returns no tensor": (
        lambda: score({"loc": "0", "scale": 1.0}),
        KindError,
        "q(z|x): the network's loc must be a tensor; it is a str.",
    ),
    "a forward that forgets a variable": (
        lambda: Forgets().sample({"x": torch.zeros(4, 2)}),
        ParameterError,
        "f(a,b|x): forward must return a, b; it returned a.",
    ),
    "one value of two that come together": (
        lambda: Both().sample({"x": torch.zeros(4, 2), "a": torch.zeros(4, 2)}),
        BoundVariableError,
        "f(a,b|x): a value is given for a, but b comes with it from f(a,b|x). Give both, or leave a out.",
    ),
    "a divergence between batches": (
        lambda: KullbackLeibler(Q, Normal("p(z|y)", loc="y", scale=1.0)).estimate({"x": torch.zeros(3, 2), "y": torch.zeros(4, 2)}),
        ShapeError,
        "KL[q(z|x)||p(z|y)]: q(z|x) has batch 3, p(z|y) has batch 4.",
    ),
    "a divergence between features of other ranks": (
        lambda: KullbackLeibler(Q, Normal("p(z|y)", loc="y", scale=1.0)).estimate({"x": torch.zeros(3, 2), "y": torch.zeros(3, 2, 2)}),
        ShapeError,
        "KL[q(z|x)||p(z|y)]: q(z|x) has features (2,), p(z|y) has (2, 2).",
    ),
    # ranks and features
    "features of the value": (
        lambda: Decoder().log_likelihood({"x": binary(5, 7), "z": torch.zeros(5, 2)}),
        ShapeError,
        "p(x|z): x has features (7,), but the network's probs have (6,).",
    ),
    "features of an input": (
        lambda: Decoder().sample({"z": torch.zeros(5, 3)}),
        ShapeError,
        "p(x|z): the network failed on z of features (3,): mat1 and mat2 shapes cannot be multiplied (5x3 and 2x8)",
    ),
    "rank of the value": (
        lambda: prior().log_likelihood({"z": torch.zeros(5, 1, 2)}),
        ShapeError,
        "p_prior(z): z has features (1, 2), but its loc and scale have (2,).",
    ),
    "features of size 1": (
        lambda: wide(x=(4, 2), z=(4, 1)),
        ShapeError,
        "p(z|x): z has features (1,), but the network's loc and scale have (2,).",
    ),
    "no batch": (
        lambda: prior().log_likelihood({"z": torch.tensor(0.0)}),
        ShapeError,
        "p_prior(z): z has shape (); a value is (batch, *features).",
    ),
    "batch of 1 against 4": (
        lambda: wide(x=(1, 2), z=(4, 2)),
        ShapeError,
        "p(z|x): z has batch 4, but x has batch 1; one density needs one batch.",
    ),
    "inputs of two batches": (
        lambda: Two(var=["z"], cond_var=["x", "y"]).sample({"x": torch.zeros(4, 2), "y": torch.zeros(1, 2)}),
        ShapeError,
        "p(z|x,y): x has batch 4, y has batch 1; one evaluation of it needs one batch.",
    ),
    "values of an expectation of two batches": (
        lambda: Label().log_prob().expectation(Encoder().replace_var(x="v")).estimate({"x": binary(3), "v": binary(4), "y": torch.eye(3)}),
        ShapeError,
        "inside one expectation all values have one batch",
    ),
    "terms of two batches": (batches_meet, ShapeError, "has batch"),
    "weights of another batch": (
        weights_of_another_batch,
        ShapeError,
        "its terms have batches 3 and 4. Reduce each with .mean() or .sum() first.",
    ),
    "output of a wrong batch": (
        lambda: score({"loc": torch.zeros(3, 2), "scale": torch.ones(3, 2)}),
        ShapeError,
        "q(z|x): for 4 inputs the network must return (4, *features), all of one rank; it returned loc (3, 2), scale (3, 2).",
    ),
    "outputs of two ranks": (
        lambda: score({"loc": torch.zeros(4, 2, 2), "scale": torch.ones(4)}),
        ShapeError,
        "all of one rank; it returned loc (4, 2, 2), scale (4,)",
    ),
    "outputs without a batch": (lambda: score({"loc": 0.0, "scale": 1.0}), ShapeError, "no output of the network has a batch"),
    "parameters that do not fit": (
        lambda: score({"loc": torch.zeros(4, 2), "scale": torch.ones(4, 3)}),
        ShapeError,
        "the features of its parameters do not fit one another: loc (2,), scale (3,)",
    ),
    "constants that do not fit": (
        lambda: Normal(loc=torch.zeros(2), scale=torch.ones(3)),
        ShapeError,
        "the features of its parameters do not fit one another",
    ),
    "declared features": (
        lambda: Normal(loc=torch.zeros(2), scale=1.0, dim=3),
        ShapeError,
        "its features are declared as (3,), but its parameters have loc (2,)",
    ),
    "KL of two sizes": (
        lambda: KullbackLeibler(Encoder(z=3), prior(2)).estimate({"x": binary()}),
        ShapeError,
        "KL[q(z|x)||p_prior(z)]: q(z|x) has features (3,), p_prior(z) has (2,).",
    ),
    "two batches in one draw": (
        lambda: (Encoder() * Label().replace_var(x="v")).sample({"x": binary(4), "v": binary(5)}),
        ShapeError,
        "p(y|v): v has batch 5, but other values here have another; what is drawn together has one batch.",
    ),
    "a prior without a size": (
        lambda: Normal(var=["z"], loc=0.0, scale=1.0).log_likelihood({"z": torch.zeros(4, 2)}),
        ShapeError,
        "p(z): z has features (2,), but its loc and scale have (). Declare them: dim=2, or features_shape.",
    ),
    "a deterministic output of a wrong batch": (
        lambda: Wrong().sample({"x": binary(4)}),
        ShapeError,
        "f(h|x): for 4 inputs the network must return (4, *features); it returned h (3,).",
    ),
    # supports
    "grey pixels": (
        lambda: Decoder().log_likelihood({"x": torch.full((5, 6), 0.5), "z": torch.zeros(5, 2)}),
        SupportError,
        "p(x|z) (Bernoulli): x must be 0 or 1, but 30 of 30 are not (from 0.5 to 0.5). Families that take such values: Beta,",
    ),
    "a negative scale": (
        lambda: score({"loc": torch.zeros(4, 2), "scale": torch.tensor([1.0, -2.0]).expand(4, 2)}),
        SupportError,
        "q(z|x): scale must be positive, but 4 of 8 are not (from -2 to 1).",
    ),
    "a scale of zero": (
        lambda: score({"loc": torch.zeros(4, 2), "scale": torch.zeros(4, 2)}),
        SupportError,
        "scale must be positive, but 8 of 8 are not",
    ),
    "a nan": (
        lambda: score({"loc": NAN, "scale": torch.ones(4, 2)}),
        SupportError,
        "loc must be a number, but 8 of 8 are not (none is a number, 8 nan)",
    ),
    "a nan in the data": (lambda: prior().log_likelihood({"z": NAN}), SupportError, "z must be a number, but 8 of 8 are not"),
    "a constant outside": (
        lambda: Normal(loc=0.0, scale=-1.0),
        SupportError,
        "p(x): scale must be positive, but 1 of 1 are not (from -1 to -1).",
    ),
    "probabilities that do not sum to 1": (
        lambda: Categorical(probs=torch.tensor([0.5, 0.6])),
        SupportError,
        "probs must be non-negative with sum 1",
    ),
    "not one-hot": (
        lambda: Label().log_likelihood({"x": binary(2), "y": torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])}),
        SupportError,
        "y must be one-hot over the last dim, but 1 of 2 are not",
    ),
    # kinds
    "a list": (
        lambda: elbo().estimate({"x": [[0.0, 1.0]]}),
        KindError,
        "the value of x must be a tensor; got a list. Convert it with torch.as_tensor.",
    ),
    "a string": (lambda: elbo().estimate({"x": "data"}), KindError, "the value of x must be a tensor; got the str 'data'."),
    "an array": (lambda: elbo().estimate({"x": np.zeros((2, 6))}), KindError, "got a ndarray. Convert it with torch.as_tensor."),
    "no mapping": (lambda: elbo().estimate(binary()), KindError, 'takes a mapping from variables to tensors, like {"x": x}; got a Tensor.'),
    "mixed devices": (mixed_devices, KindError, "q(z|x): x is on cpu, the network's parameters on meta. Move one with .to()."),
    "mixed dtypes": (
        lambda: Encoder().sample({"x": binary().double()}),
        KindError,
        "q(z|x): x is torch.float64, the network's parameters are torch.float32. Convert one with .to().",
    ),
    "mixed dtypes in a density": (
        lambda: prior().log_likelihood({"z": torch.zeros(3, 2, dtype=torch.float64)}),
        KindError,
        "p_prior(z): z is torch.float64 on cpu, the parameters are torch.float32 on cpu. Convert one with .to().",
    ),
    "integer data": (
        lambda: prior().log_likelihood({"z": torch.zeros(3, 2, dtype=torch.long)}),
        KindError,
        "z is torch.int64 on cpu, the parameters are torch.float32 on cpu",
    ),
    # an empty batch
    "the mean of an empty batch": (
        lambda: (-elbo().mean()).estimate({"x": torch.zeros(0, 6)}),
        ShapeError,
        "the batch is empty, and the mean over nothing is no number. Leave empty batches out.",
    ),
}


@pytest.mark.filterwarnings("ignore:.*does not use")
@pytest.mark.parametrize(("misuse", "error", "words"), CASES.values(), ids=CASES)
def test_a_bad_value_has_one_clear_error(misuse, error, words):
    check_one_clear_error(misuse, error, words)


def test_an_error_of_the_users_own_network_is_left_alone():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("the licence server is down")

    class Uses(Normal):
        def __init__(self):
            super().__init__(var=["z"], cond_var=["x"])
            self.net = Broken()

        def forward(self, x):
            return self.net(x)

    with pytest.raises(RuntimeError, match="^the licence server is down$"):
        Uses().sample({"x": binary()})


def test_a_network_error_that_only_sounds_like_shapes_is_left_alone():
    class Uses(Normal):
        def forward(self, x):
            raise RuntimeError("tokenizer version does not match checkpoint")

    with pytest.raises(RuntimeError, match="^tokenizer version does not match checkpoint$"):
        Uses(var=["z"], cond_var=["x"]).sample({"x": binary()})


def test_an_empty_batch_is_a_batch():
    q, p, x = Encoder(), Decoder() * prior(), torch.zeros(0, 6)
    assert q.sample({"x": x})["z"].shape == (0, 2)
    assert ELBO(p, q).estimate({"x": x}).shape == (0,)
    assert ELBO(p, q).sum().estimate({"x": x}) == 0


def test_a_batch_of_one_is_a_batch():
    w = Linear("x", "z", torch.eye(2), torch.zeros(2), 1.0)
    assert w.log_likelihood({"x": torch.zeros(1, 2), "z": torch.zeros(1, 2)}).shape == (1,)


def test_keys_that_are_no_variable_are_ignored_by_losses():
    assert kl().estimate({"x": binary(4), "label": "seven"}).shape == (4,)


def model_with_a_computed_variable():
    return Decoder(z=3).replace_var(z="h") * Hidden() * prior()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda h: h.double(), KindError, "f(h|z): h is computed as torch.float32 on cpu, but a value in torch.float64 on cpu is given."),
        (lambda h: h[:, :2], ShapeError, "f(h|z): h is computed with features (3,), but a value with features (2,) is given."),
        (lambda h: h[:, :1], ShapeError, "f(h|z): h is computed with features (3,), but a value with features (1,) is given."),
        (lambda h: h[:1], ShapeError, "f(h|z): h is computed for a batch of 4, but a value with batch 1 is given."),
    ],
)
def test_a_value_for_a_computed_variable(change, error, words):
    joint = model_with_a_computed_variable()
    drawn = joint.sample(batch_size=4)
    with pytest.raises(error, match=re.escape(words)):
        joint.log_likelihood({**drawn, "h": change(drawn["h"])})


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (lambda: KullbackLeibler(Encoder(), prior().to("meta")).estimate({"x": binary()}), "p_prior(z) is torch.float32 on meta"),
        (lambda: (torch.ones(5, device="meta") * kl()).estimate({"x": binary(5)}), "one of its terms is on meta, another on cpu"),
        (lambda: KullbackLeibler(Encoder().double(), prior()).estimate({"x": binary().double()}), "q(z|x) is torch.float64 on cpu"),
        (
            lambda: score({"loc": torch.zeros(4, 2), "scale": torch.ones(4, 2).double()}),
            "scale is torch.float64 on cpu, loc is torch.float32",
        ),
        (lambda: Two(var=["z"], cond_var=["x", "y"]).sample({"x": binary(), "y": binary().double()}), "y is torch.float64 on cpu"),
        (lambda: Normal(loc=torch.tensor(0), scale=1.0), "loc is torch.int64; a parameter is a real number"),
        (
            lambda: Normal("p(x|t)", loc="t", scale=1.0).sample({"t": torch.zeros(3, 2, dtype=torch.long)}),
            "loc is torch.int64; a parameter is a real number",
        ),
        (lambda: prior().sample(batch_size=True), "batch_size must be a whole number; got True"),
        (lambda: prior().log_likelihood({"z": torch.zeros(2, 2)}, sample_dims={"z": -1}), "must be a whole number; got -1"),
        (lambda: Model(kl().mean(), optimizer=torch.optim.Adam(Encoder().parameters())), "optimizer is a class"),
        (lambda: Expectation(prior(), LogProb(prior()), estimator=3), "estimator must be a name, an estimator, or a dict"),
    ],
)
def test_more_of_the_wrong_kind(misuse, words):
    with pytest.raises(KindError, match=re.escape(words)):
        misuse()


def test_a_compiled_loss_speaks_in_the_same_words():
    torch._dynamo.reset()
    loss = elbo()
    loss.compile(fullgraph=True, backend="eager")
    with pytest.raises(MissingVariableError, match="Did you mean 'X'"):
        loss.estimate({"X": binary()})
    with pytest.raises(BoundVariableError, match="draws z itself"):
        loss.estimate({"x": binary(), "z": torch.zeros(5, 2)})
