"""The benchmark of GPUs, as far as it runs on a CPU: its rows, its counts, and the graph by hand with a stand-in for torch's."""

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _path_of_benchmarks():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def gpu():
    import gpu

    return gpu


@pytest.fixture
def benchmark(gpu, tmp_path):
    """A measurement of three steps, and its file."""
    report = gpu.Report({"device": "cpu"}, tmp_path / "figures.jsonl")
    return gpu.Benchmark(report, CPU, steps=3, rounds=1, seconds=60.0)


class StandIn:
    """Graphs of the CPU: to capture computes nothing that stays, to replay runs the step, its losses in the tensors of the capture."""

    def __init__(self, step):
        self.kept = [*(t for module in step.modules for t in module.state_dict().values())]
        self.optimizers = step.optimizers
        self.warmed_up = 0

    def warm_up(self, step, count):
        for _ in range(count):
            step()
            self.warmed_up += 1

    def capture(self, step):
        assert not [p.grad for o in self.optimizers for g in o.param_groups for p in g["params"] if p.grad is not None]
        state = [t for o in self.optimizers for s in o.state.values() for t in s.values()]
        before = [(t, t.clone()) for t in [*self.kept, *state]]
        losses = step()
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)

        def replay():
            for held, loss in zip(torch.utils._pytree.tree_leaves(losses), torch.utils._pytree.tree_leaves(step()), strict=True):
                held.copy_(loss)

        return replay, losses


def captured(program):
    from gpu_capture import CapturedByHand

    step = program.by_hand(CPU, capturable=True)
    return CapturedByHand(step, program.batches(CPU)[0], StandIn(step))


@pytest.mark.parametrize("size", ["small", "gan"])
def test_a_graph_by_hand_has_the_losses_of_eager_steps(gpu, size):
    program = gpu.PROGRAMS[size]
    batches = program.batches(CPU)
    expected = gpu.first_losses(program.by_hand(CPU), batches)
    assert len({*expected}) == len(expected)
    assert gpu.first_losses(captured(program), batches) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", ["small", "gan"])
def test_a_graph_by_hand_has_the_losses_of_eager_steps_on_cuda(gpu, cuda, size):
    program = gpu.PROGRAMS[size]
    batches = program.batches(cuda)
    graph = gpu.graph_by_hand(program, cuda, batches[0]).step
    assert gpu.first_losses(graph, batches) == pytest.approx(gpu.first_losses(program.by_hand(cuda), batches), rel=1e-5)


def _rebound(self, x):
    self._replay()
    return self._losses


def _warmed_up(gpu, size):
    """Steps that warm-up has moved on."""
    step = gpu.PROGRAMS[size].by_hand(CPU)
    for x in gpu.PROGRAMS[size].batches(CPU)[:3]:
        step(x)
    return step


@pytest.mark.parametrize("fault", ["an input that is not copied", "weights after warm-up", "another rate", "another seed of the weights"])
def test_other_losses_are_found(gpu, benchmark, monkeypatch, fault):
    program = gpu.PROGRAMS["small"]
    if fault == "an input that is not copied":
        from gpu_capture import CapturedByHand

        monkeypatch.setattr(CapturedByHand, "__call__", _rebound)
        step = captured(program)
    elif fault == "weights after warm-up":
        step = _warmed_up(gpu, "small")
    else:
        step = program.by_hand(CPU)
        if fault == "another rate":
            step.optimizers[0].param_groups[0]["lr"] *= 1.5
        else:
            torch.nn.init.normal_(step.modules[0].decoder.fc3.bias)
    benchmark.make("small", {gpu.BY_HAND: gpu.by_hand, "faulty": lambda *_: gpu.Made(step)})
    assert benchmark.report.has_failed
    assert "in the hand-written model" in benchmark.report.rows["small", "faulty"]["error"]
    assert [row for _, row in benchmark.made] == [gpu.BY_HAND]


def test_rows_have_their_figures(gpu, benchmark, tmp_path, capsys):
    rows = {gpu.BY_HAND: gpu.by_hand, gpu.GRAPH_BY_HAND: gpu.graph_by_hand, gpu.OURS: gpu.ours}
    for size in ("small", "gan"):
        benchmark.make(size, rows)
    benchmark.time("small", "", rows=rows, share=0.5)
    benchmark.count_launches("small", gpu.OURS)
    printed = capsys.readouterr().out
    assert "by hand, CUDA graph: needs CUDA" in printed
    assert "pixyz: the losses agree" in printed
    report = gpu.read(tmp_path / "figures.jsonl")
    assert report.rows == benchmark.report.rows
    ours = report.rows["small", gpu.OURS]
    assert ours["syncs"] == 0
    assert ours["launches"] > 70
    assert ours["rounds"] == 1
    assert ours["ms"] > 0
    assert len(ours["to_hand"]) == 1
    assert report.rows["gan", gpu.OURS]["syncs"] == 0
    table = gpu.markdown(report)
    assert "host reads" in table.splitlines()[0]
    assert [line.split("|")[2].strip() for line in table.splitlines()[2:]] == 2 * [gpu.BY_HAND, gpu.GRAPH_BY_HAND, gpu.OURS]
    assert not report.has_failed


def test_a_graphed_row_without_cuda_has_the_reason_and_the_same_losses(gpu, benchmark, monkeypatch, capsys):
    rows = {gpu.BY_HAND: gpu.by_hand, gpu.GRAPHED: gpu.ours_graphed}
    benchmark.make("small", rows)
    assert benchmark.report.rows["small", gpu.GRAPHED] == {"note": "no graph: the model is on cpu, and CUDA graphs are for CUDA devices"}
    assert ("small", gpu.GRAPHED) not in benchmark.made

    def moved_on(model, example):
        model.train(example)
        return graphed(model, example)

    graphed = gpu.graphed
    monkeypatch.setattr(gpu, "graphed", moved_on)
    benchmark.make("small", {gpu.GRAPHED: gpu.ours_graphed})
    assert "in the hand-written model" in benchmark.report.rows["small", gpu.GRAPHED]["error"]


def test_a_row_that_fails_says_so_in_one_line_and_the_others_go_on(gpu, monkeypatch, capsys, tmp_path):
    def fails(*_, **__):
        raise RuntimeError("CUDA error: out of luck\nCompile with DEVICE_ASSERTIONS")

    monkeypatch.setattr(gpu, "EAGER", {gpu.BY_HAND: gpu.by_hand, "another": fails, gpu.OURS: gpu.ours})
    file = tmp_path / "figures.jsonl"
    arguments = ["--device", "cpu", "--sizes", "small", "--steps", "3", "--rounds", "1", "--no-compile", "--out", str(file)]
    assert gpu.main(arguments) == 1
    assert "small, another: RuntimeError: CUDA error: out of luck\n" in capsys.readouterr().out
    report = gpu.read(file)
    assert report.rows["small", "another"] == {"error": "RuntimeError: CUDA error: out of luck"}
    assert report.rows["small", gpu.OURS]["ms"] > 0
    assert gpu.main(["--table", str(file)]) == 0
    assert "| small | pixyz " in capsys.readouterr().out


def test_compiled_rows_are_left_out_when_no_time_is_left(gpu, benchmark):
    benchmark.until = 0.0
    benchmark.make("small", {gpu.BY_HAND: gpu.by_hand})
    benchmark.make("small", gpu.COMPILED)
    assert {benchmark.report.rows["small", row]["note"] for row in gpu.COMPILED if row not in gpu.ON_CUDA} == {
        "not measured: no time left to compile"
    }
    assert not benchmark.report.has_failed


@pytest.mark.parametrize(
    ("size", "row", "make"),
    [("small", "by hand, compiled", "by_hand"), ("gan", "by hand, compiled", "by_hand"), ("small", "pixyz, compiled", "ours")],
)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo looks at it
def test_compiled_rows_have_the_losses_of_the_eager_ones(gpu, benchmark, monkeypatch, size, row, make):
    import gpu_programs

    monkeypatch.setitem(gpu_programs.STATIC, "backend", "eager")
    options = {"by_hand": {"compiles": True}, "ours": {"compile": {"backend": "eager"}}}[make]
    monkeypatch.setattr(gpu, "COMPILED", {row: partial(getattr(gpu, make), **options)})
    benchmark.make(size, {gpu.BY_HAND: gpu.by_hand})
    benchmark.make(size, gpu.COMPILED)
    assert benchmark.report.rows[size, row]["compile_s"] > 0


def test_host_reads_are_counted(gpu):
    from gpu_costs import launches, synchronisations

    batches = [torch.ones(2)]
    assert synchronisations(lambda x: (x.sum().item(), x.nonzero()), batches, CPU, count=5) == 2
    assert synchronisations(lambda x: x.sum(), batches, CPU, count=5) == 0
    assert launches(lambda x: (x + 1).view(1, 2).t().sum(), batches, CPU, count=5).calls == 2


def test_launches_are_counted_in_the_events_of_a_profile():
    from gpu_costs import MEASURED, Launches, launches_in

    def event(name, start, device=DeviceType.CPU, annotation=False):
        return SimpleNamespace(
            name=name, device_type=device, is_user_annotation=annotation, time_range=SimpleNamespace(start=start, end=start + 1)
        )

    inside = ["cudaLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync", "cudaStreamSynchronize"]
    of_host = [event(name, 10 + i) for i, name in enumerate([*inside, "aten::add", "cudaStreamIsCapturing"])]
    whole = event(MEASURED, 5, annotation=True)
    whole.time_range.end = 50
    of_device = [event(name, 20, DeviceType.CUDA) for name in ("void add_kernel", "Memcpy DtoH (Device -> Pageable)", "Memset (Device)")]
    told = [event(name, 20, DeviceType.CUDA, annotation=True) for name in (MEASURED, "Optimizer.step#Adam.step")]
    afterwards = [event("cudaDeviceSynchronize", 60)]
    events = [whole, *of_host, *of_device, *told, *afterwards]
    assert launches_in(events, 2) == Launches(calls=5 / 2, kernels=3 / 2, waits=2 / 2)
    with pytest.raises(RuntimeError, match="The profiler saw no kernel"):
        launches_in([whole, *of_host], 2)


def test_bounds_are_met_missed_or_not_measured(gpu):
    def said(**figures):
        report = gpu.Report({"device": "cuda"})
        report.add("small", gpu.OURS, ms=3.0, syncs=0.0)
        report.add("small", gpu.GRAPHED, **figures)
        return [verdict for _, verdict in gpu.bounds(report)]

    met = said(ms=0.5, to_graph=[1.2, 1.04, 1.0], syncs=0.0, capture_s=1.5)
    none = "not measured here"
    assert met == ["met: 1.04", none, "met: 6.00 ×", "met: 0.00", none, "met: 0.00", none, "met: 1.50 s"]
    missed = said(ms=1.0, to_graph=[1.0, 1.06, 1.1], syncs=0.1, capture_s=2.5)
    assert missed == ["missed: 1.06", none, "missed: 3.00 ×", "met: 0.00", none, "missed: 0.10", none, "missed: 2.50 s"]
    assert said(note="needs CUDA") == [*3 * [none], "met: 0.00", *4 * [none]]


def test_a_file_that_was_cut_off_can_be_read(gpu, tmp_path):
    file = tmp_path / "figures.jsonl"
    report = gpu.Report({"device": "cuda", "gpu": "a GPU"}, file)
    report.add("small", gpu.OURS, ms=1.0)
    file.write_text(file.read_text(encoding="utf-8") + '{"size": "small", "ro', encoding="utf-8")
    assert gpu.read(file).rows == report.rows
    assert gpu.read(file).machine["gpu"] == "a GPU"
