"""Running a user's network on bindings with any open dims: folded into one batch, called once, unfolded."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ._autocast import call_network
from ._bindings import Binding, Factor
from ._dims import BATCH, Dims, Term, fold, need_dense, unfold, union
from ._errors import KindError, ShapeError
from ._variables import is_number

_BATCH_ONLY = (BATCH,)
# How torch speaks of shapes; an error of the user's own network is left alone.
_OF_SHAPES = re.compile(
    r"shapes? .*(cannot|invalid|incompatible|mismatch)|size of tensor|sizes of tensors|expected .*(input|channels|dim)"
    r"|must match|size mismatch|not match the shape",
    re.IGNORECASE,
)


class Outputs:
    """What a network returned, still folded.

    Attributes:
        tensors: by name, `(N, *features)`.
        dims: the dims that were folded into N.
    """

    def __init__(self, tensors: dict[str, Tensor], factor: Factor, dims: Dims, sizes: list[int], count: int | None) -> None:
        self.tensors = tensors
        self.dims = dims
        self._factor = factor
        self._sizes = sizes
        self._count = count  # N; None where the network has no inputs

    def parameters(self, event_ranks: Mapping[str, int]) -> dict[str, Term]:
        """The outputs as parameters of one family.

        Each is `(N, *features, *event)`, where the event has the rank that `event_ranks` says, or 0; without their events all are of
        one rank, and what has rank 0 or one rank less has no batch.

        Raises:
            ShapeError: for another shape; for one rank less where the first size is N, which may be one value a datum or one a feature.
        """
        if self._count is None:
            return {name: Term(t, ()) for name, t in self.tensors.items()}
        ranks = {name: t.ndim - event_ranks.get(name, 0) for name, t in self.tensors.items()}
        rank = max([*ranks.values()], default=0)
        out: dict[str, Term] = {}
        has_batch = False
        for name, t in self.tensors.items():
            if ranks[name] == rank and rank > 0 and t.shape[0] == self._count:
                out[name] = unfold_output(t, self.dims, self._sizes)
                has_batch = True
            elif ranks[name] in (0, rank - 1):
                if ranks[name] > 0 and t.shape[0] == self._count and self._count != 1:
                    self._refuse_either(name, ranks)
                out[name] = Term(t, ())
            else:
                self._refuse(", all of one rank")
        if self.dims and out and not has_batch:
            raise ShapeError(f"{self._factor}: no output of the network has a batch, though it was called with a batch of {self._count}.")
        return out

    def variables(self) -> dict[str, Term]:
        """The outputs as variables: each `(N, *features)`, of any rank."""
        if self._count is None:
            return {name: Term(t, ()) for name, t in self.tensors.items()}
        if any([t.ndim == 0 or t.shape[0] != self._count for t in self.tensors.values()]):
            self._refuse("")
        return {name: unfold_output(t, self.dims, self._sizes) for name, t in self.tensors.items()}

    def _refuse_either(self, name: str, ranks: Mapping[str, int]) -> None:
        """An error for a parameter of one rank less than the others, if its first size is the batch's."""
        other = max(ranks, key=lambda n: ranks[n])
        raise ShapeError(
            f"{self._factor}: for {self._count} inputs the network returned {name} {tuple(self.tensors[name].shape)} beside "
            f"{other} {tuple(self.tensors[other].shape)}: one value for each datum, or one for each feature? "
            f"Return {name}[:, None] for one a datum, {name}.expand_as({other}) for one a feature."
        )

    def _refuse(self, more: str) -> None:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in self.tensors.items())
        raise ShapeError(
            f"{self._factor}: for {self._count} inputs the network must return ({self._count}, *features){more}; it returned {shapes}."
        )


def run_network(module: nn.Module, factor: Factor, inputs: tuple[Binding, ...]) -> Outputs:
    """The module's outputs for these inputs.

    The union of the inputs' dims is folded into one leading dim, so convolutions and batch normalisation see `(N, *features)`.

    Raises:
        ShapeError: for inputs of different batches, outputs of a wrong batch or rank, or a failing matrix product.
        KindError: for outputs that are no dict of tensors, and for mixed devices or dtypes.
    """
    arguments, dims, sizes = fold_inputs(factor.dist.cond_var, inputs, factor.cond_var, factor)
    if not torch.compiler.is_compiling():
        if len(inputs) > 1:
            _check_one_kind(factor, inputs)
        try:
            returned = call_network(module, **arguments)
        except RuntimeError as error:
            _explain(error, module, factor, arguments)
            raise
    else:
        returned = call_network(module, **arguments)
    if not isinstance(returned, dict):
        raise KindError(
            f'{factor}: forward must return a dict from names to tensors, like {{"loc": ..., "scale": ...}}; '
            f"it returned {_describe(returned)}."
        )
    tensors = {k: v if isinstance(v, Tensor) else _number(v, k, factor, arguments) for k, v in returned.items()}
    for name, tensor in tensors.items():
        need_dense(tensor, factor, f"the network's {name}")
    if not inputs:
        return Outputs(tensors, factor, dims, sizes, None)
    like = next(iter(arguments.values()))
    return Outputs(tensors, factor, dims, sizes, like.shape[0])


def _check_one_kind(factor: Factor, inputs: tuple[Binding, ...]) -> None:
    """Raises an error for inputs of different devices or dtypes."""
    first = inputs[0].tensor
    for name, (other, _, _) in zip(factor.cond_var[1:], inputs[1:]):
        if other.device != first.device or (other.dtype != first.dtype and _real(other, first)):
            raise KindError(
                f"{factor}: {factor.cond_var[0]} is {first.dtype} on {first.device}, {name} is {other.dtype} on {other.device}. "
                "Convert one with .to()."
            )


def fold_inputs(
    names: tuple[str, ...], inputs: tuple[Binding, ...], outer: tuple[str, ...], who: object
) -> tuple[dict[str, Tensor], Dims, list[int]]:
    """The inputs as one batch each, `(N, *features)`.

    Args:
        names: what the function calls them.
        inputs: the bindings.
        outer: what the formula calls them, for the messages.
        who: the formula.

    Returns:
        The inputs by name, the dims that were folded into N, and the sizes of these; no sizes where nothing but the batch was there.

    Raises:
        ShapeError: for inputs of different batches.
    """
    if len(inputs) == 1 and inputs[0].dims == _BATCH_ONLY:
        return {names[0]: inputs[0].tensor}, _BATCH_ONLY, []
    if all([b.dims == _BATCH_ONLY for b in inputs]):
        dims: Dims = _BATCH_ONLY if inputs else ()
        if len(inputs) > 1:
            common_sizes(dims, inputs, outer, who)
        return {name: b.tensor for name, b in zip(names, inputs)}, dims, []
    dims = union(*[b.dims for b in inputs])
    sizes = common_sizes(dims, inputs, outer, who)
    return {name: fold(b.tensor, b.dims, dims, sizes) for name, b in zip(names, inputs)}, dims, sizes


def unfold_output(t: Tensor, dims: Dims, sizes: list[int]) -> Term:
    """`(N, *features)` as `(*dims, *features)`, after `fold_inputs`."""
    return Term(t if dims == _BATCH_ONLY else unfold(t, dims, sizes), dims)


def _real(a: Tensor, b: Tensor) -> bool:
    return a.is_floating_point() and b.is_floating_point()


def common_sizes(dims: Dims, bindings: tuple[Binding, ...], names: tuple[str, ...], who: object) -> list[int]:
    """The size of each dim among the bindings of these names, or an error that names two that differ."""
    sizes: dict[int, int] = {}
    for b in bindings:
        for d, size in zip(b.dims, b.tensor.shape):
            if sizes.setdefault(d, size) != size:
                batches = [f"{name} has batch {c.tensor.shape[len(c.dims) - 1]}" for name, c in zip(names, bindings) if BATCH in c.dims]
                raise ShapeError(f"{who}: {', '.join(batches)}; one evaluation of it needs one batch.")
    return [sizes[d] for d in dims]


def _number(value: object, name: str, factor: Factor, arguments: Mapping[str, Tensor]) -> Tensor:
    if is_number(value):
        like = next((a for a in arguments.values() if a.is_floating_point()), None)
        return torch.tensor(float(value)) if like is None else like.new_full((), value)
    raise KindError(f"{factor}: the network's {name} must be a tensor; it is {_describe(value)}.")


def _describe(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _explain(error: RuntimeError, module: nn.Module, factor: Factor, arguments: Mapping[str, Tensor]) -> None:
    """Raises an error in the words of the formula, if this one was of shapes, devices or dtypes."""
    if type(error) is not RuntimeError:
        return
    own = next(module.parameters(), None)
    outer = dict(zip(factor.dist.cond_var, factor.cond_var))
    for name, a in arguments.items():
        if own is not None and a.device != own.device:
            raise KindError(
                f"{factor}: {outer[name]} is on {a.device}, the network's parameters on {own.device}. Move one with .to()."
            ) from error
    for name, a in arguments.items():
        if own is not None and a.dtype != own.dtype and "dtype" in str(error):
            raise KindError(
                f"{factor}: {outer[name]} is {a.dtype}, the network's parameters are {own.dtype}. Convert one with .to()."
            ) from error
    if _OF_SHAPES.search(str(error)):
        shapes = ", ".join(f"{outer[name]} of features {tuple(a.shape[1:])}" for name, a in arguments.items())
        numbers = [name for name, a in arguments.items() if a.ndim == 1] if len(arguments) > 1 else []
        hint = f" {outer[numbers[0]]} is one number a datum, (batch,): beside features write {numbers[0]}[:, None]." if numbers else ""
        raise ShapeError(f"{factor}: the network failed on {shapes}: {str(error).splitlines()[0].rstrip('.')}.{hint}") from error
