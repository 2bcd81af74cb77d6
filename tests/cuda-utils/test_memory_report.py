"""memory_report: bytes by term, against closed forms, the profiler's count and an allocator that keeps a log."""

import pytest
import torch
from torch import nn, optim
from torch.profiler import ProfilerActivity, profile

from pixyz.core import KindError, Loss, MissingVariableError, Parameter, ParameterError
from pixyz.cuda_utils import Allocator, memory_report
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN
from pixyz.losses import ELBO, IWAE
from pixyz.models import VI, LinearSchedule, Model, Optimizer

N = 32
VALUES = {"x": torch.randn(N, 8, generator=torch.Generator().manual_seed(0))}


class Hidden(nn.Module):
    """Saves the output of its tanh, N × hidden numbers, and nothing else: x is a value, the weights are weights."""

    def __init__(self, hidden):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, x):
        return self.net(x).squeeze(-1)


def f(hidden, name="f"):
    return Loss.from_function(Hidden(hidden), name, var=["x"])


def vae_parts():
    torch.manual_seed(0)
    q = Normal("q(z|x)", loc=nn.Sequential(nn.Linear(8, 4), nn.Dropout(), nn.BatchNorm1d(4), nn.Linear(4, 2)), scale=0.5)
    return Normal("p(x|z)", loc=nn.Linear(2, 8), scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0, dim=2), q


def test_a_network_keeps_its_activations():
    report = memory_report(f(64).mean(), VALUES)
    assert report.live == N * 64 * 4
    assert report.parameters == (8 * 64 + 64 + 64 + 1) * 4
    assert report.values == N * 8 * 4
    assert report.total == report.live + report.parameters + report.values


def test_the_parts_add_up():
    a, b = f(16, "a"), f(64, "b")
    report = memory_report((a.exp() - b).mean(), VALUES)
    assert report.as_dict()["a(x)"] == N * 16 * 4
    assert report.as_dict()["b(x)"] == N * 64 * 4
    assert report.as_dict()["exp(a(x))"] == N * (16 + 1) * 4  # exp keeps its result
    rows = [term for _, term in report.terms[0].rows()]
    assert sum(term.own for term in rows) == report.live == N * (16 + 64 + 1) * 4
    assert [term.sign for term in rows if term.text == "b(x)"] == [-1]
    assert all(term.live == term.own + sum(part.live for part in term.terms) for term in rows)


def test_what_two_terms_save_is_counted_once_where_it_was_saved_first():
    once = f(16)
    shared = memory_report((once.exp() + once * 2).mean(), VALUES)
    assert shared.live == N * (16 + 1) * 4
    again = [term.live for _, term in shared.terms[0].rows() if term.text == "f(x)"]
    assert again == [N * 16 * 4, 0]


def test_draws_are_the_expectations_own():
    q = Normal("q(z|x)", loc=nn.Linear(8, 2), scale=1.0)
    energy = Loss.from_function(Tanh(), "energy", var=["z"])
    (mean,) = memory_report(energy.expectation(q, num_samples=5).mean(), VALUES).terms
    (expectation,) = mean.terms
    (body,) = expectation.terms
    assert (body.text, body.live) == ("energy(z)", 5 * N * 2 * 4)
    assert expectation.own == expectation.live - body.live


class Tanh(nn.Module):
    def forward(self, z):
        return z.tanh().sum(-1)


def alive_after(loss, values):
    """The bytes of all tensors that an evaluation leaves, as torch's profiler counts them; tests/benchmarks/memory.py has their peak."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        value = loss.estimate(values)
    del value
    return sum(event.nbytes() for event in watched.profiler.kineto_results.events() if event.name() == "[memory]")


@pytest.mark.parametrize(
    "bound", [lambda p, q, k: ELBO(p, q, num_samples=k), lambda p, q, k: IWAE(p, q, num_samples=k)], ids=["ELBO", "IWAE"]
)
def test_memory_grows_with_the_draws_as_the_profiler_says(bound):
    p = Normal("p(x|z)", loc=nn.Linear(2, 8), scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    q = Normal("q(z|x)", loc=nn.Linear(8, 2), scale=0.5)
    counted, measured = [], []
    for k in (100, 300):
        loss = bound(p, q, k).mean()
        counted.append(memory_report(loss, VALUES).live)
        measured.append(alive_after(loss, VALUES))
    # The profiler's count has a few numbers more, which nothing saves: the bound itself, and sizes that autograd keeps.
    assert all(0 <= m - c < 64 for m, c in zip(measured, counted, strict=True))
    assert counted[1] - counted[0] >= 200 * N * (2 + 8) * 4  # the draws and the means, at least


def state_of(model):
    tensors = [t.clone() for t in (*model.loss.parameters(), *model.loss.buffers())]
    return tensors, [m.training for m in model.loss.modules()], torch.get_rng_state()


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_as_it_was(training):
    p, q = vae_parts()
    model = VI(p, q)
    model.train(VALUES)
    model.loss.train(training)
    gradients = [w.grad.clone() for w in model.trained_parameters]
    tensors, modes, state = state_of(model)
    memory_report(model, VALUES)
    after = state_of(model)
    assert all(torch.equal(a, b) for a, b in zip(tensors, after[0], strict=True))
    assert modes == after[1]
    assert torch.equal(state, after[2])
    assert all(torch.equal(w.grad, g) for w, g in zip(model.trained_parameters, gradients, strict=True))


OPTIMIZERS = {
    "Adam": (optim.Adam, {}, 2),
    "AMSGrad": (optim.Adam, {"amsgrad": True}, 3),
    "SGD": (optim.SGD, {"lr": 0.1}, 0),
    "SGD with momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9}, 1),
    "RMSprop": (optim.RMSprop, {}, 1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_and_optimisers(name):
    kind, params, copies = OPTIMIZERS[name]
    model = Model(f(64).mean(), optimizer=kind, optimizer_params=params)
    before = memory_report(model, VALUES)
    model.train(VALUES)
    after = memory_report(model, VALUES)
    assert before.gradients == before.parameters == (8 * 64 + 64 + 64 + 1) * 4
    steps = 4 * 4 if after.optimizers > copies * after.parameters else 0  # a number of steps for each of four weights
    assert after.optimizers == copies * after.parameters + steps
    assert before.optimizers == after.optimizers
    assert before.live == after.live


def test_an_optimiser_that_nobody_knows():
    class Own(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})

        def step(self):
            for group in self.param_groups:
                for w in group["params"]:
                    self.state[w]["norm"] = w.norm().item()

    report = memory_report(Model(f(4).mean(), optimizer=Own), VALUES)
    assert report.optimizers is None
    assert any(line.startswith("optimisers") and line.endswith("not known") for line in str(report).splitlines())


def test_a_weight_that_is_not_trained_has_no_gradient():
    a, b = f(4, "a"), f(8, "b")
    for w in b.parameters():
        w.requires_grad_(False)
    report = memory_report(Model((a + b).mean(), optimizers=[Optimizer(a)]), VALUES)
    assert report.gradients == sum(w.numel() for w in a.parameters()) * 4
    assert report.parameters > report.gradients
    assert report.as_dict()["b(x)"] == 0


def test_a_game_has_a_loss_for_each_player():
    p = Deterministic("p(x|z)", x=nn.Linear(2, 8)) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    model = GAN(p, Deterministic("d(t|x)", t=nn.Linear(8, 1)))
    report = memory_report(model, VALUES)
    assert len(report.terms) == 2
    assert report.live == max(term.live for term in report.terms)
    assert "log (1 - d(x))" in report.as_dict()


def test_schedules_give_what_the_data_do_not():
    model = Model((Parameter("beta") * f(4)).mean(), schedules={"beta": LinearSchedule(0.0, 1.0, steps=10)})
    assert memory_report(model, VALUES).as_dict()["f(x)"] == N * 4 * 4


def test_it_prints_as_explain_does():
    loss = (f(16, "a").exp() - f(64, "b")).mean()
    explained = [("  " * depth + term.text, term.sign) for depth, term in loss.explain(VALUES).rows()]
    report = memory_report(loss, VALUES)
    assert [("  " * depth + term.text, term.sign) for depth, term in report.terms[0].rows()] == explained
    printed = str(report).splitlines()
    assert printed[0].split() == ["term", "live"]
    assert [line.split("  ")[-1].strip() for line in printed[1:6]] == ["10.1 KiB", "10.1 KiB", "2.1 KiB", "2.0 KiB", "8.0 KiB"]
    assert printed[4].startswith("      a(x) ")
    assert printed[5].startswith("    - b(x) ")
    assert "<td>8.0 KiB</td>" in memory_report(loss, VALUES)._repr_html_()


class Counted(Allocator):
    """An allocator that gives each term of a log what it says; it takes 100 bytes at each look, of which the peak has 1000 more."""

    def __init__(self):
        self.there = 0
        self.top = 0
        self.restarts = 0

    def allocated(self):
        return self.there

    def peak(self):
        self.there += 100
        self.top = max(self.top, self.there + 1000)
        return self.top

    def restart(self):
        self.restarts += 1
        self.top = self.there


def test_on_cuda_the_allocator_counts():
    report = memory_report(f(4).mean(), VALUES, allocator=Counted())
    (mean,) = report.terms
    (inner,) = mean.terms
    assert (inner.text, inner.live, inner.peak) == ("f(x)", 100, 1100)
    assert (mean.live, mean.own, mean.peak) == (300, 200, 1300)
    assert report.backward_peak == 100 * 5 + 1000
    assert str(report).splitlines()[0].split() == ["term", "live", "peak"]
    assert "backward pass" in str(report)


@pytest.mark.parametrize(
    ("given", "values", "error", "said"),
    [
        (lambda: nn.Linear(2, 2), VALUES, KindError, "takes a model or a loss; got a Linear"),
        (lambda: f(4).mean(), {"y": torch.zeros(2)}, MissingVariableError, "needs x"),
        (lambda: f(4).mean(), None, MissingVariableError, "needs x"),
        (lambda: f(4).mean(), torch.zeros(2), KindError, "takes a mapping"),
        (lambda: Model(Loss.from_function(Lazy(), "f", var=["x"]).mean()), VALUES, ParameterError, "no shape before the first step"),
    ],
    ids=["a module", "another variable", "nothing", "a tensor", "a lazy module"],
)
def test_what_it_cannot_report_on(given, values, error, said):
    with pytest.raises(error, match=said):
        memory_report(given(), values)


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LazyLinear(1)

    def forward(self, x):
        return self.layer(x).squeeze(-1)


def test_each_factor_of_a_product_has_its_own():
    p, q = vae_parts()
    live = memory_report(VI(p, q), VALUES).as_dict()
    parts = live["log p(x|z)"] + live["log p(z)"]
    assert min(live["log p(x|z)"], live["log p(z)"], live["log q(z|x)"]) > 0
    assert live["log p(x,z)"] == parts
