"""The CUDA graph that an expert captures by hand: the whole step, as torch's notes on CUDA graphs have it; needs nothing but torch.

https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
"""

import warnings
from collections.abc import Callable

import torch
from gpu_programs import ByHand, Losses
from torch import Tensor

WARM_UP = 3

Step = Callable[[], Losses]


class CudaGraphs:
    """What a capture takes from `torch.cuda`. On the CPU the tests give an object that runs the same steps without a graph."""

    def warm_up(self, step: Step, count: int) -> None:
        """Runs steps on a side stream, which makes the optimiser's state, and the libraries' workspaces."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(count):
                step()
        torch.cuda.current_stream().wait_stream(side)

    def capture(self, step: Step) -> tuple[Callable[[], None], Losses]:
        """What replays the step, and the tensors that hold its losses after each replay. Nothing is computed yet."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            losses = step()
        return graph.replay, losses


class CapturedByHand:
    """A step as one CUDA graph. It draws from torch's generator of the device, which the graph registers by itself.

    Args:
        step: the step, its optimisers capturable. Its weights, its buffers and its optimisers are afterwards what they were.
        example: a batch.
        graphs: what captures.
    """

    def __init__(self, step: ByHand, example: Tensor, graphs: CudaGraphs | None = None) -> None:
        graphs = CudaGraphs() if graphs is None else graphs
        self._step = step  # the graph knows the addresses of its weights, and keeps none of them alive
        self._input = example.clone()
        kept = [(t, t.clone()) for module in step.modules for t in module.state_dict().values()]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
            graphs.warm_up(self._run, WARM_UP)
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)
            for optimizer in step.optimizers:
                # Adam starts from zeros; the tensors themselves stay, for the graph is to change them.
                for state in optimizer.state.values():
                    for tensor in state.values():
                        tensor.zero_()
                # The gradients of the capture are made in the memory of the graph.
                optimizer.zero_grad(set_to_none=True)
        self._replay, self._losses = graphs.capture(self._run)

    def _run(self) -> Losses:
        return self._step(self._input)

    def __call__(self, x: Tensor) -> Losses:
        """The losses of a step, in tensors that the next step overwrites."""
        self._input.copy_(x)
        self._replay()
        return self._losses
