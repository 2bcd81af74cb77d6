r"""Potentials and their elimination: tables over finite variables, quadratic forms over Gaussian ones, and both at once.

A potential over finite variables k and a vector v of Gaussian ones is, in canonical form (Koller and Friedman 2009, section 14.2.1),

$$\log\phi(k, v) = c_k + h_k^\top v - \tfrac{1}{2} v^\top J_k v .$$

Potentials come in stacks, `(*dims, m, *finite)` and behind that the vector's dims: m members, which `_order` numbers. Any axis may
have size 1 where nothing depends on it: the covariances of a linear dynamical system are computed once for all data.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ._cholesky import cholesky
from ._dims import Dims, align, lead, union
from ._order import Slot, Step

LOG_TWO_PI = math.log(2 * math.pi)


class Form(NamedTuple):
    """The part of a potential that depends on Gaussian variables.

    Attributes:
        linear: h, `(*dims, m, *finite, D)`.
        quadratic: J, `(*dims, m, *finite, D, D)`.
        sizes: the length of each Gaussian variable; together D.
    """

    linear: Tensor
    quadratic: Tensor
    sizes: tuple[int, ...]


class Stack(NamedTuple):
    """Potentials of one kind.

    Attributes:
        dims: the open dims that lead.
        constant: c, `(*dims, m, *finite)`.
        form: h and J; None without Gaussian variables.
    """

    dims: Dims
    constant: Tensor
    form: Form | None = None


def multiply(stacks: Sequence[Stack], step: Step) -> Stack:
    """The product of all potentials that a step's variables have, laid out over the variable and its neighbours, in this order."""
    dims = union(*[stacks[slot.stack].dims for slot in step.slots])
    rank = step.finite_neighbours + step.is_finite
    sizes = _sizes(stacks, step)
    constants: list[Tensor] = []
    linear: list[Tensor] = []
    quadratic: list[Tensor] = []
    for slot in step.slots:
        own, constant, form = stacks[slot.stack]
        axes, blocks = _split(slot, step)
        constants.append(_lay_out(align(constant, own, dims), slot, axes, rank, 0))
        if form is not None:
            into = _embedding(blocks, sizes, form.linear)
            h = _lay_out(align(form.linear, own, dims), slot, axes, rank, 1)
            j = _lay_out(align(form.quadratic, own, dims), slot, axes, rank, 2)
            linear.append(h if into is None else h @ into)
            quadratic.append(j if into is None else into.mT @ j @ into)
    constant, width = _sum(constants), len(dims) + 1 + rank
    return Stack(dims, constant, Form(lead(_sum(linear), width + 1), lead(_sum(quadratic), width + 2), sizes) if linear else None)


def eliminate(product: Stack, step: Step) -> Stack:
    """The product without the step's variables, which come first in it."""
    dims, constant, form = product
    if form is None:
        return Stack(dims, log_sum(constant, constant.ndim - 1 - step.finite_neighbours))
    linear, quadratic, sizes = form
    d = sizes[0]
    white, log_det = root(quadratic[..., :d, :d])
    y = (white @ linear[..., :d].unsqueeze(-1)).squeeze(-1)
    constant = constant + 0.5 * y.square().sum(-1) - log_det + 0.5 * d * LOG_TWO_PI
    if len(sizes) == 1:
        return Stack(dims, constant)
    cross = white @ quadratic[..., :d, d:]
    rest = linear[..., d:] - (cross.mT @ y.unsqueeze(-1)).squeeze(-1)
    return Stack(dims, constant, Form(rest, quadratic[..., d:, d:] - cross.mT @ cross, sizes[1:]))


def root(precision: Tensor) -> tuple[Tensor, Tensor]:
    """The lower triangular R with RᵀR = J⁻¹ for a precision J, and ½ log|J|.

    It is small and the same for all data where J is, so it is multiplied with what differs, rather than a system solved for each datum.
    """
    lower = cholesky(precision)
    identity = torch.eye(precision.shape[-1], dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower, identity, upper=False), lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def log_sum(t: Tensor, axis: int) -> Tensor:
    """log Σ exp over one axis; where everything is impossible, -inf with the gradient zero."""
    top = t.detach().amax(axis, keepdim=True)
    top = torch.where(top.isinf(), 0.0, top)
    total = (t - top).exp().sum(axis)
    zero = total == 0
    return torch.where(zero, 1.0, total).log().masked_fill(zero, -torch.inf) + top.squeeze(axis)


def sum_members(stack: Stack, count: int) -> Tensor:
    """The sum of potentials that have no variables left, `(*dims)`."""
    total = stack.constant.sum(-1)
    return total if stack.constant.shape[-1] == count else total * count


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    return sum(tensors[1:], tensors[0])


def _split(slot: Slot, step: Step) -> tuple[list[int], list[int]]:
    """The axes of the slot's finite variables, and the blocks of its Gaussian ones, in the product."""
    if step.is_finite:
        return list(slot.places), []
    finite = step.finite_neighbours
    return (
        [p - 1 for p in slot.places if 1 <= p <= finite],
        [0 if p == 0 else p - finite for p in slot.places if p == 0 or p > finite],
    )


def _sizes(stacks: Sequence[Stack], step: Step) -> tuple[int, ...]:
    """The lengths of the Gaussian variables of a product."""
    found: dict[int, int] = {}
    for slot in step.slots:
        form = stacks[slot.stack].form
        if form is not None:
            found.update(zip(_split(slot, step)[1], form.sizes))
    return tuple(found[b] for b in sorted(found))


def _lay_out(t: Tensor, slot: Slot, axes: list[int], rank: int, extra: int) -> Tensor:
    """`(*dims, m, *finite, *extra)` with the slot's members, and each finite variable on its axis of `rank`."""
    lead = t.ndim - extra - len(axes)  # the axes up to that of the members
    t = _pick(t, lead - 1, slot.members)
    if axes != sorted(axes):
        order = sorted(range(len(axes)), key=axes.__getitem__)
        t = t.permute(*range(lead), *[lead + i for i in order], *range(t.ndim - extra, t.ndim))
    for axis in range(rank):
        if axis not in axes:
            t = t.unsqueeze(lead + axis)
    return t


def _pick(t: Tensor, axis: int, members: tuple[int, ...]) -> Tensor:
    if t.shape[axis] == 1 or members == tuple(range(t.shape[axis])):
        return t
    # In slices: the numbers of the members as a tensor would be copied to the device at each evaluation.
    parts = [t[(slice(None),) * axis + (slice(run.start, run.stop, run.step),)] for run in _runs(members)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def _runs(members: tuple[int, ...]) -> list[range]:
    """The numbers as ranges that go up, one after the other."""
    found: list[range] = []
    for member in members:
        last = found[-1] if found else None
        step = 0 if last is None else member - last[-1]
        if last is not None and step > 0 and (len(last) == 1 or step == last.step):
            found[-1] = range(last.start, member + 1, step)
        else:
            found.append(range(member, member + 1))
    return found


def _embedding(blocks: list[int], sizes: tuple[int, ...], like: Tensor) -> Tensor | None:
    """The matrix that takes a vector of these blocks to its place among all; None where it is the identity."""
    if blocks == list(range(len(sizes))):
        return None
    start = [sum(sizes[:b]) for b in range(len(sizes))]
    rows = [start[b] + i for b in blocks for i in range(sizes[b])]
    return torch.eye(sum(sizes), dtype=like.dtype, device=like.device)[rows]
