"""What the laws of `testing` are written with."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._bijection import Bijection, Mapped


def direction(f: Bijection) -> tuple[str, Bijection]:
    """What it is called, and the bijection, or its inverse where there is only that."""
    name = f"the inverse of {type(f.inverse).__name__}" if type(f).__name__ == "Inverse" else type(f).__name__
    return (name, f.inverse) if f.push_passes is None else (name, f)


def ways(
    f: Bijection, x: Tensor, other: Tensor, context: Tensor | None, other_context: Tensor | None
) -> list[tuple[Bijection, str, Tensor, Tensor]]:
    """Each direction there is, its name, and the two batches as they stand at its entry."""
    ways = [(f, "forward", x, other)]
    if f.pull_passes is not None:
        with torch.no_grad():
            y, z = f.forward_and_log_det(x, context)[0], f.forward_and_log_det(other, other_context)[0]
        ways.append((f.inverse, "inverse", y, torch.cat([y[:1], z[1:]])))
    return ways


def slogdet(y: Tensor, x: Tensor, *, differentiable: bool = False) -> Tensor:
    """log|det dy/dx| of each datum; the data do not depend on one another, so a sum over them has their gradients."""
    flat = y.flatten(1)
    assert flat[0].numel() == x[0].numel(), f"{x[0].numel()} numbers are mapped to {flat[0].numel()}, which has no determinant."
    rows = [
        torch.autograd.grad(flat[:, i].sum(), x, create_graph=differentiable, retain_graph=True)[0].flatten(1) for i in range(flat.shape[1])
    ]
    return torch.linalg.slogdet(torch.stack(rows, 1))[1]


def trained(f: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Its parameters that are trained, and their names."""
    return [(name, p) for name, p in f.named_parameters() if p.requires_grad]


def gradients(total: Tensor, by: Sequence[Tensor]) -> list[Tensor]:
    """Its gradients; 0 by what it does not depend on."""
    if not total.requires_grad:
        return [torch.zeros_like(t) for t in by]
    found = torch.autograd.grad(total, by, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, by)]


def same(found: Mapped, expected: Mapped, who: str) -> None:
    """Raises an error unless both are equal, bit for bit."""
    for what, a, b in zip(("value", "log-determinant"), found, expected):
        assert torch.equal(a, b), f"{who}, the {what} is another: {a.flatten().tolist()[:5]}, not {b.flatten().tolist()[:5]}."


def near(found: Tensor, expected: Tensor, tolerance: float, who: str) -> None:
    """Raises an error unless both are equal, to a relative and absolute tolerance."""
    assert found.shape == expected.shape, f"{who} has shape {tuple(found.shape)}, not {tuple(expected.shape)}."
    equal = torch.isclose(found, expected, rtol=tolerance, atol=tolerance)
    assert equal.all(), f"{who} is {found[~equal].tolist()[:5]}, not {expected[~equal].tolist()[:5]}."
