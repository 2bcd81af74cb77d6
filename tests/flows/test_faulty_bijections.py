"""Laws of a bijection fail on bijections that break them in one place, and say which datum, direction or size it is."""

import math

import pytest
import torch

from pixyz.flows import ActNorm, Bijection, ContinuousFlow, Squeeze, testing

X = torch.linspace(-1.0, 2.0, 10, dtype=torch.float64).reshape(5, 2)


class Doubled(Bijection):
    """y = 2x."""

    def push(self, x, context):
        return 2 * x, x.new_tensor(2 * math.log(2)).expand(len(x))

    def pull(self, y, context):
        return y / 2, y.new_tensor(-2 * math.log(2)).expand(len(y))


class OtherFeatures(Doubled):
    def __init__(self):
        super().__init__(2, out_shape=3)


class AloneMoved(Doubled):
    def push(self, x, context):
        y, log_det = super().push(x, context)
        return y + (len(x) == 1), log_det


class AloneStretched(Doubled):
    def push(self, x, context):
        y, log_det = super().push(x, context)
        return y, log_det + (len(x) == 1)


class Broken(Doubled):
    """Its value is read while it is traced."""

    def push(self, x, context):
        y, log_det = super().push(x, context)
        return (y if x.sum().item() > 0 else 2.0 * x), log_det


class WrongInverse(Bijection):
    """y = e^s x, whose inverse has the log-determinant s."""

    def __init__(self):
        super().__init__(2)
        self.s = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def push(self, x, context):
        return x * self.s.exp(), (2 * self.s).expand(len(x))

    def pull(self, y, context):
        return y * (-self.s).exp(), (2 * self.s).expand(len(y))


@pytest.mark.parametrize(
    ("law", "made", "words"),
    [
        (testing.check_shapes, OtherFeatures, r"forward gives features \(2,\), not \(3,\)"),
        (testing.check_shapes, AloneMoved, "forward, in a batch of 1 a datum"),
        (testing.check_shapes, AloneStretched, "forward, in a batch of 1 the log-determinant"),
        (testing.check_graph, Broken, "forward, it does not run as one graph"),
        (testing.check_gradients, WrongInverse, "in the inverse direction the log-determinant's gradient by s"),
    ],
)
def test_a_law_fails_and_says_where(law, made, words):
    with pytest.raises(AssertionError, match=words):
        law(made(), X)


@pytest.mark.parametrize("law", [testing.check_shapes, testing.check_graph, testing.check_log_det])
def test_laws_hold_for_the_bijection_without_a_fault(law):
    law(Doubled(2), X)


def test_a_step_of_euler_goes_along_the_field():
    """One step ends nearer to where fifty finer ones do than to where it began."""
    torch.manual_seed(1)
    f = ContinuousFlow(2, hidden=[4], solver="euler", steps=1).double()
    for p in f.parameters():
        torch.nn.init.normal_(p, std=0.5)
    fine = ContinuousFlow(2, hidden=[4], solver="rk4", steps=50).double()
    fine.load_state_dict(f.state_dict())
    y, log_det = f.forward_and_log_det(X)
    z, fine_log_det = fine.forward_and_log_det(X)
    assert not torch.equal(y, X)
    assert (y - z).abs().max() < 0.5 * (z - X).abs().max()
    assert (log_det - fine_log_det).abs().max() < 0.7 * fine_log_det.abs().max()


def test_activation_normalisation_of_single_numbers():
    f = ActNorm(()).double()
    x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    f.initialize(x)
    y, log_det = f.forward_and_log_det(x)
    torch.testing.assert_close((y.mean(), y.var(correction=0)), (y.new_tensor(0.0), y.new_tensor(1.0)))
    torch.testing.assert_close(log_det, -0.5 * x.var(correction=0).log().expand(3))


@pytest.mark.parametrize("shape", [(1, 5, 4), (1, 4, 5), (1, 5, 5)])
def test_a_squeeze_needs_both_sides_to_be_divisible(shape):
    with pytest.raises(ValueError, match=f"they are {shape[1]} and {shape[2]}"):
        Squeeze(shape)
