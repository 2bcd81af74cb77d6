"""Very many draws in half precision are finite: no uniform number of 0 or 1 becomes an infinite Gumbel, logistic or relaxed draw."""

import pytest
import torch

import pixyz.distributions as d

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
ENDS = {"Uniform": (0.0, 1.0), "Gumbel": None, "Logistic": None, "RelaxedBernoulli": (0.0, 1.0), "RelaxedCategorical": (0.0, 1.0)}
MADE = {
    "Uniform": lambda t: d.Uniform("p(x)", low=t([0.0]), high=t([1.0])),
    "Gumbel": lambda t: d.Gumbel("p(x)", loc=t([0.0]), scale=t([1.0])),
    "Logistic": lambda t: d.Logistic("p(x)", loc=t([0.0]), scale=t([1.0])),
    "RelaxedBernoulli": lambda t: d.RelaxedBernoulli("p(x)", temperature=t(0.5), logits=t([0.0])),
    "RelaxedCategorical": lambda t: d.RelaxedCategorical("p(x)", temperature=t(0.5), logits=t([0.0, 0.0])),
}
AT_ONCE = 10**7


def are_finite(name, dtype, device, count):
    """Whether all draws are finite and none is outside of its interval; a uniform number may round to 1, for half precision is coarse."""
    p = MADE[name](lambda numbers: torch.tensor(numbers, dtype=dtype, device=device))
    good = torch.ones((), dtype=torch.bool, device=device)
    with torch.no_grad():
        for size in [*[AT_ONCE] * (count // AT_ONCE), count % AT_ONCE]:
            if not size:
                continue
            x = p.sample(batch_size=size)["x"]
            assert x.dtype == dtype
            good &= x.isfinite().all()
            if ENDS[name] is not None:
                low, high = ENDS[name]
                good &= ((x >= low) & (x <= high)).all()
    return bool(good)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", HALF.values(), ids=HALF)
@pytest.mark.parametrize("name", MADE)
def test_draws_are_finite(name, dtype, device):
    torch.manual_seed(0)
    assert are_finite(name, dtype, device, 10**5)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", HALF.values(), ids=HALF)
@pytest.mark.parametrize("name", ["Uniform", "Gumbel"])
def test_a_hundred_million_draws_are_finite(name, dtype, cuda):
    torch.manual_seed(0)
    assert are_finite(name, dtype, cuda, 10**8)


@pytest.mark.parametrize("dtype", HALF.values(), ids=HALF)
def test_the_check_finds_what_numbers_of_that_dtype_would_give(dtype):
    """Drawn in half precision itself, a uniform number is 0 once in some thousands, and its Gumbel noise infinite."""
    torch.manual_seed(0)
    u = torch.rand(10**5, dtype=dtype)
    assert not (-(-u.log()).log()).isfinite().all()
