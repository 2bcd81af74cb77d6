"""A checkpoint with any change is rejected with the model as it was, or the model trains on from it."""

import json
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn, optim
from torch.optim import lr_scheduler

from pixyz.core import CheckpointError, NonFiniteLossError, seeded
from pixyz.distributions import Bernoulli, Normal
from pixyz.models import VI

X = {"x": torch.tensor([[0.0, 1.0], [1.0, 1.0]])}


def build(make=optim.Adam, **params):
    with seeded(0):
        p = Bernoulli("p(x|z)", logits=nn.Linear(1, 2)) * Normal("p(z)", loc=torch.zeros(1), scale=1.0)
        q = Normal("q(z|x)", loc=nn.Linear(2, 1), scale=0.5)
    scheduler = {"scheduler": lr_scheduler.StepLR, "scheduler_params": {"step_size": 2, "gamma": 0.5}}
    return VI(p, q, optimizer=make, optimizer_params={"lr": 0.01, **params}, ema=0.9, **scheduler)


def trained(*arguments, **options):
    model = build(*arguments, **options)
    for _ in range(3):
        model.train(X)
    return model


def snapshot(model):
    tensors = [*model.loss.state_dict().values(), torch.get_rng_state(), *model.ema.state_dict()["weights"].values()]
    states = [v for s in model.optimizer.state.values() for v in s.values()]
    numbers = [model.step_count, model.ema.updates, str(model.optimizer.param_groups[0]["lr"]), str(model.schedulers[0].state_dict())]
    return [t.clone() if isinstance(t, torch.Tensor) else t for t in [*tensors, *states]], numbers


def same(a, b):
    (first, numbers), (second, others) = a, b
    pairs = zip(first, second, strict=True)
    return numbers == others and all([torch.equal(t, u) if isinstance(t, torch.Tensor) else t == u for t, u in pairs])


def places(tree, path=()):
    """Every place in a tree of JSON."""
    yield path
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


WRONG = [
    None,
    True,
    -1,
    0,
    1,
    3,
    2**70,
    0.5,
    -0.5,
    1e300,
    "",
    "a",
    [],
    {},
    [1],
    {"tensor": "weights/p(z).loc"},
    {"float": "nan"},
    {"dict": []},
]


def changed_tree(tree, chance):
    """With one place left out, doubled, or of another value."""
    path = chance.choice([*places(tree)][1:])
    owner = tree
    for key in path[:-1]:
        owner = owner[key]
    kind = chance.randrange(3)
    if kind == 0:
        del owner[path[-1]]
    elif kind == 1 and isinstance(owner, list):
        owner.append(owner[path[-1]])
    else:
        owner[path[-1]] = chance.choice(WRONG)


def changed_file(whole, parts, chance):
    """The bytes of a file with one change, and whether it is in a number of a tensor."""
    size = 8 + int.from_bytes(whole[:8], "little")
    kind = chance.randrange(10)
    if kind < 2:  # a byte of the header
        place = chance.randrange(size)
        return whole[:place] + bytes([chance.randrange(256)]) + whole[place + 1 :], False
    if kind < 3:
        return whole[: chance.randrange(len(whole))], False
    if kind < 5:  # a byte of a tensor
        place = chance.randrange(size, len(whole))
        return whole[:place] + bytes([chance.randrange(256)]) + whole[place + 1 :], True
    texts, tensors = dict(parts[0]), dict(parts[1])
    if kind < 9:  # a place in the state, or in the facts
        name = "state" if kind < 8 else "facts"
        tree = json.loads(texts[name])
        changed_tree(tree, chance)
        texts[name] = json.dumps(tree)
    else:  # a tensor that is missing, or of another kind
        name = chance.choice(sorted(tensors))
        t = tensors.pop(name)
        more = [None, t.double(), t.flatten()[:1].clone(), torch.zeros_like(t), torch.cat([t.flatten(), t.flatten()])]
        if (value := chance.choice(more)) is not None:
            tensors[name] = value
    return (texts, tensors), False


def test_of_many_changes_each_is_rejected_or_trained_on_from(tmp_path, request):
    count = request.config.getoption("--changes")
    path, good, chance = tmp_path / "a", tmp_path / "good", random.Random(0)
    whole = trained().save(good).read_bytes()
    with safe_open(good, "pt") as file:
        parts = file.metadata(), load_file(good)
    model = build()
    model.load(good)
    before = snapshot(model)
    rejected = went_on = 0
    for number in range(count):
        changed, in_a_tensor = changed_file(whole, parts, chance)
        if isinstance(changed, bytes):
            path.write_bytes(changed)
        else:
            save_file(changed[1], path, changed[0])
        try:
            model.load(path)
        except CheckpointError as error:
            rejected += 1
            assert "Nothing was loaded" in str(error), number
            assert same(snapshot(model), before), number
            continue
        try:
            for _ in range(2):
                model.train(X)
        except NonFiniteLossError:  # a bit of a tensor that has flipped is not noticed before
            assert in_a_tensor, number
        went_on += 1
        model.load(good)
        assert same(snapshot(model), before), number
    assert rejected > 0.3 * count
    assert went_on > 0.1 * count


OPTIMIZERS = {
    "Adam": (optim.Adam, {"amsgrad": True}),
    "Adam in a loop": (optim.Adam, {"foreach": False}),
    "AdamW": (optim.AdamW, {}),
    "Adamax": (optim.Adamax, {}),
    "NAdam": (optim.NAdam, {}),
    "RAdam": (optim.RAdam, {}),
    "Adadelta": (optim.Adadelta, {}),
    "Adagrad": (optim.Adagrad, {}),
    "Adafactor": (optim.Adafactor, {}),
    "ASGD": (optim.ASGD, {}),
    "RMSprop": (optim.RMSprop, {"momentum": 0.5, "centered": True}),
    "Rprop": (optim.Rprop, {}),
    "SGD": (optim.SGD, {"momentum": 0.9}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_that_lacks_an_entry_is_rejected(name, tmp_path):
    make, params = OPTIMIZERS[name]
    path = trained(make, **params).save(tmp_path / "a")
    model = build(make, **params)
    model.load(path)
    model.train(X)
    with safe_open(path, "pt") as file:
        texts = file.metadata()
    whole = json.loads(texts["state"])
    (_, states), _ = whole["optimizers"][0]["state"]["dict"]
    keys = [key for key, _ in states["dict"][0][1]["dict"]]
    assert keys
    for key in keys:
        state = json.loads(texts["state"])
        (_, states), _ = state["optimizers"][0]["state"]["dict"]
        entry = states["dict"][0][1]["dict"]
        entry[:] = [pair for pair in entry if pair[0] != key]
        if not entry:  # a parameter that no step has moved
            continue
        save_file(load_file(path), tmp_path / "b", {**texts, "state": json.dumps(state)})
        before = snapshot(model)
        with pytest.raises(
            CheckpointError, match=f"{make.__name__}: its state in the file does not fit, {key} is missing in the state of a"
        ):
            model.load(tmp_path / "b")
        assert same(snapshot(model), before)
