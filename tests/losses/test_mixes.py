"""Every mix of estimators on a chain of discrete variables, against enumeration by hand, in float64."""

import itertools
import math

import pytest
import torch
from torch import nn
from zoo import Decoder, Encoder, binary, prior

from pixyz.core import FormulaError, ShapeError
from pixyz.distributions import Categorical, Deterministic, Normal
from pixyz.losses import Expectation, KullbackLeibler, LogProb, Parameter


class Child(Categorical):
    """p(var|cond): three values, from a one-hot parent."""

    def __init__(self, var, cond, logits):
        super().__init__(var=[var], cond_var=[cond], name="q")
        self.table = nn.Parameter(logits)

    def forward(self, **given):
        (parent,) = given.values()
        return {"logits": parent @ self.table}


@pytest.fixture
def chain():
    torch.set_default_dtype(torch.float64)
    a = Categorical(var=["a"], logits=nn.Parameter(torch.tensor([0.2, -0.4])), name="q")
    b = Child("b", "a", torch.tensor([[0.3, -0.2, 0.5], [-0.6, 0.1, 0.4]]))
    c = Child("c", "b", torch.randn(3, 3))
    return a, b, c


BODIES = {
    "a": Categorical(var=["a"], probs=torch.tensor([0.3, 0.7], dtype=torch.float64)),
    "b": Categorical(var=["b"], probs=torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)),
    "c": Categorical(var=["c"], probs=torch.tensor([0.5, 0.1, 0.4], dtype=torch.float64)),
}


def exact(chain, body):
    """E[log p(body)] with every state written out."""
    a, b, c = chain
    pa, pb, pc = a.logits.softmax(-1), b.table.softmax(-1), c.table.softmax(-1)
    joint = torch.einsum("a,ab,bc->abc", pa, pb, pc)
    marginal = {"a": joint.sum((1, 2)), "b": joint.sum((0, 2)), "c": joint.sum((0, 1))}[body]
    return (marginal * BODIES[body].probs.log()).sum()


def in_rows(chain, count):
    """The chain given `count` copies of its logits, so that one backward pass gives the gradient of each copy."""
    flat = torch.cat([w.detach().flatten() for w in (chain[0].logits, chain[1].table, chain[2].table)])
    a = Categorical("q(a|t)", logits=lambda t: t[:, :2])
    b = Categorical("q(b|a,t)", logits=lambda a, t: (a.unsqueeze(-2) @ t[:, 2:8].unflatten(-1, (2, 3))).squeeze(-2))
    c = Categorical("q(c|b,t)", logits=lambda b, t: (b.unsqueeze(-2) @ t[:, 8:].unflatten(-1, (3, 3))).squeeze(-2))
    return c * b * a, flat.expand(count, -1).clone().requires_grad_()


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("mix", [*itertools.product(["enumerate", "score"], repeat=3)], ids="-".join)
def test_gradients_of_every_mix(chain, mix, body):
    parameters = [chain[0].logits, chain[1].table, chain[2].table]
    truth = exact(chain, body)
    wanted = torch.autograd.grad(truth, parameters, materialize_grads=True, allow_unused=True)
    q, t = in_rows(chain, 500)
    value = Expectation(q, LogProb(BODIES[body]), num_samples=50, estimator=dict(zip("abc", mix))).estimate({"t": t})
    assert (value.mean() - truth).abs() < 5 * value.std() / math.sqrt(500) + 1e-12
    (seen,) = torch.autograd.grad(value.sum(), t)
    error = seen.std(0) / math.sqrt(500)
    assert ((seen.mean(0) - torch.cat([w.flatten() for w in wanted])).abs() < 5 * error + 1e-10).all()
    assert (error < 0.01).all()


def test_what_mixes_the_batch_is_refused_where_it_would_be_wrong(chain):
    _, b, _ = chain
    f = LogProb(BODIES["b"])
    values = {"a": torch.eye(2)}
    for estimator in ("enumerate", "score"):
        with pytest.raises(ShapeError, match="mixes the data of a batch"):
            Expectation(b, f * f.mean(), estimator=estimator, num_samples=2).estimate(values)
    with pytest.raises(ShapeError, match="mixes the data of a batch"):
        Expectation(b, f.mean()).estimate(values)
    # a fully reduced body under score: the score of every datum meets the one cost
    loss = Expectation(b, f.mean(), estimator="score", num_samples=100_000)
    (seen,) = torch.autograd.grad(loss.estimate(values), b.table)
    (wanted,) = torch.autograd.grad(Expectation(b, f).mean().estimate(values), b.table)
    torch.testing.assert_close(seen, wanted, rtol=0, atol=0.01)


@pytest.mark.filterwarnings("ignore:.*does not use")
def test_the_sum_of_an_expectation_without_a_batch_counts_its_own_data():
    kl = KullbackLeibler(Normal(var=["w"], loc=0.0, scale=1.0, name="a"), Normal(var=["w"], loc=1.0, scale=1.0, name="b"))
    q = Encoder()
    loss = Expectation(q, kl).sum() + 0 * KullbackLeibler(q.replace_var(x="x_u"), prior()).sum()
    assert loss.estimate({"x": binary(4), "x_u": binary(9)}).item() == pytest.approx(4 * 0.5)


def test_numbers_keep_double_precision():
    lp = Normal(var=["x"], loc=0.0, scale=1.0).double().log_prob()
    values = {"x": torch.zeros(1, dtype=torch.float64)}
    exact = -0.5 * math.log(2 * math.pi)
    for loss, wanted in ((lp / 0.1, exact / 0.1), (lp + 0.1, exact + 0.1), (0.1 - lp, 0.1 - exact), (0.1 / lp, 0.1 / exact)):
        assert loss.estimate(values).item() == pytest.approx(wanted, abs=1e-15)
    assert (Parameter("beta") * lp).estimate({**values, "beta": 0.1}).item() == pytest.approx(0.1 * exact, abs=1e-15)


def test_numbers_do_not_promote():
    lp = Normal(var=["x"], loc=0.0, scale=1.0).log_prob()
    assert (lp.mean() + 0.1 - Parameter("c")).estimate({"x": torch.zeros(2), "c": 1}).dtype == torch.float32


def test_a_constant_deterministic_variable_in_an_expectation():
    h = Deterministic(var=["h"], h=torch.ones(2), name="f")
    p = Normal(var=["h"], loc=0.0, scale=1.0, dim=2)
    value = Expectation(h, LogProb(p)).estimate()
    assert value.item() == pytest.approx(-1 - math.log(2 * math.pi))


def test_a_point_mass_against_a_density_is_refused():
    h = Deterministic(var=["h"], h=torch.ones(2), name="f")
    with pytest.raises(FormulaError, match=r"f\(h\) computes h, the other side has a density for it"):
        KullbackLeibler(h, Normal(var=["h"], loc=0.0, scale=1.0, dim=2))


def test_one_mixed_model_against_brute_force():
    """Deterministic h of a drawn z, an enumerated y, a network of enumerated inputs only, several samples, renamed."""
    torch.set_default_dtype(torch.float64)

    class Table(Normal):
        """p(w|y): runs on the support alone."""

        def forward(self, y):
            return {"loc": y @ torch.tensor([[1.0, -1.0], [0.5, 2.0]]), "scale": torch.ones(len(y), 2)}

    class H(Deterministic):
        def forward(self, z, y):
            return {"h": z * 2 + y}

    class W(Normal):
        def forward(self, h):
            return {"loc": h, "scale": torch.full_like(h, 0.5)}

    class Z(Normal):
        def forward(self, x, y):
            return {"loc": x + y, "scale": torch.full_like(x, 1e-9)}  # all but certain, so that no noise is left

    y = Categorical(var=["y"], probs=torch.nn.Parameter(torch.tensor([0.3, 0.7])), name="q")
    q = (Z(var=["z"], cond_var=["x", "y"], name="q") * y).replace_var(x="v")
    h = H(var=["h"], cond_var=["z", "y"], name="f")
    p = W(var=["u"], cond_var=["h"]) * h * Table(var=["w"], cond_var=["y"])
    values = {"v": torch.randn(3, 2), "u": torch.randn(3, 2), "w": torch.randn(3, 2)}
    value = Expectation(q, LogProb(p), num_samples=4).estimate(values).detach()
    total = torch.zeros(3)
    for k, weight in enumerate((0.3, 0.7)):
        one_hot = torch.eye(2)[k].expand(3, 2)
        hidden = 2 * (values["v"] + one_hot) + one_hot
        lp = torch.distributions.Normal(hidden, 0.5).log_prob(values["u"]).sum(-1)
        table = one_hot @ torch.tensor([[1.0, -1.0], [0.5, 2.0]])
        total += weight * (lp + torch.distributions.Normal(table, 1.0).log_prob(values["w"]).sum(-1))
    torch.testing.assert_close(value, total, rtol=1e-6, atol=1e-6)


def test_the_decoders_of_a_shared_tensor_are_independent():
    """Two priors made of one tensor do not overwrite one another, nor the user's tensor."""
    zero = torch.tensor(0.0)
    a, b = (Normal(var=[v], loc=zero, scale=1.0, dim=2) for v in "ab")
    a.load_state_dict({"loc": torch.tensor(5.0), "scale": torch.tensor(1.0)})
    assert (b.loc.item(), zero.item()) == (0.0, 0.0)
    weight = torch.ones(2)
    loss = weight * Decoder().log_prob()
    loss.state_dict()["constant_0.value"].mul_(2)
    assert weight.tolist() == [1.0, 1.0]
