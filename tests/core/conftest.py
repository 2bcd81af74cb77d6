"""Fixtures of the core's tests, and how many random graphs they try."""

import pytest
import torch

try:
    from hypothesis import settings
except ModuleNotFoundError:  # on a machine with a GPU; a test that needs it imports it itself
    pass
else:
    settings.register_profile("short", max_examples=300)
    settings.register_profile("long", max_examples=2_000)
    settings.load_profile("short")


@pytest.fixture
def float64():
    """Numbers in double precision by default."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
