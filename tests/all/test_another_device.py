"""Every family, loss, estimator, flow and game is on another device what it is on the CPU; so is what is trained and saved there.

Without another device, `elsewhere` stands for one, in a child process.
"""

import re

import children
import elsewhere
import pytest
import torch
from placed import NoiseOfTheCPU
from planted import planted
from reference.elsewhere import LEFT_OUT, comparable, differing, differing_elsewhere, one_of_each
from reference.rows import PARTS, ROWS
from torch import nn

from pixyz.distributions import Normal


@pytest.mark.gpu
@pytest.mark.parametrize("part", PARTS)
def test_values_and_gradients_on_the_device_are_those_on_the_cpu(part, device):
    """On the CPU itself, one row of each part."""
    names = comparable([f"{part}: {name}" for name in PARTS[part]], device.type)
    found = differing(names[:1] if device.type == "cpu" else names, device)
    assert not found, "\n".join(found)


def test_values_and_gradients_elsewhere_are_those_on_the_cpu():
    found = children.result_of(differing_elsewhere, comparable(one_of_each(), elsewhere.NAME))
    assert not found, "\n".join(found)


def test_the_rows_that_are_compared():
    assert len(one_of_each()) >= 280
    assert LEFT_OUT.keys() <= ROWS.keys()


ROW = "distributions: Normal: log-density"
FAULTS = {
    "a tensor born on the CPU": (lambda params, x: torch.zeros(x.shape[-1:]), r"Expected all tensors to be on the same device"),
    "numbers by numpy": (lambda params, x: torch.as_tensor(x.detach().numpy()).sum(), r"can't convert \w+:0 device type tensor to numpy"),
    "noise from a generator of the CPU": (
        lambda params, x: torch.zeros_like(x).normal_(generator=torch.Generator()),
        r"Expected a '\w+' device type for generator but found 'cpu'",
    ),
    "another value there": (lambda params, x: 1e-6 * (x.device.type != "cpu"), r"value"),
}


def with_a_fault(name):
    with pytest.MonkeyPatch.context() as patch:
        planted(patch, Normal, "log_density", lambda f: lambda params, x: f(params, x) + FAULTS[name][0](params, x))
        return differing_elsewhere([ROW])


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name):
    (line,) = children.result_of(with_a_fault, name)
    assert line.startswith(f"{ROW}: ")
    assert re.search(FAULTS[name][1], line)


def rules():
    """What an error of each operation says, elsewhere; nothing, if there is none."""
    elsewhere.register()
    x, here, number = torch.ones(3, 2, device=elsewhere.NAME), torch.ones(3, 2), torch.tensor(2.0)
    operations = {
        "a sum of both": lambda: x + here,
        "a product of matrices of both": lambda: x @ here.T,
        "what is written there": lambda: x.add_(here),
        "what is written here": lambda: here.add_(x),
        "what is written into a number here": lambda: torch.tensor(1.0).add_(x.sum()),
        "a stack of both": lambda: torch.stack([x.sum(), number]),
        "a choice of both": lambda: torch.where(x > 0, x, here),
        "an index there of values here": lambda: here[torch.tensor([0], device=elsewhere.NAME)],
        "a list of it for numpy": lambda: x.numpy(),
        "a generator of the CPU": lambda: torch.rand(2, device=elsewhere.NAME, generator=torch.Generator()),
        "a number": lambda: x * number,
        "a choice with a number": lambda: torch.where(x > 0, x, number),
        "an index here of values there": lambda: x[torch.tensor([0, 2])],
        "a copy": lambda: here.copy_(x) + x.cpu() + x.to("cpu"),
        "a copy back": lambda: x.copy_(here) + here.to(x.device) + torch.tensor([1.0, 2.0], device=x.device),
    }
    errors = {}
    for name, operation in operations.items():
        try:
            operation()
            errors[name] = ""
        except (RuntimeError, TypeError) as error:
            errors[name] = str(error)
    return errors


def test_elsewhere_has_the_rules_of_cuda():
    errors = children.result_of(rules)
    assert [name for name, error in errors.items() if not error] == [*errors][-5:]
    assert all(re.search("same device|to numpy|for generator", error) for name, error in [*errors.items()][:-5])


def trained():
    """The weights of a network that learns here, and of one that learns elsewhere; whether each has the parameters it was built with."""
    elsewhere.register()
    weights, same = [], []
    for device in ("cpu", elsewhere.NAME):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 1))
        before = [*network.parameters()]
        network.to(device)
        optimizer = torch.optim.Adam(network.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            with NoiseOfTheCPU():
                network(torch.randn(8, 2, device=device)).square().mean().backward()
            optimizer.step()
        same.append(all(a is b for a, b in zip(before, network.parameters())))
        weights.append({k: v.tolist() for k, v in network.state_dict().items()})
    return weights, same


def test_a_network_learns_elsewhere_what_it_learns_here():
    (here, there), same = children.result_of(trained)
    assert same == [True, True]
    assert here == there
