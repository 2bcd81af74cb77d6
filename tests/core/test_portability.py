"""Copies, pickles, devices, dtypes and state dicts."""

import copy
import io
import pickle

import pytest
import torch
from loss_kinds import VALUES, given, losses
from torch import nn
from zoo import Decoder, Encoder, prior

from pixyz.core import seeded
from pixyz.distributions import Normal
from pixyz.losses import ELBO, NLL, KullbackLeibler


def copies(module):
    yield copy.deepcopy(module)
    yield pickle.loads(pickle.dumps(module))
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    yield torch.load(stream, weights_only=False)


@pytest.mark.parametrize("name", losses())
def test_losses_copy_and_pickle(name):
    loss = losses()[name]
    with seeded(0):
        expected = loss.estimate(given(loss))
    for other in copies(loss):
        assert str(other) == str(loss)
        with seeded(0):
            assert torch.equal(other.estimate(given(loss)), expected)
        # what is registered is what is evaluated
        with torch.no_grad():
            for w in other.parameters():
                w.copy_(torch.randn_like(w))
        if [*other.parameters()]:
            with seeded(0):
                assert not torch.equal(other.estimate(given(loss)), expected)
            with seeded(0):
                assert torch.equal(loss.estimate(given(loss)), expected)


@pytest.mark.parametrize(
    "make", [Decoder, prior, lambda: Decoder() * prior(), lambda: (Decoder() * prior()).replace_var(x="v").marginalize_var("z")]
)
def test_distributions_copy_and_pickle(make):
    p = make()
    values = {k: v for k, v in VALUES.items() if k in p.cond_var}
    with seeded(0):
        expected = p.sample(values, batch_size=4)
    for other in copies(p):
        assert str(other) == str(p)
        with seeded(0):
            drawn = other.sample(values, batch_size=4)
        assert all(torch.equal(expected[k], drawn[k]) for k in expected)


@pytest.mark.parametrize("name", losses())
def test_losses_move_to_another_dtype(name):
    loss = losses()[name].double()
    value = loss.estimate({k: v.double() for k, v in given(loss).items()})
    assert value.dtype == torch.float64


@pytest.mark.gpu
@pytest.mark.parametrize("name", losses())
def test_losses_move_to_another_device(name, device):
    loss = losses()[name].to(device)
    value = loss.estimate({k: v.to(device) for k, v in given(loss).items()})
    assert value.device.type == device.type


def test_the_joint_of_a_moved_distribution_moves_with_it():
    p, z = Decoder(), prior()
    joint, loss = p * z, (p * z).log_prob()
    loss.double()
    assert joint.sample(batch_size=2)["x"].dtype == torch.float64


def test_state_dict_keys():
    p, q, z = Decoder(), Encoder(), prior()
    loss = -(ELBO(p * z, q) - 0.1 * NLL(p)).mean()
    keys = list(loss.state_dict())
    assert keys == list((-(-NLL(p) * 0.1 + ELBO(z * p, q)).sum()).state_dict())
    assert [k for k in keys if k.startswith("p(x|z)")] == ["p(x|z).fc1.weight", "p(x|z).fc1.bias", "p(x|z).fc2.weight", "p(x|z).fc2.bias"]
    assert keys == sorted(keys, key=lambda k: k.split(".")[0])
    assert list((p * z).state_dict()) == list((z * p).state_dict())
    assert list((p.replace_var(x="v") * z).state_dict()) == list((p * z).state_dict())
    assert len([*loss.parameters()]) == len([*p.parameters(), *q.parameters()])


def test_state_dict_carries_the_values_over():
    p, q = Decoder(), Encoder()
    loss, other = ELBO(p * prior(), q), ELBO(Decoder() * prior(), Encoder())
    other.load_state_dict(loss.state_dict())
    with seeded(0):
        expected = loss.estimate({"x": VALUES["x"]})
    with seeded(0):
        assert torch.equal(other.estimate({"x": VALUES["x"]}), expected)


def test_tensors_and_parameters_of_a_formula_are_registered():
    kl = KullbackLeibler(Encoder(), prior())
    weight = nn.Parameter(torch.tensor(2.0))
    loss = (torch.tensor(3.0) * kl).mean() + weight * kl.mean()
    assert [k for k in loss.state_dict() if k.startswith("constant")] == ["constant_0.value", "constant_1.value"]
    assert any(w is weight for w in loss.parameters())
    loss.double()
    assert loss.estimate({"x": VALUES["x"].double()}).dtype == torch.float64


ORDERS = {"forwards": [0, 1, 2, 3], "backwards": [3, 2, 1, 0], "mixed": [2, 0, 3, 1]}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_sum_that_grows_registers_in_one_order(order):
    """Leaves by their text, once each, whichever side is longer; constants behind them, in the order of the formula."""
    leaves = [Normal(f"p_{i}(z)", loc=float(i), scale=1.0) for i in range(4)]
    weights = [torch.tensor(10.0 * i) for i in range(4)]
    added, prepended = None, None
    for i in order:
        term = weights[i] * leaves[i].log_prob() + leaves[0].log_prob()
        added = term if added is None else added + term
        prepended = term if prepended is None else term + prepended
    names = [f"p_{i}(z)" for i in range(4)]
    for loss, constants in ((added, order), (prepended, order[::-1])):
        assert [name for name, _ in loss.named_children()] == [*names, *(f"constant_{i}" for i in range(4))]
        assert [loss.get_submodule(n) for n in names] == leaves
        assert [loss.get_submodule(f"constant_{i}").value.item() for i in range(4)] == [10.0 * i for i in constants]


def test_train_and_eval_are_those_of_modules():
    loss = ELBO(Decoder() * prior(), Encoder(dropout=0.5))
    assert loss.eval() is loss
    assert not any(m.training for m in loss.modules())
    assert loss.train() is loss
    assert all(m.training for m in loss.modules())
