"""Batches on their way to the device: in which order streams are asked, and what comes of errors and of stopping."""

import pickle
import re
from collections import namedtuple
from contextlib import nullcontext

import pytest
import torch
from logged_streams import LoggedStreams
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from pixyz.core import KindError, ShapeError
from pixyz.cuda_utils import Prefetched

Pair = namedtuple("Pair", ["a", "b"])


def batches(count=5, size=2):
    """Batches of mappings; the last is short."""
    sizes = [*[size] * (count - 1), 1]
    return [{"x": torch.full((n, 3), float(i)), "y": torch.full((n,), i)} for i, n in enumerate(sizes)]


class Given:
    """A loader that keeps how many batches it has given, and does something before one of them."""

    def __init__(self, given, **at):
        self.given = given
        self.at = {int(number.removeprefix("at_")): what for number, what in at.items()}
        self.count = 0
        self.is_closed = False

    def __iter__(self):
        self.count = 0
        try:
            for i, batch in enumerate(self.given):
                if i in self.at:
                    raise self.at[i]
                self.count += 1
                yield batch
        finally:
            self.is_closed = True

    def __len__(self):
        return len(self.given)


def on_the_way(loader, depth=2, **options):
    streams = LoggedStreams(**options)
    return Prefetched(loader, "cpu", depth, streams=streams), streams


def same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[v], b[v]) for v in a)


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_all_batches_come_in_their_order_in_every_epoch(depth):
    prefetched, streams = on_the_way(batches(), depth)
    for _ in range(3):
        same([*prefetched], batches())
        assert prefetched.position == 5
    assert streams.log.count("new") == 1  # the allocator keeps memory for each stream apart
    assert streams.on_their_way == 0


def test_each_copy_is_queued_aside_and_waited_for_by_the_training():
    prefetched, streams = on_the_way([{"x": torch.zeros(2)}], depth=1)
    list(prefetched)
    assert streams.log == [
        "new",
        "pin",
        "copy on side",
        "record on side",
        "training waits for side",
        "hold for training",
        "record on training",  # when the batch was trained on
        "record on side",
        "host waits for side",
    ]


def test_every_tensor_is_held_for_the_training_before_it_is_given_out():
    prefetched, streams = on_the_way(batches())
    iterator = iter(prefetched)
    for number in range(1, 6):
        next(iterator)
        assert streams.log.count("hold for training") == 2 * number
        assert streams.log.count("training waits for side") == number


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_so_many_batches_are_on_their_way(depth):
    loader = Given(batches(8))
    prefetched, streams = on_the_way(loader, depth)
    for position, _ in enumerate(prefetched, 1):
        assert prefetched.position == position
        assert loader.count == min(position + depth, 8)
        assert streams.on_their_way == 2 * (loader.count - position)  # two tensors each


def test_the_host_is_never_further_ahead_than_the_memory_of_the_batches_lasts():
    depth = 2
    prefetched, streams = on_the_way(batches(9), depth)
    for position, _ in enumerate(prefetched, 1):
        steps = [entry for entry in streams.log if entry == "record on training"]
        waits = [entry for entry in streams.log if entry == "host waits for training"]
        assert len(steps) == position - 1
        assert len(waits) == max(position - 1 - depth, 0)


def test_pinned_memory_of_the_loader_is_copied_before_the_loader_fills_it_again():
    buffer = torch.empty(2, 3)

    def one_buffer():
        for i in range(5):
            yield {"x": buffer.fill_(i)}

    for loader_pins in (False, True):
        prefetched, streams = on_the_way(one_buffer(), loader_pins=loader_pins)
        assert [values["x"].unique().tolist() for values in prefetched] == [[float(i)] for i in range(5)]
        assert ("pin" in streams.log) is not loader_pins


def test_tensors_are_found_in_nested_entries_and_all_else_stays():
    t, there = torch.ones(2), torch.ones(2, device="meta")
    batch = {
        "x": {"image": t, "sizes": [t, (t, 3)]},
        "pair": Pair(t, "text"),
        "name": ["a", "b"],
        "beta": 0.5,
        "none": None,
        "there": there,
    }
    streams = LoggedStreams("meta")
    (found,) = Prefetched([batch], "meta", streams=streams)
    assert found["there"] is there
    assert found["x"]["image"].is_meta
    assert found["x"]["sizes"][1][0].is_meta
    assert type(found["pair"]) is Pair
    assert found["pair"].b == "text"
    assert (found["name"], found["beta"], found["none"], found["x"]["sizes"][1][1]) == (["a", "b"], 0.5, None, 3)
    assert streams.log.count("copy on side") == 4


def test_a_batch_without_tensors_waits_for_nothing():
    prefetched, streams = on_the_way([{"beta": 0.5}])
    assert [*prefetched] == [{"beta": 0.5}]
    assert "training waits for side" not in streams.log


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_with_workers(workers):
    rows = torch.arange(10.0)
    loader = DataLoader(TensorDataset(rows), batch_size=4, num_workers=workers)
    prefetched, _ = on_the_way(loader)
    prefetched.names = ["x"]
    assert torch.equal(torch.cat([values["x"] for values in prefetched]), rows)
    assert len(prefetched) == 3
    assert prefetched.batch_size == 4


def test_no_batches():
    prefetched, streams = on_the_way([])
    assert [*prefetched] == []
    assert streams.on_their_way == 0


def test_an_error_of_the_loader_arrives_at_its_batch():
    loader = Given(batches(), at_3=ValueError("row 7 is damaged"))
    prefetched, streams = on_the_way(loader)
    seen = []
    with pytest.raises(ValueError, match="row 7 is damaged"):
        seen.extend(prefetched)
    iterator = iter(prefetched)
    same([next(iterator) for _ in range(3)], batches()[:3])
    with pytest.raises(ValueError, match="row 7 is damaged"):
        next(iterator)
    assert next(iterator, None) is None
    assert streams.on_their_way == 0


def test_an_interrupt_comes_at_once():
    prefetched, streams = on_the_way(Given(batches(), at_2=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        next(iter(prefetched))
    assert streams.on_their_way == 0


def stop(prefetched):
    for _ in prefetched:
        break


def fail(prefetched):
    for _ in prefetched:
        raise ZeroDivisionError


def close(prefetched):
    iterator = iter(prefetched)
    next(iterator)
    iterator.close()


@pytest.mark.parametrize("end", [stop, fail, close])
def test_nothing_is_on_its_way_when_a_training_stops_early(end):
    loader = Given(batches())
    prefetched, streams = on_the_way(loader)
    with pytest.raises(ZeroDivisionError) if end is fail else nullcontext():
        end(prefetched)
    assert streams.on_their_way == 0
    assert loader.is_closed
    same([*prefetched], batches())


def test_on_the_cpu_it_is_the_loader():
    loader = Given(batches())
    prefetched = Prefetched(loader, "cpu")
    for position, (found, given) in enumerate(zip(prefetched, loader.given, strict=True), 1):
        assert found is given
        assert loader.count == prefetched.position == position
    assert len(prefetched) == 5
    assert prefetched.given is loader.given
    assert not prefetched.fetches_ahead
    with pytest.raises(AttributeError):
        prefetched.batch_size  # noqa: B018


def test_it_says_what_it_does():
    said = str(Prefetched(batches(), "cpu"))
    assert (
        said
        == "Prefetched(list of 5 batches): on the CPU it is the loader; on a GPU, 2 batches would be on their way while one is trained on"
    )
    prefetched, _ = on_the_way(iter(batches()), depth=1)
    assert repr(prefetched).startswith(
        "Prefetched(list_iterator): 1 batch is on the way to cpu while one is trained on, from pinned memory"
    )


def test_it_goes_to_another_process():
    same([*pickle.loads(pickle.dumps(Prefetched(batches(), "cpu", 3)))], batches())


class WithState(Given):
    """A loader whose state is the number of batches that it has given."""

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.loaded = state


def test_the_state_of_a_loader_is_that_of_the_batch_that_was_given_out():
    loader = WithState(batches())
    prefetched, _ = on_the_way(loader)
    assert prefetched.state_dict() == {"count": 0}
    for position, _ in enumerate(prefetched, 1):
        assert prefetched.state_dict() == {"count": position}
    prefetched.load_state_dict({"count": 2})
    assert loader.loaded == {"count": 2}


class Rows(IterableDataset):
    def __iter__(self):
        return iter(batches())


def test_an_iterable_dataset_gives_batches():
    same([*on_the_way(Rows())[0]], batches())


@pytest.mark.parametrize("device", ["cpu", "with streams"])
@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ([torch.zeros(2), torch.zeros(2)], "gave a list of 2 tensors"),
        ((torch.zeros(2),), "gave a tuple of 1 tensor"),
        ([torch.zeros(2), "a"], "gave a list of 2 entries"),
        (torch.zeros(2, 3), r"gave a tensor of shape \(2, 3\)"),
        (3, "gave a int"),
    ],
    ids=["tensors", "tuple", "entries", "tensor", "number"],
)
def test_a_loader_without_mappings(batch, said, device):
    prefetched = Prefetched([batch], "cpu", streams=None if device == "cpu" else LoggedStreams())
    with pytest.raises(KindError, match=rf'the list {said}.*names=\["x", "y"\]'):
        next(iter(prefetched))


def test_names_of_the_tensors_of_a_batch():
    pair = [torch.zeros(2), torch.ones(2)]
    assert next(iter(Prefetched([pair], "cpu", names=["x", "y"]))) == {"x": pair[0], "y": pair[1]}
    with pytest.raises(ShapeError, match=r"a list of 2 tensors, but the names are \['x'\]"):
        next(iter(Prefetched([pair], "cpu", names=["x"])))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Prefetched({"x": torch.zeros(2)}, "cpu"), "a dict has rows"),
        (lambda: Prefetched(TensorDataset(torch.zeros(2)), "cpu"), "a TensorDataset has rows"),
        (lambda: Prefetched(3, "cpu"), "takes a loader, which gives batches; got a int"),
        (lambda: Prefetched([], "cpu", 0), "at least 1; got 0"),
        (lambda: Prefetched([], "cpu", True), "at least 1; got True"),
        (lambda: Prefetched([], "cpu", names="x"), r"like \['x'\]"),
    ],
)
def test_what_is_no_loader_is_rejected(make, said):
    with pytest.raises(KindError, match=said):
        make()


@pytest.mark.parametrize("device", ["nonsense", "cuda:x", -3, None, 1.5])
def test_what_is_no_device_is_rejected_by_its_name(device):
    said = rf'Prefetched: device must be one of torch, like "cpu", .*; got {re.escape(repr(device))}. Torch finds cpu.* here'
    with pytest.raises(KindError, match=said):
        Prefetched([], device)


def test_a_device_that_this_torch_does_not_have():
    with pytest.raises(KindError, match="the device is vulkan, of which this torch has none"):
        Prefetched([], "vulkan")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there():
    with pytest.raises(KindError, match="the device is cuda, and torch finds none here"):
        Prefetched([], "cuda")
