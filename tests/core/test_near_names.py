"""A key of the values that is nearly the name of a variable that could be given is warned of."""

import warnings

import pytest
import torch

from pixyz.core import MissingVariableError
from pixyz.distributions import Deterministic, Normal

X = torch.zeros(3, 2)
GIVEN_LABEL = Normal("p(image|label)", loc="label", scale=1.0) * Normal("p(label)", loc=0.0, scale=1.0, dim=2)
COMPUTED = Normal("p(image|hidden)", loc="hidden", scale=1.0) * Deterministic("f(hidden|code)", hidden="code")


@pytest.mark.parametrize("key", ["lable", "labl", "labels", "Label", "labek", "LABEL"])
def test_a_key_that_is_one_slip_away_is_warned_of(key):
    with pytest.warns(
        UserWarning, match=rf"^p\(image,label\): '{key}' is no variable of it, so its value is not used\. Did you mean 'label'\?$"
    ):
        drawn = GIVEN_LABEL.sample({key: X}, batch_size=3)
    assert drawn[key] is X  # passed through, as every other key


@pytest.mark.parametrize("compiled", [False, True])
def test_a_loss_warns_of_the_value_that_it_computes_itself(compiled):
    loss = COMPUTED.log_prob()
    if compiled:
        loss.compile(backend="eager")
    with pytest.warns(UserWarning, match=r"^log p\(image,hidden\|code\): 'hiden' is no variable of it.*Did you mean 'hidden'\?"):
        loss.estimate({"image": X, "code": X, "hiden": X})


def test_a_needed_variable_is_still_an_error():
    with pytest.raises(MissingVariableError, match=r"needs code; got \{'cod', 'image'\}\. Did you mean 'cod'\?"):
        COMPUTED.log_prob().estimate({"image": X, "cod": X})


FAR = {
    "another word": ("p(image|label)", "target"),
    "short names": ("p(x|yy)", "yz"),
    "indices": ("p(x|text_a)", "text_b"),
    "numbers": ("p(x|view1)", "view2"),
    "primes": ("p(x|z_{t+1})", "z_{t-1}"),
    "two slips": ("p(x|label)", "laabell"),
}


@pytest.mark.parametrize("name", FAR)
def test_other_keys_are_passed_through(name):
    text, key = FAR[name]
    variable = text[text.index("|") + 1 : -1]
    p = Normal(text, loc=variable, scale=1.0) * Normal(f"p({variable})", loc=0.0, scale=1.0, dim=2)
    p.sample({key: X}, batch_size=3)  # every warning is an error here


def test_a_variable_that_has_its_value_is_not_looked_for():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GIVEN_LABEL.sample({"label": X, "labels": X})
