"""Graphs on the CPU: a capture records the operations of a function, and a replay runs them again on the same storages."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pixyz.cuda_utils import Graphs

WAITS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
}


class Recording(TorchDispatchMode):
    """Runs operations, and keeps them as functions without arguments that run them again."""

    def __init__(self):
        super().__init__()
        self.thunks = []
        self.made = []

    @classmethod
    def is_infra_mode(cls):
        return True  # compiled functions run in it

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in WAITS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {function}")
        out = function(*args, **kwargs)
        given = {t.untyped_storage()._cdata for t in _tensors((args, kwargs))}
        new = [(i, t) for i, t in enumerate(_tensors(out)) if t.untyped_storage()._cdata not in given]
        if new or function._schema.is_mutable:
            self.thunks.append(lambda: _again(function, args, kwargs, new))
            self.made += [t for _, t in new]
        return out


def _tensors(tree):
    return [t for t in tree_leaves(tree) if isinstance(t, Tensor)]


def _again(function, args, kwargs, new):
    out = _tensors(function(*args, **kwargs))
    for i, tensor in new:
        if tensor.numel():
            tensor.copy_(out[i])


class Recorded(Graphs):
    """Graphs of one pool: before a replay, all that any graph of the pool has made is spoiled, as if the others had used the memory.

    Attributes:
        captures: how many there were.
        replays: the numbers of the graphs replayed, in their order.
        pool: what was made while graphs were captured.
        operations: of each graph, how many operations it has.
    """

    unavailable = None

    def __init__(self):
        super().__init__(torch.device("cpu"))
        self.captures = 0
        self.replays = []
        self.operations = []
        self.pool = []

    def warm_up(self, work):
        work()

    def capture(self, work):
        number = self.captures
        self.captures += 1
        with Recording() as recording:
            work()
        self.pool += recording.made
        self.operations.append(len(recording.thunks))

        @torch.no_grad()
        def replay():
            self.replays.append(number)
            for tensor in self.pool:
                if tensor.is_floating_point():
                    tensor.fill_(torch.nan)
            for thunk in recording.thunks:
                thunk()

        return replay
