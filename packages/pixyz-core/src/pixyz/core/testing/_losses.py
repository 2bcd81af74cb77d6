"""The laws of a loss: what it runs is registered, and what it says of itself agrees with what it does."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._errors import BoundVariableError, MissingVariableError
from .._loss import Loss
from ._distributions import SIGMAS


def check_loss(loss: Loss, values: Mapping[str, Tensor], *, batch_size: int | None = None) -> None:
    """That all it runs is registered, and that what it says of itself is so.

    Args:
        loss: any loss, in evaluation mode or without dropout, in the dtype of the values.
        values: as for `estimate`, of two data or more, on the device of the loss.
        batch_size: as for `estimate`.

    Raises:
        AssertionError: for the first law that is broken.
    """
    check_registered(loss, values, batch_size=batch_size)
    check_says(loss, values, batch_size=batch_size)


def check_registered(loss: Loss, values: Mapping[str, Tensor], *, batch_size: int | None = None) -> None:
    """Every parameter that it uses is in `parameters()` and `state_dict()`, and every tensor that it keeps is converted with it."""
    with _Used() as used:
        _value(loss, values, batch_size)
    known = {*loss.parameters()}
    lost = [w for w in used.tensors if isinstance(w, nn.Parameter) and w not in known]
    assert not lost, f"{loss}: it uses parameters of shapes {[tuple(w.shape) for w in lost]}, which are not among its parameters()."
    saved = {*loss.state_dict(keep_vars=True).values()}
    unsaved = [w for w in used.tensors if isinstance(w, nn.Parameter) and w not in saved]
    assert not unsaved, f"{loss}: parameters of shapes {[tuple(w.shape) for w in unsaved]} are not in its state_dict()."
    twin = copy.deepcopy(loss).double()
    doubled = {v: x.double() if x.is_floating_point() else x for v, x in values.items()}
    with _Used() as used:
        value = _value(twin, doubled, batch_size)
    assert value.dtype == torch.float64, f"{loss}: after .double() its value is {value.dtype}."
    given = [*values.values(), *doubled.values()]
    single = [t for t in used.tensors if t.dtype == torch.float32 and t.ndim and t.is_leaf and not any([t is x for x in given])]
    assert not single, f"{loss}: after .double() it still uses tensors in float32, of shapes {[tuple(t.shape) for t in single]}."


def check_says(loss: Loss, values: Mapping[str, Tensor], *, batch_size: int | None = None) -> None:
    """Its variables, `per_datum`, `stochastic` and `mixes_batch` agree with what it does."""
    first = _value(loss, values, batch_size)
    assert first.ndim == loss.per_datum, f"{loss}: per_datum is {loss.per_datum}, and its value has shape {tuple(first.shape)}."
    again = [_value(loss, values, batch_size, seed=seed) for seed in (1, 2)]
    if not loss.stochastic:
        assert torch.equal(again[0], again[1]), f"{loss}: stochastic is False, and two evaluations are {again[0]} and {again[1]}."
    for v in loss.input_var:
        _raises(loss, {k: x for k, x in values.items() if k != v}, batch_size, MissingVariableError, f"without {v}, one of its input_var")
    for v in loss.bound_var.difference(loss.input_var, loss.optional_var):
        _raises(loss, {**values, v: first.detach()}, batch_size, BoundVariableError, f"given {v}, one of its bound_var")
    data = {v: x for v, x in values.items() if x.ndim and v in (*loss.input_var, *loss.optional_var)}
    if loss.per_datum and not loss.mixes_batch and data:
        others = {**values, **{v: x[:1].expand_as(x) for v, x in data.items()}}
        if any([not torch.equal(others[v], x) for v, x in data.items()]):
            moved = _value(loss, others, batch_size)
            near = torch.allclose(moved[0], first[0], rtol=1e-4, atol=1e-6, equal_nan=True)
            assert near, f"{loss}: mixes_batch is False, and the value of a datum is {first[0]}, or beside other data {moved[0]}."


def check_unbiased(
    loss: Loss, values: Mapping[str, Tensor], expected: Callable[[], Tensor], *, batch_size: int | None = None, repeats: int = 400
) -> None:
    """If it says that it is not biased, its value and its gradient are the expected ones on average.

    Args:
        loss: the loss.
        values: as for `estimate`.
        expected: the exact value, with its gradient for the parameters of the loss, on its device.
        batch_size: as for `estimate`.
        repeats: how many evaluations are averaged.

    Raises:
        AssertionError: if they differ by more than `SIGMAS` standard errors.
    """
    if loss.is_biased:
        return
    parameters = [w for w in loss.parameters() if w.requires_grad]
    truth = _with_gradient(expected(), parameters)
    found = torch.stack([_with_gradient(_value(loss, values, batch_size, seed=i), parameters) for i in range(repeats)])
    error = found.std(0) / math.sqrt(repeats) + 1e-5 * (1 + truth.abs())
    worst = ((found.mean(0) - truth).abs() / error).max()
    assert worst <= SIGMAS, (
        f"{loss}: is_biased is False, and its value and gradient are {found.mean(0).tolist()} on average, not {truth.tolist()}: "
        f"{worst.item():.1f} standard errors off."
    )


class _Used(TorchFunctionMode):
    """Keeps the tensors that functions take and that no function has made."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []
        self._made: dict[int, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for t in _tensors((args, kwargs)):
            if id(t) not in self._made:
                self.tensors.append(t)
                self._made[id(t)] = t
        made = func(*args, **kwargs)
        self._made.update({id(t): t for t in _tensors(made)})
        return made


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for x in value for t in _tensors(x)]
    return [t for x in value.values() for t in _tensors(x)] if isinstance(value, dict) else []


def _value(loss: Loss, values: Mapping[str, Tensor], batch_size: int | None, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return loss.estimate(values, batch_size=batch_size)


def _with_gradient(value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The mean value, and its gradient, `(1 + D,)`."""
    found = torch.autograd.grad(value.mean(), parameters, allow_unused=True)
    rows = [(torch.zeros_like(w) if g is None else g).flatten() for g, w in zip(found, parameters)]
    return torch.cat([value.detach().mean().reshape(1), *rows]).double().cpu()


def _raises(loss: Loss, values: Mapping[str, Tensor], batch_size: int | None, error: type[Exception], who: str) -> None:
    try:
        _value(loss, values, batch_size)
    except error:
        return
    raise AssertionError(f"{loss}: {who}, it raises no {error.__name__}.")
