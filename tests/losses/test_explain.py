"""`loss.explain`: the tree is the formula, its values are those of the terms, and they add up."""

import pytest
import torch
from torch import nn

from pixyz.core import Explanation, Loss, seeded
from pixyz.distributions import Categorical, Normal
from pixyz.losses import ELBO, IWAE, Expectation, KullbackLeibler


@pytest.fixture
def model():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    prior = Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    p = Normal("p(x|z,y)", loc=lambda z, y: z + y[:, :2], scale=0.7) * prior * Categorical("p(y)", probs=torch.ones(4) / 4)
    encoder = Normal("q(z|x)", loc=nn.Linear(2, 2), scale=0.5)
    q = encoder * Categorical("q(y|x)", logits=nn.Linear(2, 4))
    return p, q, encoder, prior, {"x": torch.randn(10, 2)}


def sums(e: Explanation):
    """Every term of the tree whose terms are summed: their total, and its value."""
    return [(sum(t.sign * t.value for t in term.terms), term.value, term.text) for _, term in e.rows() if len(term.terms) > 1]


def test_terms_add_up_to_the_loss(model):
    p, q, encoder, prior, values = model
    loss = -ELBO(p, q, num_samples=8).mean() + 0.1 * KullbackLeibler(encoder, prior).mean()
    with seeded(1):
        value = loss.estimate(values)
    with seeded(1):
        e = loss.explain(values)
    assert e.text == str(loss)
    assert abs(e.value - value.item()) < 1e-12
    added = sums(e)
    assert {text for *_, text in added} >= {str(loss), "log p(x,z,y)", "log q(z,y|x)", "log p(x,z,y)/q(z,y|x)"}
    for total, whole, text in added:
        assert abs(total - whole) < 1e-12, text
    said = {term.text: term.how for _, term in e.rows()}
    assert said["E_q(z,y|x)[log p(x,z,y)/q(z,y|x)]"] == "y summed exactly (4 values); z drawn 8 times, pathwise"
    assert said["KL[q(z|x)||p(z)]"] == "closed form"
    assert e.as_dict()["KL[q(z|x)||p(z)]"] == pytest.approx(KullbackLeibler(encoder, prior).estimate(values).mean().item())


def test_a_term_inside_an_expectation_has_its_expectation(model):
    """log q(y|x) under an enumerated y is minus its entropy, log p(z) under q(z|x) is by the normal's moments."""
    p, q, encoder, _, values = model
    e = ELBO(p, q, num_samples=4_000).explain(values)
    terms = {term.text: term for _, term in e.rows()}
    entropy = q.factors[1].dist.entropy(values).mean().item()
    assert terms["log q(y|x)"].value == pytest.approx(-entropy)
    assert terms["log q(y|x)"].error is None
    moments = encoder.mean(values).square() + 0.25
    truth = (-0.5 * (moments + torch.log(torch.tensor(2 * torch.pi))).sum(-1)).mean().item()
    found = terms["log p(z)"]
    assert abs(found.value - truth) < 4 * found.error


def test_the_standard_error_is_that_of_repetition(model):
    p, q, _, _, values = model
    loss = ELBO(p, q, num_samples=8)
    runs = [loss.explain(values) for _ in range(300)]
    spread = torch.tensor([e.value for e in runs]).std().item()
    assert torch.tensor([e.error for e in runs]).mean().item() == pytest.approx(spread, rel=0.15)
    assert loss.explain({"x": values["x"]}).error is not None
    assert ELBO(p, q, num_samples=1).explain(values).error is None
    assert IWAE(p, q, num_samples=8).explain(values).error is None


def test_the_standard_error_of_a_batch_is_that_of_its_mean():
    """For each of n data the mean of K draws has the variance σ²/K, so their mean has σ²/Kn."""
    torch.manual_seed(0)
    q = Normal("q(z|x)", loc="x", scale=2.0)
    z = Loss.from_function(lambda z: z.sum(-1), "f", var=["z"])
    e = Expectation(q, z.mean(), num_samples=2_000).explain({"x": torch.zeros(4, 1)})
    assert e.error == pytest.approx(2 / (2_000 * 4) ** 0.5, rel=0.05)


def test_gradient_norms(model):
    p, q, encoder, prior, values = model
    loss = KullbackLeibler(encoder, prior).mean()
    e = loss.explain(values, gradients=True)
    parameters = list(encoder.parameters())
    truth = sum(g.square().sum() for g in torch.autograd.grad(loss.estimate(values), parameters)).sqrt().item()
    assert e.gradient_norms["q(z|x)"] == pytest.approx(truth)
    assert e.gradient_norms["p(z)"] == 0
    assert all(w.grad is None for w in parameters)
    assert "norm of the gradient for" in str(e)


def test_it_prints_and_renders(model):
    p, q, _, _, values = model
    e = ELBO(p, q, num_samples=2).mean().explain(values)
    lines = str(e).splitlines()
    assert lines[0].split() == ["term", "value", "shape", "how"]
    assert lines[1].startswith("mean(E_q(z,y|x)[")
    assert any(line.lstrip().startswith("- log q(z,y|x)") for line in lines)
    assert e._repr_html_().count("<tr>") == len(lines)


def test_columns_are_aligned(model):
    """Without standard errors too, where their column is empty and the shapes are the wider ones."""
    _, _, encoder, prior, values = model
    for loss in (KullbackLeibler(encoder, prior).mean(), 2 * KullbackLeibler(encoder, prior)):
        head, *rows = str(loss.explain(values)).splitlines()
        for column in ("shape", "how"):
            at = head.index(column)
            assert all(row.ljust(at)[at - 2 : at].isspace() and (row[at:] == "" or not row[at].isspace()) for row in rows)
