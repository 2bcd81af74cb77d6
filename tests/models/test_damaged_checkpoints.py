"""A checkpoint that is damaged, or written to do harm, is an error and changes nothing."""

import json
import tempfile
from pathlib import Path

import pytest
import torch
from checkpointed import disturbed, same, snapshot, steps, vae
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import optim
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

from pixyz.core import CheckpointError


def rewritten(path, change):
    """The same file with another state or other texts, as anybody can write it."""
    with safe_open(path, "pt") as file:
        texts = file.metadata()
    tensors = load_file(path)
    state = json.loads(texts["state"])
    changed = change(state, texts, tensors)
    texts["state"] = changed if isinstance(changed, str) else json.dumps(state)
    save_file(tensors, path, texts)


def setting(*keys, to):
    def change(state, texts, tensors):
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = to

    return change


def texts(**changed):
    return lambda state, texts, tensors: texts.update(changed)


def tensor(name, value):
    return lambda state, texts, tensors: tensors.update({name: value})


def adam(key, value):
    """A group of Adam with another entry."""

    def change(state, texts, tensors):
        (_, _), (_, groups) = state["optimizers"][0]["state"]["dict"]
        groups[0]["dict"] = [[k, value if k == key else v] for k, v in groups[0]["dict"]]

    return change


def scheduler(key, value):
    """StepLR with another entry."""

    def change(state, texts, tensors):
        entries = state["schedulers"][0]["state"]["dict"]
        entries[:] = [[k, value if k == key else v] for k, v in entries]

    return change


def of_a_stranger(state, texts, tensors):
    """Adam's state of a parameter that it does not have."""
    (_, entries), (_, _) = state["optimizers"][0]["state"]["dict"]
    entries["dict"].append([99, {"dict": []}])


def momentum(value):
    """Of Adam's first parameter, another than a tensor."""

    def change(state, texts, tensors):
        (_, entries), (_, _) = state["optimizers"][0]["state"]["dict"]
        first = entries["dict"][0][1]["dict"]
        first[:] = [[k, value if k == "exp_avg" else v] for k, v in first]

    return change


UNFIT, UNFIT_SCHEDULE = "Adam: its state in the file does not fit, ", "StepLR: its state in the file does not fit, "
RANDOM = torch.zeros(10, dtype=torch.uint8)
HOSTILE = {
    "another format": (
        texts(format="pixyz 2", version="9.9"),
        "has the format 'pixyz 2', of version 9.9; this version, .*, reads 'pixyz 1'",
    ),
    "weights of another library": (texts(format="pt"), "holds tensors, but no formula"),
    "no JSON": (lambda *_: "{", "its state is no JSON"),
    "a huge number": (lambda *_: '{"step_count": ' + "9" * 10**5 + "}", "its state is no JSON"),
    "nested": (lambda *_: "[" * 10**6 + "]" * 10**6, "nested too deeply"),
    "nested less": (
        lambda state, *_: json.dumps({**state, "extra": 0}).replace(
            '"extra": 0', '"extra": {"dict": [["a", ' + "[" * 900 + "]" * 900 + "]]}"
        ),
        "nested too deeply",
    ),
    "a list for a state": (lambda *_: "[1]", "its state has not the entries"),
    "no steps": (lambda state, *_: state.pop("step_count") and None, "its state has not the entries"),
    "a float of steps": (setting("step_count", to=1.5), "step_count is a float, not a int"),
    "true steps": (setting("step_count", to=True), "step_count is a bool"),
    "negative steps": (setting("step_count", to=-1), "step_count is negative"),
    "tied to nothing": (setting("tied", to={"a": "b"}), "tied to none"),
    "tied to a list": (setting("tied", to={"a": []}), "tied to none"),
    "a number of optimisers": (setting("optimizers", to=3), "optimizers is a int, not a list"),
    "optimisers that are numbers": (setting("optimizers", to=[3]), "has no class or no state"),
    "an optimiser of no class": (setting("optimizers", 0, "class", to=[]), "has no class or no state"),
    "trains a number": (setting("optimizers", 0, "trains", to=3), "Adam: trains  tensors in the file"),
    "trains numbers": (setting("optimizers", 0, "trains", to=[3]), "Adam: trains"),
    "a state that is a text": (setting("optimizers", 0, "state", to="random"), "Adam: its state in the file does not fit"),
    "a state that is a list": (setting("optimizers", 0, "state", to=[1]), "Adam: its state in the file does not fit"),
    "an unknown mark": (setting("optimizers", 0, "state", to={"pickle": "gASV"}), "where a state is expected"),
    "two marks": (setting("optimizers", 0, "state", to={"dict": [], "tuple": []}), "where a state is expected"),
    "pairs of one": (setting("optimizers", 0, "state", to={"dict": [[1]]}), "where a state is expected"),
    "a list for a key": (setting("optimizers", 0, "state", to={"dict": [[[], 1]]}), "where a state is expected"),
    "a tensor that is not there": (setting("optimizers", 0, "state", to={"tensor": "x"}), "the tensor 'x' is not in it"),
    "a learning rate that is a text": (adam("lr", "fast"), "Adam: its state in the file does not fit"),
    "three betas": (adam("betas", {"tuple": [0.1, 0.1, 0.1]}), "Adam: its state in the file does not fit"),
    "betas that are texts": (adam("betas", {"tuple": ["a", "b"]}), "Adam: its state in the file does not fit"),
    "a momentum of another shape": (tensor("optimizers/0/state/3/exp_avg", torch.zeros(7)), "Adam: its state in the file does not fit"),
    "a momentum that is a number": (momentum(1.0), UNFIT + "exp_avg is no tensor of [12] dims? in the state of a parameter"),
    "a momentum that is a text": (momentum("fast"), UNFIT + "exp_avg is no tensor of [12] dims? in the state of a parameter"),
    "a count below 0": (tensor("optimizers/0/state/3/step", torch.tensor(-1.0)), UNFIT + "step is no finite number from 0 on"),
    "a scheduler's own method": (
        setting("schedulers", 0, "state", "dict", 0, to=["get_lr", "x"]),
        "StepLR: its state in the file does not fit",
    ),
    "a moving average of another shape": (tensor("ema/n_averaged", torch.zeros(3)), "the moving average of the weights: its state"),
    "a moving average that is a number": (setting("ema", to=1), "the moving average of the weights: its state"),
    "the state of a stranger": (of_a_stranger, UNFIT + "it is of other parameters"),
    "an infinite learning rate": (adam("lr", {"float": "inf"}), UNFIT + "lr is not finite"),
    "a negative learning rate": (adam("lr", -1.0), UNFIT + r"Invalid learning rate: -1\.0"),
    "a count that is no number": (
        tensor("optimizers/0/state/3/step", torch.tensor(torch.nan)),
        UNFIT + "step is no finite number",
    ),
    "steps of no length": (scheduler("step_size", 0), UNFIT_SCHEDULE + "its next step fails, ZeroDivisionError: "),
    "a rate that grows without end": (scheduler("gamma", {"float": "inf"}), UNFIT_SCHEDULE + "its next learning rate is not finite"),
    "a tuple of random states": (setting("random", to={"tuple": []}), "random is a tuple, not a dict"),
    "a list of random states": (setting("random", to=[1]), "random is a list, not a dict"),
    "random states that are short": (tensor("random/cpu", RANDOM), "its random state is none of torch's"),
    "random states that are zeros": (tensor("random/cpu", torch.zeros(5056, dtype=torch.uint8)), "its random state is none of torch's"),
    "random states of no kind": (setting("random", to={"dict": [["cpu", 1]]}), "its random state is none of torch's"),
    "no random states": (setting("random", to={"dict": []}), "its random state is none of torch's"),
    "a list for extra": (setting("extra", to=[1]), "extra is a list|extra is a list, not a dict"),
    "a weight too many": (tensor("weights/\x1b[2J", torch.zeros(1)), r"\?\[2J: only in the file"),
}


def whole_file():
    model = vae(scheduler="StepLR", ema=True)
    steps(model, 2)
    with tempfile.TemporaryDirectory() as folder:
        return model.save(Path(folder) / "a").read_bytes()


@pytest.fixture(scope="module")
def saved():
    return whole_file()


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_file_is_an_error_and_changes_nothing(fault, saved, tmp_path):
    change, message = HOSTILE[fault]
    path = tmp_path / "a.safetensors"
    path.write_bytes(saved)
    rewritten(path, change)
    model = disturbed(vae(scheduler="StepLR", ema=True))
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=message) as caught:
        model.load(path)
    assert str(path) in str(caught.value)
    assert "Nothing was loaded" in str(caught.value)
    assert str(caught.value).replace("\n", "").isprintable()
    assert same(snapshot(model), before)


@pytest.mark.parametrize("content", [b"", b"x", b"\x80\x04." * 50, b"PK\x03\x04" * 99, b"\xff" * 99, (2**40).to_bytes(8, "little") + b"{}"])
def test_what_is_no_checkpoint(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointError, match="is no checkpoint, or it is cut off"):
        vae().load(tmp_path / "a")


def test_a_file_that_is_cut_off_anywhere(saved, tmp_path):
    model = disturbed(vae(scheduler="StepLR", ema=True))
    before = snapshot(model)
    for end in [*range(0, 64, 8), *range(64, len(saved), len(saved) // 60), len(saved) - 1]:
        (tmp_path / "a").write_bytes(saved[:end])
        with pytest.raises(CheckpointError, match="cut off"):
            model.load(tmp_path / "a")
    assert same(snapshot(model), before)


def test_a_header_with_other_bytes_loads_or_is_an_error_that_changes_nothing(saved, tmp_path):
    model = disturbed(vae(scheduler="StepLR", ema=True))
    before = snapshot(model)
    size = int.from_bytes(saved[:8], "little")
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for _ in range(150):
        place, byte = (int(torch.randint(n, (), generator=generator)) for n in (8 + size, 256))
        (tmp_path / "a").write_bytes(saved[:place] + bytes([byte]) + saved[place + 1 :])
        try:
            model.load(tmp_path / "a")
        except CheckpointError:
            refused += 1
        else:  # a learning rate of another digit is a learning rate
            model = disturbed(vae(scheduler="StepLR", ema=True))
            before = snapshot(model)
        assert same(snapshot(model), before)
    assert refused > 50


@pytest.mark.parametrize("owner", ["optimizer", "scheduler", "ema"])
def test_a_state_that_its_owner_does_not_take_is_taken_back(owner, saved, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(saved)
    model = disturbed(vae(scheduler="StepLR", ema=True))
    before = snapshot(model)
    kind = {"optimizer": optim.Adam, "scheduler": lr_scheduler.StepLR, "ema": AveragedModel}[owner]
    original, calls = kind.load_state_dict, []

    def takes_it_and_fails(self, state):
        original(self, state)
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("not this one")

    monkeypatch.setattr(kind, "load_state_dict", takes_it_and_fails)
    with pytest.raises(CheckpointError, match=r"is damaged: .* does not take its state, not this one\. Nothing was loaded"):
        model.load(tmp_path / "a")
    assert same(snapshot(model), before)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        vae().load(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*step_\{step\} yet"):
        vae().load(tmp_path / "none" / "step_{step}")
    with pytest.raises(OSError):
        vae().load(tmp_path)
