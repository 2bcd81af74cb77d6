"""Options and fixtures of all tests."""

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="cpu or cuda: where tests that take the fixture `device` run")
    parser.addoption("--kills", default=3, type=int, help="how often the training of test_killed.py is killed")


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    name = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    return torch.device(name)


@pytest.fixture(autouse=True)
def _reproducible():
    """Every test draws from the same seed, and leaves the default dtype and the compiler as they were."""
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
    torch.compiler.reset()
