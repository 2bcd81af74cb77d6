"""One graph serves every batch size: a compiled loss has a first graph, for one size, and a second one for all others.

A trace costs a hundredth of a second for each operation, so the formulas have no more terms than what they are here for needs.
"""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from zoo import Decoder, Encoder, binary, prior

from pixyz.core import Parameter, seeded
from pixyz.distributions import Bernoulli, Categorical, Deterministic, MixtureModel, Normal
from pixyz.flows import RealNVP
from pixyz.gan import AdversarialNonSaturating
from pixyz.losses import ELBO, IWAE, MMD, InfoNCE, IterativeLoss, KullbackLeibler

SIZES = range(2, 12)


def images(n):
    return {"x": binary(n)}


def bound():
    p, q = Decoder() * prior(), Encoder()
    return (Parameter("beta") * IWAE(p, q, num_samples=3)).mean()


def divergence():
    p, q = prior(), Encoder()
    return (KullbackLeibler(q, p) + KullbackLeibler(q, p, analytic=False, num_samples=2)).mean()


def set_distance():
    q = Encoder()
    return MMD(q, prior()) - InfoNCE(q, lambda x, z: (x[:, :2] * z).sum(-1)).mean()


def estimators():
    q = Bernoulli("q(b|x)", logits=nn.Linear(6, 3))
    p = Normal("p(x|b)", loc=nn.Linear(3, 6), scale=1.0) * Bernoulli("p(b)", logits=torch.zeros(3))
    return -(ELBO(p, q, estimator="enumerate") + ELBO(p, q, estimator="score", num_samples=2)).mean()


def mixture():
    components = [Normal("p(x|y)", loc=nn.Linear(2, 6), scale=1.0) for _ in range(2)]
    return -MixtureModel(components, Categorical("p(k)", probs=torch.ones(2) / 2)).log_prob().mean()


def chain():
    start, move = Normal("p(z1)", loc=0.0, scale=1.0, dim=2), Normal("p(z2|z1)", loc=nn.Linear(2, 2), scale=0.5)
    see = Normal("p(x|z2)", loc=nn.Linear(2, 6), scale=0.5)
    return -(start * move * see).marginalize_var(["z1", "z2"]).log_prob().mean()


def sequence():
    see, move = Normal("p(x|z)", loc=nn.Linear(2, 6), scale=0.5), Normal("p(z|z_prev)", loc=nn.Linear(2, 2), scale=0.5)
    q = Normal("q(z|x,z_prev)", loc=lambda x, z_prev: x[:, :2] + z_prev, scale=0.5)
    return -IterativeLoss(ELBO(see * move, q), series_var=["x"], update_value={"z": "z_prev"}).mean()


def flow():
    return -RealNVP("p(x)", features=6, transforms=2, hidden=[8]).log_prob().mean()


def players():
    return Deterministic("p(x|z)", x=nn.Linear(2, 6)), Deterministic("d(t|x)", t=nn.Linear(6, 1))


def game():
    p, d = players()
    return AdversarialNonSaturating((p * prior()).marginalize_var("z"), d).for_player(d)


CASES = {
    "a bound": (bound, lambda n: {**images(n), "beta": 0.5}),
    "a divergence": (divergence, images),
    "distances of sets": (set_distance, images),
    "estimators": (estimators, images),
    "a mixture": (mixture, lambda n: {**images(n), "y": torch.randn(n, 2)}),
    "a chain": (chain, images),
    "a sequence": (sequence, lambda n: {"x": torch.randn(n, 2, 6), "z_prev": torch.zeros(n, 2)}),
    "a flow": (flow, images),
    "a game": (game, images),
}


def values_and_gradients(loss, values, evaluate):
    with seeded(1):
        value = evaluate(values)
    weights = list(loss.parameters())
    return value.detach(), *torch.autograd.grad(value, weights, allow_unused=True)


def graphs_for(kind, sizes, *, open_batch):
    """How many graphs are traced for these sizes, the first of them with a batch that is said to vary, or not."""
    make, values = CASES[kind]
    loss, graphs = make(), CompileCounterWithBackend("eager")
    loss.compile(fullgraph=True, backend=graphs)
    for n in sizes:
        data = values(n)
        if open_batch and n == sizes[0]:
            for tensor in data.values():
                if isinstance(tensor, torch.Tensor):
                    torch._dynamo.mark_dynamic(tensor, 0)
        compiled, eager = (values_and_gradients(loss, data, evaluate) for evaluate in (loss.estimate, loss.forward))
        torch.testing.assert_close(compiled, eager)
    return graphs.frame_count


@pytest.mark.parametrize("kind", CASES)
def test_one_graph_with_an_open_batch_serves_ten_sizes(kind):
    """The graph that torch traces for the second size, without the trace for the first."""
    assert graphs_for(kind, [3, *SIZES], open_batch=True) == 1


def test_two_graphs_serve_ten_sizes_where_nothing_is_said():
    assert graphs_for("a game", SIZES, open_batch=False) == 2


@pytest.mark.parametrize("kind", ["a divergence", "a sequence", "a flow", "a game"])
def test_it_is_exported_with_an_open_batch(kind):
    make, values = CASES[kind]
    loss, given = make(), values(4)
    batch = {"values": {name: {0: torch.export.Dim.DYNAMIC} for name in given}}
    program = torch.export.export(loss, (given,), dynamic_shapes=batch).module()
    for n in (2, 9):
        data = values(n)
        with seeded(1):
            found = program(data)
        with seeded(1):
            torch.testing.assert_close(found, loss.estimate(data))


@pytest.mark.parametrize("options", [{}, {"dynamic": True}], ids=["left open", "dynamic"])
def test_the_graphs_of_a_batch_size_are_torchs_choice(options):
    loss, graphs = KullbackLeibler(Encoder(), prior()).mean(), CompileCounterWithBackend("eager")
    run = torch.compile(loss, fullgraph=True, backend=graphs, **options)
    for n in (3, 5, 7):
        data = images(n)
        torch.testing.assert_close(values_and_gradients(loss, data, run), values_and_gradients(loss, data, loss.forward))
    assert graphs.frame_count == (1 if options else 2)


def test_two_batches_in_one_formula_are_not_shared():
    """What draws of nothing given are for: as many as there are data in each of the two."""
    q = Normal("q(z)", loc=0.0, scale=1.0)
    each = [Normal(f"p({v}|z)", loc="z", scale=1.0).log_prob().expectation(q).mean() for v in "xy"]
    loss, graphs = each[0] + each[1], CompileCounterWithBackend("eager")
    loss.compile(fullgraph=True, backend=graphs)
    for n, m in ((2, 3), (4, 6), (5, 9)):
        data = {"x": torch.zeros(n), "y": torch.ones(m)}
        with seeded(1):
            found = loss.estimate(data)
        with seeded(1):
            torch.testing.assert_close(found, loss.forward(data))
    assert graphs.frame_count <= 2
