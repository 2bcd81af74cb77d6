"""Losses whose checks stay on the device are the losses that the host checks, and the host reads nothing of them."""

import pytest
import torch
from planted import Check, changed, need_found
from reference.row import Computed, in_float64, seeded
from reference.rows import PARTS, ROWS
from torch.utils._python_dispatch import TorchDispatchMode

from pixyz.core import DeferredChecks
from pixyz.distributions import Interval

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
