"""What each draw adds to a mean over the draws, against sixty digits: the baseline of a score is the mean of the other draws.

The draws are the unit vectors, at each of which the score of a normal distribution around 0 is the draw itself: so each component of the
gradient is what one draw is multiplied by.
"""

import math

import pytest
import torch
from mpmath import mp, mpf

from pixyz.core import Expectation, Loss
from pixyz.distributions import Normal

COSTS = {
    "a few": [1.0, 2.0, 3.0],
    "equal": [5.0, 5.0, 5.0],
    "nearly equal, far from zero": [-100.1, -100.2, -100.3] * 20,
    "one is all of the sum": [0.0, -200.0, -201.0],
    "one is far above": [1e6, 0.0, 1.0, 2.0],
    "one is far below": [-1e6, 0.1, 0.2, 0.3],
    "both": [500.0, -500.0, 3.0, 2.0],
    "two": [-1e4, -2e4],
}


def advantages(costs, order):
    """K times the factor of the score of each of K draws with these costs."""
    units, loc = torch.eye(len(costs), dtype=costs.dtype), torch.zeros_like(costs).requires_grad_()
    q = Normal("q(z|m)", loc="m", scale=1.0)
    cost = Loss.from_function(lambda z: costs[z.argmax(-1)], "c", var=["z"])
    loss = Expectation(q, cost, num_samples=len(costs), estimator="score", aggregate=order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Normal, "rsample", staticmethod(lambda params, shape: units.reshape(shape)))
        value = loss.to(costs.dtype).estimate({"m": loc.unsqueeze(0)})
    return len(costs) * torch.autograd.grad(value.sum(), loc)[0]


def to_sixty_digits(costs, order):
    """K times the mean of order α, less that with the arithmetic mean of the others in the place of each."""
    with mp.workdps(60):
        values, count, scale = [mpf(c) for c in costs], len(costs), 1 - mpf(order)

        def mean(v):
            return sum(v) / count if scale == 0 else mp.log(sum(mp.exp(scale * x) for x in v) / count) / scale

        without = [values[:k] + values[k + 1 :] for k in range(count)]
        whole = mean(values)
        return [count * (whole - mean([*others, sum(others) / (count - 1)])) for others in without]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("order", [0.0, 0.5, -1.0, 2.0, 1.0])
@pytest.mark.parametrize("name", COSTS)
def test_the_advantage_of_each_draw_has_all_digits(name, order, dtype):
    costs = torch.tensor(COSTS[name], dtype=dtype)
    found, truth = advantages(costs, order).tolist(), to_sixty_digits(costs.tolist(), order)
    size = max(1.0, costs.abs().max().item()) if order == 1 else 1.0
    for x, y in zip(found, truth, strict=True):
        assert abs(x - float(y)) <= 60 * torch.finfo(dtype).eps * max(size, abs(float(y)))


def test_impossible_draws_are_left_out_of_the_mean_of_the_others():
    found = advantages(torch.tensor([1.0, -math.inf, -math.inf, 2.0]), 0.0)
    p, q = math.exp(1.0), math.exp(2.0)
    assert found.tolist() == pytest.approx([4 * math.log((p + q) / q), 0.0, 0.0, 4 * math.log((p + q) / p)], rel=1e-6)
    alone = advantages(torch.tensor([3.0, -math.inf, 1.0]), 0.0)
    replaced = math.log(math.exp(3.0) + math.exp(2.0) + math.exp(1.0))
    assert alone[1].item() == pytest.approx(3 * (math.log(math.exp(3.0) + math.exp(1.0)) - replaced), rel=1e-5)


@pytest.mark.filterwarnings("ignore:.*one draw")
def test_a_single_draw_has_no_baseline():
    assert [advantages(torch.tensor([cost]), 0.0).tolist() for cost in (3.0, 4.0)] == [[3.0], [4.0]]
