"""What a network returns for each datum and what for each feature: by one rule at every batch size, or not at all."""

import pytest
import torch
from torch import nn

from pixyz.core import ShapeError
from pixyz.distributions import Categorical, Deterministic, MixtureModel, Normal

SCALES = torch.tensor([0.1, 1.0, 10.0, 2.0])


def given(n, features, loc=lambda u, s: u, scale=lambda u, s: s):
    p = Normal("p(x|u,s)", loc=loc, scale=scale)
    return p, {"x": torch.ones(n, *features), "u": torch.zeros(n, *features), "s": SCALES[:n]}


def by_hand(values, scale):
    return torch.distributions.Normal(values["u"], scale).log_prob(values["x"]).flatten(1).sum(1)


@pytest.mark.parametrize("size", [(2, 3), (3, 3), (4, 3), (4, 1), (3, 3, 2), (4, 3, 2)], ids=str)
def test_one_rank_less_with_the_size_of_the_batch_is_refused_at_every_size(size):
    n, *features = size
    scale = (lambda u, s: s) if len(features) == 1 else (lambda u, s: s[:, None].expand(-1, 2))
    p, values = given(n, features, scale=scale)
    shape = f"({n},)" if len(features) == 1 else f"({n}, 2)"
    both = "Return scale[:, None] for one a datum, scale.expand_as(loc) for one a feature."
    for use in (lambda: p.log_likelihood(values), lambda: p.sample({k: values[k] for k in "us"})):
        with pytest.raises(ShapeError) as error:
            use()
        assert f"p(x|u,s): for {n} inputs the network returned scale {shape} beside loc {(n, *features)}: one value for each" in str(
            error.value
        )
        assert str(error.value).endswith(both)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_two_spellings_of_the_error_give_the_two_values(n):
    p, values = given(n, (3,), scale=lambda u, s: s[:, None])
    torch.testing.assert_close(p.log_likelihood(values), by_hand(values, SCALES[:n, None]))
    p, values = given(n, (3,), scale=lambda u, s: SCALES[:3].expand_as(u))
    torch.testing.assert_close(p.log_likelihood(values), by_hand(values, SCALES[:3]))


def test_one_value_a_feature_needs_no_batch_where_it_can_be_told_apart():
    p, values = given(4, (3,), scale=lambda u, s: SCALES[:3])
    torch.testing.assert_close(p.log_likelihood(values), by_hand(values, SCALES[:3]))


def test_samples_count_as_data():
    """Of two data, two samples each: the network sees four, and its four scales are one for each."""
    q = Normal("q(z|x)", loc="x", scale=1.0)
    p = Normal("p(y|z)", loc=lambda z: z, scale=lambda z: z.abs().sum(-1) + 1)
    loss = p.log_prob().expectation(q, num_samples=2)
    with pytest.raises(ShapeError, match=r"for 4 inputs the network returned scale \(4,\) beside loc \(4, 4\)"):
        loss.estimate({"x": torch.ones(2, 4), "y": torch.ones(2, 4)})


NOT_AMBIGUOUS = {
    "a constant": (3, lambda: Normal("p(x|u)", loc=nn.Identity(), scale=SCALES[:3]), {}, SCALES[:3]),
    "rank 0": (3, lambda: Normal("p(x|u)", loc=nn.Identity(), scale=lambda u: u.sum() + 2), {}, torch.tensor(2.0)),
}


@pytest.mark.parametrize("name", NOT_AMBIGUOUS)
def test_what_says_itself_is_read_at_the_size_of_the_features_too(name):
    n, make, more, scale = NOT_AMBIGUOUS[name]
    values = {"x": torch.ones(n, 3), "u": torch.zeros(n, 3), **more}
    torch.testing.assert_close(make().log_likelihood(values), by_hand(values, scale))


REFUSED = {
    "a variable that is a parameter": lambda: Normal("p(x|u,s)", loc="u", scale="s"),
    "of a component of a mixture": lambda: MixtureModel(
        [Normal("p(x|u,s)", loc="u", scale="s"), Normal("p(x|u,s)", loc="u", scale=1.0)], Categorical("p(k)", probs=torch.ones(2) / 2)
    ),
}


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("name", REFUSED)
def test_a_variable_is_one_value_a_datum_at_every_size(name, n):
    _, values = given(n, (3,))
    with pytest.raises(ShapeError, match=r"the features of its parameters do not fit one another: .*scale \(\)"):
        REFUSED[name]().log_likelihood(values)


def test_a_number_a_datum_beside_features_is_named():
    p = Deterministic("p(x_t|x_0,t)", x_t=lambda x_0, t: (1 - t) * x_0)
    with pytest.raises(ShapeError, match=r"t is one number a datum, \(batch,\): beside features write t\[:, None\]\."):
        p.sample({"x_0": torch.ones(4, 3), "t": torch.rand(4)})


def test_the_first_of_two_numbers_a_datum_is_named():
    p = Deterministic("p(x|y,s,t)", x=lambda y, s, t: (s - t) * y)
    with pytest.raises(ShapeError, match=r"s is one number a datum, \(batch,\): beside features write s\[:, None\]\."):
        p.sample({"y": torch.ones(4, 3), "s": torch.rand(4), "t": torch.rand(4)})
