"""Which calls of CUDA graphs are made of, and in which order."""

from contextlib import contextmanager

import pytest
import torch

from pixyz.cuda_utils import Graphs

DEVICE = torch.device("cuda", 1)


class Stream:
    def __init__(self, log, name):
        self.log, self.name = log, name

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")


class Graph:
    """A graph whose replay is logged; to end a capture that has failed is an error of its own, as on CUDA."""

    def __init__(self, log):
        self.log = log

    def replay(self):
        self.log.append("replay")


@pytest.fixture
def log(monkeypatch):
    """What `torch.cuda` is asked for."""
    log, current, count = [], [], iter(range(9))

    def new(device):
        assert device == DEVICE
        return Stream(log, f"stream {next(count)}")

    @contextmanager
    def on(stream):
        current.append(stream)
        yield
        current.pop()

    @contextmanager
    def capturing(graph, pool, stream, capture_error_mode):
        log.append(f"capture into {pool} on {stream.name}, {capture_error_mode}")
        try:
            yield
        except Exception as error:
            raise RuntimeError("operation failed due to a previous error during capture") from error
        log.append("captured")

    monkeypatch.setattr(torch.cuda, "Stream", new)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1] if current else Stream(log, "the current stream"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(log))
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: f"pool {next(count)}")
    return log


def test_a_warm_up_runs_on_a_stream_of_its_own_between_what_was_and_what_will_be(log):
    Graphs(DEVICE).warm_up(lambda: log.append(f"work on {torch.cuda.current_stream(DEVICE).name}"))
    assert log == ["stream 0 waits for the current stream", "work on stream 0", "the current stream waits for stream 0"]


def test_all_captures_are_on_the_stream_of_the_warm_up_and_in_one_pool(log):
    graphs = Graphs(DEVICE)
    graphs.warm_up(list)
    del log[:]
    replays = [graphs.capture(lambda: log.append("work")) for _ in range(2)]
    assert log == ["capture into pool 1 on stream 0, thread_local", "work", "captured"] * 2
    del log[:]
    for replay in replays:
        replay()
    assert log == ["replay"] * 2


def test_the_error_of_a_capture_is_that_of_the_operation(log):
    def work():
        raise ValueError("a number is read")

    with pytest.raises(ValueError, match="a number is read"):
        Graphs(DEVICE).capture(work)


def test_a_device_without_graphs_says_so(monkeypatch):
    assert Graphs(torch.device("mps")).unavailable == "the model is on mps, and CUDA graphs are for CUDA devices"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Graphs(DEVICE).unavailable == "torch finds no CUDA device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Graphs(DEVICE).unavailable is None
