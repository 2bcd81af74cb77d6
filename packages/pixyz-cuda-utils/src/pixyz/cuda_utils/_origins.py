"""Which tensors lie on the host, also where the device is the CPU."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

DEVICE, HOST, NUMBER, OUTSIDE, TOLD = "device", "host", "number", "outside", "told"


class Origins:
    """Follows tensors from where they were made.

    On the CPU, a tensor counts as one of the device if it belongs to the model, is a value, was made with `device=`, or is computed from
    such tensors. Others are on the host: `DEVICE`, `HOST`, and `OUTSIDE` for those that stood somewhere else before the step.
    `NUMBER` is a tensor on the host that a library has made from a number of its own, `TOLD` one that an obstacle tells of already.

    Args:
        device: where the model is.
        known: the tensors that are on the device.
        names: what to call other tensors, by their storage.
    """

    def __init__(self, device: torch.device, known: Iterable[Tensor], names: Mapping[int, str]) -> None:
        self.is_real = device.type != "cpu"
        self.names = dict(names)
        self.rebound: dict[int, str] = {}
        self._origin: dict[int, str] = {}
        # While there is a weak reference, no other storage gets this number.
        self._numbered: dict[int, StorageWeakRef] = {}
        for tensor in known:
            self.born(tensor, DEVICE)

    def of(self, tensor: Tensor) -> str:
        """Where a tensor that is used in the step comes from."""
        if self.is_real:
            if tensor.device.type != "cpu":
                return DEVICE
            return self._origin.get(storage_of(tensor), OUTSIDE)
        key = storage_of(tensor)
        if key not in self._origin and key:
            self.born(tensor, OUTSIDE)
        return self._origin.get(key, DEVICE)

    def born(self, tensor: Tensor, origin: str) -> None:
        """A tensor that an operation has made."""
        key = storage_of(tensor)
        if not key:
            return
        if key not in self._numbered:
            self._numbered[key] = StorageWeakRef(tensor.untyped_storage())
        self._origin[key] = origin


def storage_of(tensor: Tensor) -> int:
    """The number of a tensor's storage; 0 for one without, such as a batched one in `torch.func.vmap`."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return 0
