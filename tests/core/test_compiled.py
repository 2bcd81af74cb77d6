"""Compiled losses: one graph each, the values of eager mode, and guards on all that may change."""

import inspect

import pytest
import torch
import torch._dynamo.testing
from loss_kinds import given, losses
from torch import nn
from zoo import Decoder, Encoder, binary, prior

from pixyz.core import CACHE_OF_ITS_OWN, Loss, ShapeError, Term, seeded
from pixyz.distributions import Logistic, Normal, Uniform
from pixyz.losses import ELBO

DIFFERENTIATED_AHEAD = ("elbo", "enumerated", "score")
"""The losses whose gradient is captured too; the gradient of the others is that of their graph in eager mode."""


@pytest.mark.parametrize("name", losses())
def test_every_loss_is_one_graph_with_eager_values(name):
    torch._dynamo.reset()
    loss = losses()[name]
    with seeded(0):
        expected = loss.estimate(given(loss))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager" if name in DIFFERENTIATED_AHEAD else "eager")
    with seeded(0):
        value = compiled(given(loss))
    torch.testing.assert_close(value, expected)
    expected.sum().backward()
    grads = [w.grad.clone() for w in loss.parameters() if w.grad is not None]
    loss.zero_grad()
    value.sum().backward()
    for a, b in zip(grads, (w.grad for w in loss.parameters() if w.grad is not None)):
        torch.testing.assert_close(a, b)


def test_a_step_is_compiled_once_and_follows_the_parameters():
    torch._dynamo.reset()
    p, q = Decoder(), Encoder()
    loss = -ELBO(p * prior(), q).mean()
    x = binary(4)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        compiled({"x": x}).backward()
        optimiser.step()
    assert counter.frame_count == 1
    with seeded(0):
        value = compiled({"x": x})
    with seeded(0):
        torch.testing.assert_close(value, loss.estimate({"x": x}))


class Warmed(Normal):
    """p(x|z) with a network, an attribute and a class attribute of its own."""

    shift = 0.0

    def __init__(self):
        super().__init__(var=["x"], cond_var=["z"])
        self.temperature = 1.0
        self.net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))

    def forward(self, z):
        return {"loc": self.net(z) + self.shift, "scale": torch.full_like(z, self.temperature)}


class Weighted(Loss):
    """A loss of one's own, with a weight that may change."""

    def __init__(self, loss):
        super().__init__([loss], input_var=loss.input_var)
        self.inner = (loss,)
        self.weight = 1.0

    @property
    def formula(self):
        return self.inner[0].formula

    def evaluate(self, scope):
        term = scope.evaluate(self.inner[0])
        return Term(self.weight * term.tensor, term.dims)


def to_evaluation(p, loss):
    p.eval()


def to_other_weights(p, loss):
    p.net[0].weight = nn.Parameter(torch.ones(2, 2))


def to_another_network(p, loss):
    p.net = nn.Linear(2, 2)


def to_another_activation(p, loss):
    p.net[1] = nn.ReLU()


def to_a_temperature(p, loss):
    p.temperature = 2.0


def to_another_class_attribute(p, loss):
    p.__class__ = type("Shifted", (Warmed,), {"shift": 1.0})


def to_a_hook(p, loss):
    p.net = nn.Sequential(p.net)
    p.net.register_forward_hook(lambda module, inputs, output: output + 1)


def to_a_weight(p, loss):
    loss.weight = 3.0


def to_no_gradient(p, loss):
    for weight in p.parameters():
        weight.requires_grad_(False)


CHANGES = [
    to_evaluation,
    to_other_weights,
    to_another_network,
    to_another_activation,
    to_a_temperature,
    to_another_class_attribute,
    to_a_hook,
    to_a_weight,
    to_no_gradient,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_compiled_loss_sees_what_changes(change):
    """The guards on the formula are left out, and only those."""
    torch._dynamo.reset()
    p = Warmed()
    loss = Weighted(p.log_prob() + 2.0)
    values = {"x": torch.randn(5, 2), "z": torch.randn(5, 2)}
    loss.compile(fullgraph=True, backend="eager")
    with seeded(0):
        before = loss.estimate(values)
    change(p, loss)
    with seeded(0):
        compiled = loss.estimate(values)
    with seeded(0):
        expected = loss.forward(values)
    torch.testing.assert_close(compiled, expected)
    assert compiled.requires_grad == expected.requires_grad
    assert change is to_no_gradient or not torch.equal(before, compiled)


def test_the_guards_on_a_formula_are_left_out(monkeypatch):
    torch._dynamo.reset()
    seen = []
    compile = torch.compile

    def with_record(function, **options):
        keep = options["options"]["guard_filter_fn"]

        def keep_and_record(guards):
            kept = keep(guards)
            seen.append((len(kept), [g.name for g, is_kept in zip(guards, kept) if is_kept]))
            return kept

        return compile(function, **{**options, "options": {**options["options"], "guard_filter_fn": keep_and_record}})

    monkeypatch.setattr(torch, "compile", with_record)
    loss = losses()["elbo"]
    loss.compile(fullgraph=True, backend="eager")
    loss.estimate(given(loss))
    ((count, names),) = seen
    assert len(names) < 0.5 * count
    if CACHE_OF_ITS_OWN:
        assert not [name for name in names if name.endswith((".input_var", ".cond_var", ".constant_names", ".num_samples"))]
    assert any(name.endswith("weight']") for name in names)


class Breaking(nn.Linear):
    """A network in which the graph ends, and another one begins."""

    def forward(self, z):
        torch._dynamo.graph_break()
        return super().forward(z)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own, after a break
@pytest.mark.parametrize(
    ("network", "batches"),
    [pytest.param(Breaking, (8, 5), id="by a break"), pytest.param(nn.Linear, (8, 0, 5), id="by an empty batch")],
)
def test_a_loss_whose_graph_ends_early_takes_batches_of_any_size(network, batches):
    torch._dynamo.reset()
    p, q = Normal("p(x|z)", loc=nn.Linear(2, 3), scale=1.0), Normal("q(z|x)", loc=network(3, 2), scale=1.0)
    loss = p.log_prob().expectation(q).mean()
    loss.compile(backend="eager")
    for batch in batches:
        values = {"x": torch.randn(batch, 3)}
        if not batch:
            with pytest.raises(ShapeError, match="the batch is empty"):
                loss.estimate(values)
            continue
        with seeded(0):
            expected = loss.forward(values)
        with seeded(0):
            torch.testing.assert_close(loss.estimate(values), expected)


@pytest.mark.skipif("isolate_recompiles" not in inspect.signature(torch.compile).parameters, reason="this torch has one count for all")
def test_many_losses_are_compiled_in_one_process():
    """All losses share one forward, of which torch by itself compiles no more than eight."""
    z = torch.randn(3)
    for i in range(10):
        loss = Normal("p(z)", loc=0.0, scale=1.0).log_prob() + float(i)
        expected = loss.estimate({"z": z})
        loss.compile(backend="eager", fullgraph=True)
        torch.testing.assert_close(loss.estimate({"z": z}), expected)


def test_a_compiled_draw_is_the_eager_one():
    p = Normal("p(z)", loc=0.0, scale=1.0, dim=2) * Uniform("p(u)", low=0.0, high=1.0) * Logistic("p(v)", loc=0.0, scale=1.0)

    def draw():
        return p.sample(batch_size=3)

    compiled = torch.compile(draw, fullgraph=True)
    with seeded(0):
        expected = draw()
    with seeded(0):
        torch.testing.assert_close(compiled(), expected)
