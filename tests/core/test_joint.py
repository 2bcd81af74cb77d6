"""Products, renaming and marginals."""

import re
from collections.abc import Mapping
from types import MappingProxyType

import pytest
import torch
from zoo import Decoder, Encoder, Hidden, Label, Linear, binary, prior

from pixyz.core import BoundVariableError, FormulaError, IntractableError, SupportError, seeded
from pixyz.distributions import Deterministic, Normal


def normal(var, cond_var=(), name="p"):
    if not cond_var:
        return Normal(var=[var], loc=0.0, scale=1.0, dim=2, name=name)

    class Given(Normal):
        def forward(self, **given):
            loc = sum(given.values())
            return {"loc": loc, "scale": torch.ones_like(loc)}

    return Given(var=[var], cond_var=cond_var, name=name)


@pytest.mark.parametrize("swap", [False, True], ids=["p * prior", "prior * p"])
def test_a_joint_is_ancestral_whatever_the_order_of_multiplication(swap):
    p, z = Decoder(), prior()
    joint = z * p if swap else p * z
    assert joint.var == (("z", "x") if swap else ("x", "z"))
    assert joint.cond_var == ()
    assert [f.dist for f in joint.ancestral] == [z, p]
    drawn = joint.sample(batch_size=4)
    assert {k: tuple(v.shape) for k, v in drawn.items()} == {"z": (4, 2), "x": (4, 6)}
    expected = p.log_likelihood(drawn) + z.log_likelihood(drawn)
    torch.testing.assert_close(joint.log_likelihood(drawn), expected)


def test_a_product_of_many_and_of_joints():
    a, b, c, d = normal("a"), normal("b", ["a"]), normal("c", ["a", "b"]), normal("d", ["c", "u"])
    joint = (d * b) * (c * a)
    assert joint.var == ("d", "b", "c", "a")
    assert joint.cond_var == ("u",)
    assert [f.var[0] for f in joint.ancestral] == ["a", "b", "c", "d"]
    values = joint.sample({"u": torch.zeros(3, 2)})
    total = sum(q.log_likelihood(values) for q in (a, b, c, d))
    torch.testing.assert_close(joint.log_likelihood(values), total)


def test_a_cycle_is_named_when_the_product_is_built():
    with pytest.raises(FormulaError, match=re.escape("p(b|a) and q(a|b) depend on one another")):
        normal("a", ["b"], "q") * normal("b", ["a"])


def test_a_longer_cycle_is_named_in_order():
    with pytest.raises(FormulaError, match="depend on one another: . -> . -> . -> ."):
        normal("a", ["b"]) * (normal("b", ["c"]) * normal("c", ["a"]))


def test_a_variable_defined_twice_names_both_sides():
    with pytest.raises(FormulaError, match=re.escape("p(x|z) and r(x|y) both define x")):
        normal("x", ["z"]) * normal("x", ["y"], "r")


def test_replace_var_is_a_view_on_the_same_module():
    p = Decoder()
    renamed = p.replace_var(x="x_u", z="w")
    assert (renamed.var, renamed.cond_var, renamed.name) == (("x_u",), ("w",), "p")
    assert renamed.prob_text == "p(x_u|w)"
    values = {"w": torch.randn(3, 2), "x_u": binary(3)}
    torch.testing.assert_close(renamed.log_likelihood(values), p.log_likelihood({"z": values["w"], "x": values["x_u"]}))
    assert list(renamed.parameters()) == list(p.parameters())


def test_replace_var_swaps():
    w = torch.randn(2, 2)
    p = Linear("a", "b", w, torch.zeros(2), 1.0)
    swapped = p.replace_var(a="b", b="a")
    assert swapped.prob_text == "p(b|a)"
    x, y = torch.randn(3, 2), torch.randn(3, 2)
    torch.testing.assert_close(swapped.log_likelihood({"b": x, "a": y}), p.log_likelihood({"a": x, "b": y}))


def test_replace_var_chains():
    joint = (normal("b", ["a"]) * normal("a")).replace_var(a="b", b="c")
    assert joint.prob_text == "p(c,b)"
    step = normal("z_next", ["z"])
    chain = step * step.replace_var(z_next="z_last", z="z_next")
    assert chain.prob_text == "p(z_next,z_last|z)"
    assert chain.replace_var(z="s").cond_var == ("s",)


def test_replace_var_refuses_a_name_in_use_and_an_unknown_one():
    p = normal("x", ["z", "y"])
    with pytest.raises(FormulaError, match="both z and y would be called y"):
        p.replace_var(z="y")
    with pytest.raises(FormulaError, match="has no variable Z to rename to w. Did you mean 'z'?"):
        p.replace_var(Z="w")


def test_a_marginal_without_closed_form_samples_and_says_what_its_likelihood_takes():
    p = (Decoder() * prior()).marginalize_var("z")
    assert (p.var, p.hidden_var) == (("x",), {"z"})
    assert set(p.sample(batch_size=3)) == {"x"}
    with pytest.raises(IntractableError, match=r"log p\(x\) needs the integral over z, .* not declared linear in z.*proposal=q"):
        p.log_likelihood({"x": binary(3)})


def test_reconstruction_by_renaming_and_marginalising():
    """The published library's idiom: p(x'|x) = ∫p(x'|z)q(z|x)dz."""
    reconstruct = (Decoder().replace_var(x="x'") * Encoder()).marginalize_var("z")
    assert reconstruct.prob_text == "p(x'|x)"
    assert reconstruct.sample({"x": binary(3)})["x'"].shape == (3, 6)


def test_marginalising_what_nothing_depends_on_is_exact():
    z = prior()
    left = (Decoder() * z).marginalize_var("x")
    assert left.hidden_var == frozenset()
    values = z.sample(batch_size=3)
    torch.testing.assert_close(left.log_likelihood(values), z.log_likelihood(values))


def test_marginalising_everything_or_the_unknown_is_refused():
    joint = Decoder() * prior()
    with pytest.raises(FormulaError, match="leaves nothing"):
        joint.marginalize_var(["x", "z"])
    with pytest.raises(FormulaError, match=r"p\(x,z\) has no variable y"):
        joint.marginalize_var("y")


def test_hidden_variables_are_dummies():
    hidden = (normal("x", ["z"]) * normal("z")).marginalize_var("z")
    product = hidden * normal("z", name="q")
    assert product.var == ("x", "z")
    assert product.hidden_var == {"z'"}
    assert set(product.sample()) == {"x", "z"}


def test_sample_shape_is_applied_once():
    joint = normal("c", ["b"]) * normal("b", ["a"]) * normal("a")
    drawn = joint.sample(sample_shape=[5, 3], batch_size=4)
    assert {tuple(v.shape) for v in drawn.values()} == {(5, 3, 4, 2)}
    again = joint.log_likelihood(drawn, sample_dims={"a": 2, "b": 2, "c": 2})
    assert again.shape == (5, 3, 4)
    one = joint.log_likelihood({k: v[1, 2] for k, v in drawn.items()})
    torch.testing.assert_close(again[1, 2], one)


def test_samples_are_independent_over_the_sample_shape():
    drawn = normal("a").sample(sample_shape=[500], batch_size=3)["a"]
    assert drawn.reshape(500, -1).std(0).min() > 0.5


def test_sampling_given_an_own_variable_conditions_on_it():
    joint = Decoder() * prior()
    z = torch.randn(3, 2)
    drawn = joint.sample({"z": z})
    assert drawn["z"] is z
    assert drawn["x"].shape == (3, 6)
    with pytest.raises(BoundVariableError, match="a value is given for x, but z, on which it depends, would be drawn"):
        joint.sample({"x": binary(3)})
    with pytest.raises(BoundVariableError, match="nothing is left to draw. Leave x out"):
        Decoder().sample({"x": binary(3), "z": z})


def test_return_all():
    q, x = Encoder(), binary(3)
    assert set(q.sample({"x": x, "more": 1})) == {"x", "z", "more"}
    assert set(q.sample({"x": x}, return_all=False)) == {"z"}
    assert set(q.sample_mean({"x": x, "more": 1})) == {"x", "z", "more"}
    assert set(q.sample_mean({"x": x}, return_all=False)) == {"z"}


def test_one_value_may_be_computed_for_all_data_and_given_for_each():
    joint = Normal("p(x|h)", loc="h", scale=1.0) * Deterministic("f(h)", h=torch.ones(3))
    x = torch.randn(4, 3)
    torch.testing.assert_close(joint.log_likelihood({"x": x, "h": torch.ones(4, 3)}), joint.log_likelihood({"x": x}))
    with pytest.raises(SupportError, match="a different value of h is given"):
        joint.log_likelihood({"x": x, "h": torch.zeros(4, 3)})


def test_deterministic_factors_are_computed_and_add_nothing():
    f, z = Hidden(), prior()
    p = Decoder(z=3).replace_var(z="h")
    joint = p * f * z
    drawn = joint.sample(batch_size=4)
    assert drawn["h"].shape == (4, 3)
    given = {"x": drawn["x"], "z": drawn["z"]}
    expected = p.log_likelihood(drawn) + z.log_likelihood(drawn)
    torch.testing.assert_close(joint.log_likelihood(given), expected)
    torch.testing.assert_close(joint.log_likelihood(drawn), expected)
    with pytest.raises(SupportError, match=r"f\(h\|z\): h is computed from z, but a different value of h is given"):
        joint.log_likelihood({**drawn, "h": drawn["h"] + 1})


def test_a_conditional_joint_conditions_all_its_factors():
    joint = Label() * Encoder()
    x = binary(4)
    drawn = joint.sample({"x": x})
    assert joint.cond_var == ("x",)
    assert drawn["y"].sum(-1).eq(1).all()
    assert joint.log_likelihood(drawn).shape == (4,)


class Rows(Mapping):
    """A mapping that is iterated over like a tensor, as a TensorDict is, and knows no `in`."""

    def __init__(self, values):
        self.values_ = values

    def __getitem__(self, name):
        return self.values_[name]

    def __iter__(self):
        return iter([{k: v[i] for k, v in self.values_.items()} for i in range(len(self))])

    def __len__(self):
        return len(next(iter(self.values_.values())))

    def __contains__(self, name):
        raise NotImplementedError

    def keys(self):
        return self.values_.keys()


def test_any_mapping_comes_in_and_plain_dicts_go_out():
    q, p = Encoder(), Decoder()
    x = binary(3)
    for values in (Rows({"x": x}), MappingProxyType({"x": x})):
        drawn = q.sample(values)
        assert type(drawn) is dict
        assert set(drawn) == {"x", "z"}
        scored = type(values)(drawn)
        torch.testing.assert_close(p.log_likelihood(scored), p.log_likelihood(drawn))
        loss = p.log_prob().expectation(q).mean()
        with seeded(0):
            one = loss.estimate(values)
        with seeded(0):
            assert one == loss.estimate({"x": x})
        assert type(q.sample_mean(values)) is dict
