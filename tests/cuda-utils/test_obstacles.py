"""Each obstacle that is planted in a model is found, with its kind, term, file and line, and nothing else is."""

import inspect
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pixyz.core import Loss
from pixyz.cuda_utils import capturable
from pixyz.distributions import Normal
from pixyz.models import Model


class Encoder(nn.Module):
    """The parameters of q(z|x), of what `plant` makes of x."""

    def __init__(self, plant=None):
        super().__init__()
        self.net = nn.Linear(6, 4)
        self.plant = plant
        self.calls = self.turns = self.crops = self.rests = 0
        self.table = torch.rand(6)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        loc, scale = self.net(x if self.plant is None else self.plant(self, x)).chunk(2, -1)
        return {"loc": loc, "scale": F.softplus(scale) + 1e-3}


def model(plant=None, **options):
    return Model(-Normal("q(z|x)", Encoder(plant)).log_prob().mean(), **options)


DATA = {"x": torch.tensor([[0.0, 1, 0, 1, 1, 0], [1, 1, 0, 0, 1, 0], [0, 0, 1, 1, 1, 1]]), "z": torch.zeros(3, 2)}
ELSEWHERE = torch.ones(6)
ENTRIES = torch.sparse_coo_tensor(torch.tensor([[0, 0, 1], [1, 1, 2]]), torch.ones(3), (3, 3), check_invariants=True)


def item(self, x):
    return x * x.mean().item()  # here


def as_float(self, x):
    return x * float(x.mean())  # here


def branch_on_data(self, x):
    if x.sum() > 0:  # here
        return x
    return 2 * x


def as_list(self, x):
    x.tolist()  # here
    return x


def as_array(self, x):
    np.asarray(x.detach())  # here
    return x


def as_text(self, x):
    _ = f"{x.mean():.3f}"  # here
    return x


def printed(self, x):
    print(x)  # here
    return x


def equal(self, x):
    torch.equal(x, 2 * x)  # here
    return x


def inverse(self, x):
    return x @ torch.linalg.inv(torch.eye(6, device=x.device))  # here


def places(self, x):
    x.nonzero()  # here
    return x


def mask(self, x):
    return x * x[x > 0.5].sum()  # here


def set_under_mask(self, x):
    y = x.clone()
    y[y > 0.5] = x.mean()  # here
    return y


def set_twice_under_mask(self, x):
    y = x.clone()
    rows = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    y[rows, torch.zeros(1, dtype=torch.int64, device=x.device)] = 0.0  # here
    return y


def sparse(self, x):
    return torch.sparse.mm(x.to_sparse(), x.T).sum(-1, keepdim=True) + x  # here


def with_duplicates(self, x):
    return torch.sparse.mm(ENTRIES, x)  # here


def histogram(self, x):
    return x + torch.histc(x, 6)  # here


def between(self, x):
    return x + torch.linspace(x.min(), 1.0, 6, device=x.device)  # here


def filled_with_tensor(self, x):
    return x.masked_fill(x > 0.5, x.mean())  # here


def different(self, x):
    return x * x.unique().sum()  # here


def repeated(self, x):
    return x + x.repeat_interleave(torch.ones(6, dtype=torch.int64, device=x.device), -1)  # here


def classes(self, x):
    return x + F.one_hot(x.long()).sum(-1)  # here


def to_host(self, x):
    x.cpu()  # here
    return x


def to_host_by_name(self, x):
    return x * x.mean().to("cpu")  # here


def made_on_host(self, x):
    return x + torch.zeros(6)  # here


def made_on_cpu(self, x):
    return x + torch.zeros(6, device="cpu")  # here


def of_numpy(self, x):
    ones = torch.from_numpy(np.ones(6, dtype=np.float32))
    return x * ones  # here


def attribute(self, x):
    return x * self.table  # here


def of_module(self, x):
    return x * ELSEWHERE  # here


def index_on_host(self, x):
    return x[torch.randperm(3)]  # here


def number_on_host(self, x):
    return x * torch.tensor(0.5)  # here


def copied_number(self, x):
    return x * torch.tensor(0.5, device=x.device)  # here


def copied_tensor(self, x):
    return x * torch.ones(6).to(x.device)  # here


def counted(self, x):
    self.calls += 1
    return x * 0.9**self.calls  # here


def drawn_by_python(self, x):
    return x * random.random()  # here


def drawn_by_numpy(self, x):
    return x * np.random.rand()  # here


def cropped(self, x):
    self.crops += 1
    return x + x[:, : 1 + self.crops % 5].mean(-1, keepdim=True)  # here


def branch_on_count(self, x):
    self.turns += 1
    if self.turns % 2:
        return x.exp()  # here
    return x


def branch_now_and_then(self, x):
    self.rests += 1
    if self.rests % 5 == 0:
        return x.exp()  # here
    return x


def branch_by_chance(self, x):
    if random.random() < 0.5:
        return x.exp()  # here
    return x


def rebound_buffer(self, x):
    self.mean = 0.9 * self.mean + 0.1 * x.mean(0)  # here
    return x - self.mean


def seeded(self, x):
    torch.manual_seed(0)  # here
    return x


def own_generator(self, x):
    return x + torch.rand(6, generator=torch.Generator().manual_seed(0), device=x.device)  # here


PLANTED = {
    "host read": (
        item,
        as_float,
        branch_on_data,
        as_list,
        as_array,
        as_text,
        printed,
        equal,
        inverse,
        histogram,
        between,
        filled_with_tensor,
    ),
    "data-dependent shape": (places, mask, set_under_mask, set_twice_under_mask, different, repeated, classes, sparse, with_duplicates),
    "copy to the host": (to_host, to_host_by_name),
    "tensor on the host": (made_on_host, made_on_cpu, of_numpy, attribute, of_module),
    "copy from the host": (index_on_host, copied_number, copied_tensor),
    "number on the host": (number_on_host,),
    "new number": (counted, drawn_by_python, drawn_by_numpy, cropped),
    "other operations": (branch_on_count, branch_now_and_then, branch_by_chance),
    "new tensor": (rebound_buffer,),
    "random state": (seeded, own_generator),
}


@pytest.mark.parametrize(("kind", "plant"), [(k, f) for k, fs in PLANTED.items() for f in fs], ids=lambda a: getattr(a, "__name__", a))
def test_what_is_planted_in_a_network_is_found(kind, plant):
    random.seed(0)
    (found,) = capturable(model(plant), DATA)
    assert (found.kind, found.term, found.file, found.line, found.phase) == (kind, "q(z|x)", __file__, line_of(plant), "forward")
    assert str(found).startswith(f"{kind} in q(z|x) (forward), tests/cuda-utils/test_obstacles.py:{found.line}: ")


def test_all_that_is_planted_at_once_is_found():
    plants = [plant for kind in PLANTED.values() for plant in kind if plant not in (index_on_host, branch_on_data)]

    def all_of_them(self, x):
        for plant in plants:
            y = plant(self, x)
        return x + 0 * y

    random.seed(0)
    found = {(o.kind, o.line) for o in capturable(model(all_of_them), DATA)}
    assert {(kind, line_of(plant)) for kind, fs in PLANTED.items() for plant in fs if plant in plants} <= found


class ReadBackwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * grad.sum().item()  # here


def test_a_read_in_a_gradient_is_found():
    def plant(self, x):
        return ReadBackwards.apply(x + self.net.weight.sum())

    (found,) = capturable(model(plant), DATA)
    assert (found.kind, found.term, found.line, found.phase) == ("host read", "q(z|x)", line_of(ReadBackwards), "backward")


def test_a_read_in_a_hook_of_a_gradient_is_found():
    def plant(self, x):
        y = x + self.net.weight.sum()
        y.register_hook(lambda grad: grad * len(grad.tolist()))  # here
        return y

    (found,) = capturable(model(plant), DATA)
    assert (found.kind, found.line, found.phase) == ("host read", line_of(plant), "backward")
    (found,) = capturable(model(plant).loss, DATA)
    assert (found.kind, found.line, found.phase) == ("host read", line_of(plant), "backward")


def test_what_torch_reads_in_a_gradient_has_the_line_of_the_forward_pass():
    def plant(self, x):
        return x * (1 + self.net.weight.square()).prod()  # here

    (found,) = capturable(model(plant), DATA)
    assert (found.kind, found.term, found.line, found.phase) == ("host read", "q(z|x)", line_of(plant), "backward")


class Halving(torch.optim.SGD):
    """An optimiser of one's own, whose rate is a number of Python."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] /= 2
            for weight in group["params"]:
                weight.add_(weight.grad, alpha=-group["lr"])  # here


def test_a_new_number_in_an_optimiser_of_ones_own_is_found():
    (found,) = capturable(model(optimizer=Halving, optimizer_params={"lr": 0.1}), DATA)
    assert (found.kind, found.line, found.phase, found.term) == ("new number", line_of(Halving), "optimiser step", "")


def test_the_term_is_that_of_the_formula():
    def distance(x):
        return (x / x.std().item()).sum(-1)  # here

    loss = model().loss + 0.5 * Loss.from_function(distance, "distance", var=["x"]).mean()
    found = capturable(Model(loss), DATA)
    assert [(o.term, o.line) for o in found] == [("distance(x)", line_of(distance))]
    assert found[0].term in str(loss)


def test_obstacles_print_as_a_table():
    shown = str(capturable(model(item), DATA)).splitlines()
    assert shown[0].split() == ["obstacle", "term", "phase", "where"]
    assert shown[1].startswith("host read  q(z|x)  forward  ")
    assert ".item() reads a number, for which the host waits." in shown[2]


def line_of(plant):
    """The number of its line with the comment."""
    lines, first = inspect.getsourcelines(plant)
    return first + next(i for i, line in enumerate(lines) if line.endswith("# here\n"))
