"""Memory grows with the number of draws, and not with its square."""

import pytest
from benchmarks.memory import BOUNDS, peak_bytes, step

WITHIN_500_MB = ["IWAE", "RenyiBound, α = 0.5", "RenyiBound, α = 2", "IWAE, score", "RenyiBound, α = 0.5, score"]


@pytest.mark.parametrize("name", WITHIN_500_MB)
def test_a_hundred_thousand_draws_take_less_than_500_mb(name):
    """Batch 8, two latent dims, the loss and its backward pass; a table of all pairs of draws would take 320 GB."""
    assert peak_bytes(step(BOUNDS[name](100_000), batch=8)) < 500e6


@pytest.mark.parametrize("name", BOUNDS)
def test_ten_times_the_draws_take_ten_times_the_memory(name):
    few, many = (peak_bytes(step(BOUNDS[name](k), batch=2)) for k in (100, 1000))
    assert few > 0
    assert many < 11 * few
