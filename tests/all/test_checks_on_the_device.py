"""Losses whose checks stay on the device are the losses that the host checks, and the host reads nothing of them."""

import pytest
import torch
from planted import Check, changed, need_found
from reference.row import Computed, in_float64, seeded
from reference.rows import PARTS, ROWS
from torch.utils._python_dispatch import TorchDispatchMode

import pixyz.distributions as d
from pixyz.core import DeferredChecks, SupportError
from pixyz.distributions import Bernoulli, Interval

A = torch.ops.aten
READING = {A._local_scalar_dense.default, A.equal.default, A.nonzero.default, A.is_nonzero.default, A._linalg_check_errors.default}
# Objects of torch's own check themselves, a sampler that rejects looks at what it has, and so does a solver that chooses its steps.
THEMSELVES = (
    "composed: TorchFamily FisherSnedecor",
    "distributions: LowRankMultivariateNormal",
    "distributions: StudentT",
    "distributions: VonMises: draws",
    "flows: ContinuousFlow, dopri5",
    "sequences: sequence: slices of a series",  # its network does
)


class Reads(TorchDispatchMode):
    """Counts the operations that make the host wait for an accelerator."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in READING
        return function(*args, **(kwargs or {}))


def values_of(row, checks):
    """The value of a row with other checks, by the same draws, and how often the host has read."""
    before = [b.clone() for b in row.loss.buffers()]
    with Reads() as reads, seeded(1), torch.set_grad_enabled(any(v.requires_grad for v in row.values.values())):
        value = row.loss.estimate(row.values, batch_size=row.batch_size, validate=checks)
    for buffer, old in zip(row.loss.buffers(), before, strict=True):
        buffer.data.copy_(old)
    return value.detach(), reads.count


@pytest.mark.parametrize("part", PARTS)
def test_deferred_checks_change_no_value_and_read_nothing(part):
    for name in (f"{part}: {name}" for name in PARTS[part]):
        with in_float64():
            with seeded(0):
                try:
                    row = ROWS[name]()
                except ModuleNotFoundError:
                    continue
                if isinstance(row.loss, Computed):
                    continue
                if row.loss.needs_start:
                    row.loss.initialize(row.values, batch_size=row.batch_size)
            checks = DeferredChecks()
            expected, _ = values_of(row, True)
            deferred, count = values_of(row, checks)
        assert torch.equal(deferred, expected), name
        failed = checks.failed()
        assert failed is None or not failed.any(), (name, checks.names)
        assert not count or name.startswith(THEMSELVES), name


def reads_at_once(f):
    return lambda self, t, *checks: bool(f(self, t, *checks))


def test_a_support_that_reads_is_found(monkeypatch):
    check = Check("all", "test_deferred_checks_change_no_value_and_read_nothing", "core")
    need_found(monkeypatch, changed(Interval, "holds", reads_at_once), check)


class Elsewhere(torch.Tensor):
    """A tensor that says it is on an accelerator, so that an evaluation with it is one of an accelerator."""

    device = property(lambda self: torch.device("mps"))  # type: ignore[assignment]


def on_an_accelerator(x):
    return {"other": torch.zeros(1).as_subclass(Elsewhere), "x": x}


CALLS = {
    "estimate": lambda p, x: (p.log_prob() - p.log_prob().expectation(p)).estimate(x),
    "a call": lambda p, x: p.log_prob()(x),
    "log_likelihood": lambda p, x: p.log_likelihood(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_evaluation_on_an_accelerator_reads_once_when_it_ends(name):
    p, call = Bernoulli("p(x)", probs=torch.tensor([0.5, 0.25])), CALLS[name]
    x = torch.tensor([[0.0, 1.0]])
    with seeded(0):
        expected = call(p, {"x": x})
    with Reads() as reads, seeded(0):
        value = call(p, on_an_accelerator(x))
    assert torch.equal(value, expected)
    assert reads.count == 1
    with pytest.raises(SupportError, match=r"^p\(x\) \(Bernoulli\): x must be 0 or 1, but 1 of 2 are not"):
        call(p, on_an_accelerator(x + 0.5 * x))


def test_a_check_that_fails_once_is_told_without_its_numbers():
    """A network that returns other numbers when it is called again."""
    calls = []

    def network(x):
        calls.append(x)
        return x - (2 if len(calls) == 1 else 0)

    p = Bernoulli("p(y|x)", probs=network)
    with pytest.raises(SupportError, match=r"^p\(y\|x\): a number was outside of its support, and was inside when it was evaluated again"):
        p.sample(on_an_accelerator(torch.tensor([[0.5, 1.0]])))


def test_draws_on_an_accelerator_check_the_parameters():
    p = Bernoulli("p(y|x)", probs="x")
    with Reads() as reads:
        p.sample(on_an_accelerator(torch.tensor([[0.0, 1.0]])))
    assert reads.count == 1
    with pytest.raises(SupportError, match=r"^p\(y\|x\): probs must be in \[0, 1\], but 1 of 2 are not"):
        p.sample(on_an_accelerator(torch.tensor([[0.0, 1.5]])))


SAMPLED = {
    "Bernoulli": (d.Bernoulli, "probs"),
    "Binomial": (lambda *a, **o: d.Binomial(*a, total_count=3.0, **o), "probs"),
    "Geometric": (d.Geometric, "probs"),
    "Poisson": (d.Poisson, "rate"),
    "NegativeBinomial": (lambda *a, **o: d.NegativeBinomial(*a, total_count=3.0, **o), "probs"),
    "ZeroInflated": (lambda *a, gate: d.ZeroInflated(d.Poisson("p(y|x)", rate="x"), gate=lambda x: x), "gate"),
    "Categorical": (d.Categorical, "logits"),
}


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("number", [torch.nan, -1.0, 2.0])
def test_a_sampler_is_not_given_what_its_support_lacks(name, number):
    """torch's samplers of whole numbers stop on the CPU, and end the process on CUDA, before a flag could be read."""
    make, parameter = SAMPLED[name]
    p = make("p(y|x)", **{parameter: "x"})
    checks = DeferredChecks()
    draw = p.log_prob().expectation(p, estimator="sample").estimate({"x": torch.tensor([[0.5, number]])}, validate=checks)
    assert draw.shape == (1,)
    if not (name in ("Poisson", "Categorical") and number == 2.0):
        failed = checks.failed()
        assert failed is not None
        assert failed.any() == (name != "Categorical" or number != number)
