r"""Laws that a bijection obeys, to hold your own to them.

No test framework is needed: a broken law raises an `AssertionError` that says which law, what was expected and what came. The truth is
autograd's Jacobian, and that the two directions undo one another:

$$f^{-1}(f(x)) = x, \qquad \log\left|\det\frac{\partial f}{\partial x}\right| = \log\left|\det J_\text{autograd}\right|, \qquad
\log\left|\det\frac{\partial f^{-1}}{\partial y}\right| = -\log\left|\det\frac{\partial f}{\partial x}\right|$$

Of a bijection with one direction only, that one is held to the laws.

Examples:
    >>> from pixyz.flows import Coupling
    >>> check(lambda: Coupling(3, context=2, hidden=[4]), torch.randn(5, 3).double(), torch.randn(5, 2).double())
"""

import copy
import pickle
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ._bijection import Bijection
from ._chain import Chain
from ._law_tools import direction, gradients, near, same, slogdet, trained, ways
from ._precision import check_precision

__all__ = [
    "check",
    "check_context",
    "check_copies",
    "check_depth",
    "check_gradients",
    "check_graph",
    "check_independence",
    "check_inverse",
    "check_log_det",
    "check_precision",
    "check_purity",
    "check_shapes",
    "check_start",
    "moved",
]


def check(
    make: Callable[[], Bijection],
    x: Tensor,
    context: Tensor | None = None,
    *,
    tolerance: float = 1e-8,
    by: float = 0.3,
    depth: int | None = 50,
    traceable: bool = True,
    sizes: Sequence[float] = (1, 5, 50),
    interval: tuple[float, float] | None = None,
    period: float | None = None,
) -> None:
    """Every law below that a bijection can be held to.

    Args:
        make: builds it anew, each time as large; parameters may be random.
        x: `(batch, *in_shape)` in its domain, float64, at least 3 different data; of what has only an inverse, values y.
        context: `(batch, context)`, where it takes one.
        tolerance: relative and absolute; 1e-8 for what is exact, that of the solver for what is not.
        by: how far parameters are moved away from where they start, where many a fault does not show.
        depth: how many of them are chained in float32; None where they cannot be.
        traceable: whether it must run as one graph.
        sizes: for which sizes of the parameters float32 is held to float64, by `check_precision`; none where it cannot be.
        interval: as `check_precision` takes it.
        period: likewise.

    Raises:
        AssertionError: for the first law that is broken.
    """
    f = moved(make(), x, context, by=by)
    check_purity(f, x, context)
    check_inverse(f, x, context, tolerance=tolerance)
    check_log_det(f, x, context, tolerance=tolerance)
    check_gradients(f, x, context, tolerance=tolerance)
    check_context(f, x, context)
    check_independence(f, x, context, tolerance=tolerance)
    check_shapes(f, x, context, tolerance=tolerance)
    check_start(make, x, context)
    check_copies(make, x, context, by=by)
    if traceable:
        check_graph(f, x, context)
    check_precision(make, x, context, sizes=sizes, interval=interval, period=period)
    if depth is not None:
        check_depth(make, x, context, depth=depth)


def moved(f: Bijection, x: Tensor | None = None, context: Tensor | None = None, *, by: float = 0.3) -> Bijection:
    """The bijection in float64, started by x, with noise of this size added to its parameters; it is changed itself."""
    f.double()
    with torch.no_grad():
        if x is not None:
            direction(f)[1].initialize(x, context)
        for parameter in f.parameters():
            parameter.add_(by * torch.randn_like(parameter) / max(1, parameter[0].numel() if parameter.ndim > 1 else 1) ** 0.5)
    return f


def check_inverse(f: Bijection, x: Tensor, context: Tensor | None = None, *, tolerance: float = 1e-8) -> None:
    """The inverse gives x back, minus the log-determinant, and gradients as if nothing had happened."""
    who, f = direction(f)
    if f.pull_passes is None:
        return
    x = x.clone().requires_grad_()
    y, log_det = f.forward_and_log_det(x, context)
    back, log_det_back = f.inverse_and_log_det(y, context)
    near(back, x, tolerance, f"{who}: the inverse of the forward direction")
    near(-log_det_back, log_det, tolerance, f"{who}: minus the log-determinant of the inverse")
    weights = torch.randn_like(x)
    parameters = [p for _, p in trained(f)]
    found = gradients((back * weights).sum(), [x, *parameters])
    what = f"{who}: of the inverse of the forward direction, the gradient by"
    near(found[0], weights, 100 * tolerance, f"{what} x")
    for (name, _), gradient in zip(trained(f), found[1:]):
        near(gradient, torch.zeros_like(gradient), 100 * tolerance, f"{what} {name}")


def check_log_det(f: Bijection, x: Tensor, context: Tensor | None = None, *, tolerance: float = 1e-8) -> None:
    """The log-determinant is that of autograd's Jacobian."""
    who, f = direction(f)
    f.forward_and_log_det(x.flip(0), context)  # a value that stays from an earlier evaluation is found out
    x = x.clone().requires_grad_()
    y, log_det = f.forward_and_log_det(x, context)
    near(log_det, slogdet(y, x), tolerance, f"{who}: the log-determinant")


def check_gradients(f: Bijection, x: Tensor, context: Tensor | None = None, *, tolerance: float = 1e-8) -> None:
    """Gradients reach every parameter, in each direction; those of the log-determinant are those of autograd's."""
    who, f = direction(f)
    for way, name in ((f, "forward"),) if f.pull_passes is None else ((f, "forward"), (f.inverse, "inverse")):
        t = x if way is f else f.forward_and_log_det(x, context)[0].detach()
        t = t.clone().requires_grad_()
        y, log_det = way.forward_and_log_det(t, context)
        parameters = [p for _, p in trained(f)]
        if not parameters:
            continue
        total = (y * torch.randn_like(y)).sum() + (log_det * torch.randn_like(log_det)).sum()
        for (label, _), gradient in zip(trained(f), gradients(total, parameters)):
            assert gradient.any(), f"{who}: in the {name} direction {label} has no gradient."
            assert gradient.isfinite().all(), f"{who}: in the {name} direction the gradient of {label} is not finite."
        truth = slogdet(y, t, differentiable=True)
        weights = torch.randn_like(log_det)
        expected = gradients((truth * weights).sum(), parameters)
        found = gradients((log_det * weights).sum(), parameters)
        for (label, _), g, e in zip(trained(f), found, expected):
            near(g, e, 100 * tolerance, f"{who}: in the {name} direction the log-determinant's gradient by {label}")


def check_context(f: Bijection, x: Tensor, context: Tensor | None = None) -> None:
    """What takes a context depends on it."""
    who, f = direction(f)
    if context is None:
        return
    here, there = f.forward_and_log_det(x, context), f.forward_and_log_det(x, context + 1)
    assert not (torch.equal(here[0], there[0]) and torch.equal(here[1], there[1])), f"{who}: with another context nothing changes."


def check_independence(f: Bijection, x: Tensor, context: Tensor | None = None, *, tolerance: float = 1e-8) -> None:
    """What becomes of a datum does not depend on the others in the batch."""
    who, f = direction(f)
    other = torch.cat([x[:1], x[1:].flip(0)])
    other_context = None if context is None else torch.cat([context[:1], context[1:].flip(0)])
    for way, name, t, u in ways(f, x, other, context, other_context):
        y, log_det = way.forward_and_log_det(t, context)
        z, other_log_det = way.forward_and_log_det(u, other_context)
        near(z[0], y[0], tolerance, f"{who}: {name}, with others in the batch, the first datum")
        near(other_log_det[0], log_det[0], tolerance, f"{who}: {name}, with others in the batch, the log-determinant of the first datum")


def check_shapes(f: Bijection, x: Tensor, context: Tensor | None = None, *, tolerance: float = 1e-8) -> None:
    """A batch of 1 is mapped as in a larger one; an empty batch stays empty; there is one log-determinant for each datum."""
    who, f = direction(f)
    for way, name, t, _ in ways(f, x, x, context, context):
        y, log_det = way.forward_and_log_det(t, context)
        if way.out_shape is not None:
            assert y.shape[1:] == way.out_shape, f"{who}: {name} gives features {tuple(y.shape[1:])}, not {way.out_shape}."
        for n in (0, 1, len(t)):
            part, part_log_det = way.forward_and_log_det(t[:n], None if context is None else context[:n])
            assert part.shape == (n, *y.shape[1:]), f"{who}: {name}, a batch of {n} becomes {tuple(part.shape)}."
            assert part_log_det.shape == (n,), (
                f"{who}: {name}, a batch of {n} has a log-determinant {tuple(part_log_det.shape)}, not {(n,)}."
            )
            near(part, y[:n], tolerance, f"{who}: {name}, in a batch of {n} a datum")
            near(part_log_det, log_det[:n], tolerance, f"{who}: {name}, in a batch of {n} the log-determinant")


def check_purity(f: Bijection, x: Tensor, context: Tensor | None = None) -> None:
    """An evaluation changes and keeps nothing."""
    who, f = direction(f)
    held = {name: dict(module.__dict__) for name, module in f.named_modules()}
    weights = {name: tensor.clone() for name, tensor in (*f.named_parameters(), *f.named_buffers())}
    for way, _, t, _ in ways(f, x, x, context, context):
        way.forward_and_log_det(t, context)
    for name, module in f.named_modules():
        for key in held[name].keys() | module.__dict__.keys():
            same = key in held[name] and key in module.__dict__ and held[name][key] is module.__dict__[key]
            assert same, f"{who}: an evaluation has changed the attribute {key} of {type(module).__name__}."
    for name, tensor in (*f.named_parameters(), *f.named_buffers()):
        assert torch.equal(tensor, weights[name]), f"{who}: an evaluation has changed {name}."


def check_start(make: Callable[[], Bijection], x: Tensor, context: Tensor | None = None) -> None:
    """Once started, it waits for data no more, and other data change nothing; neither after it was saved and loaded."""
    who, f = direction(make().double())
    f.initialize(x, context)
    assert not f.needs_start, f"{who}: after initialize it still waits for data."
    expected = f.forward_and_log_det(x, context)
    loaded = direction(make().double())[1]
    loaded.load_state_dict(f.state_dict())
    assert not loaded.needs_start, f"{who}: after load_state_dict it waits for data again."
    for g, when in ((f, "a second time"), (loaded, "after load_state_dict")):
        g.initialize(x.flip(0)[: max(2, len(x) - 1)], None if context is None else context.flip(0)[: max(2, len(x) - 1)])
        same(g.forward_and_log_det(x, context), expected, f"{who}: after initialize {when}")


def check_copies(make: Callable[[], Bijection], x: Tensor, context: Tensor | None = None, *, by: float = 0.3) -> None:
    """`state_dict` loaded into one that is built anew, `deepcopy` and pickle keep it, bit for bit."""
    f = moved(make(), x, context, by=by)
    who = direction(f)[0]
    loaded = moved(make(), by=by)
    loaded.load_state_dict(f.state_dict())
    for g, how in ((loaded, "load_state_dict"), (copy.deepcopy(f), "deepcopy"), (pickle.loads(pickle.dumps(f)), "pickle")):
        for way, name, t, _ in ways(direction(f)[1], x, x, context, context):
            twin = direction(g)[1]
            twin = twin if name == "forward" else twin.inverse
            same(twin.forward_and_log_det(t, context), way.forward_and_log_det(t, context), f"{who}: {name}, after {how}")


def check_graph(f: Bijection, x: Tensor, context: Tensor | None = None) -> None:
    """`torch.compile(fullgraph=True)` gives what eager mode gives."""
    who, f = direction(f)
    for way, name, t, _ in ways(f, x, x, context, context):
        torch.compiler.reset()  # it keeps but a few graphs of one function, and takes the next for a fault
        compiled = torch.compile(way.forward_and_log_det, backend="eager", fullgraph=True)
        expected = way.forward_and_log_det(t, context)
        try:
            found = compiled(t, context)
        except Exception as error:  # the compiler has many kinds
            raise AssertionError(f"{who}: {name}, it does not run as one graph: {str(error).strip().splitlines()[0]}") from error
        for what, a, b in zip(("value", "log-determinant"), found, expected):
            near(a, b, 1e-10, f"{who}: {name}, compiled, the {what}")


def check_depth(
    make: Callable[[], Bijection], x: Tensor, context: Tensor | None = None, *, depth: int = 50, by: float = 0.02, tolerance: float = 1e-2
) -> None:
    """So many of them after one another, in float32, are finite, and undone loosely; every other one is inverted if sides differ."""
    who, f = direction(make())
    turns = f.in_shape != f.out_shape or f.domain != f.codomain
    if turns and f.pull_passes is None:
        return
    layers: list[Bijection] = []
    t = x
    for i in range(depth):
        layer = direction(make())[1]
        layer = layer.inverse if turns and i % 2 else layer
        moved(layer, t, context, by=0.0 if turns else by)
        t = layer.forward_and_log_det(t, context)[0].detach()
        layers.append(layer)
    chain = Chain(layers).float()
    single = None if context is None else context.float()
    y, log_det = chain.forward_and_log_det(x.float(), single)
    assert bool(y.isfinite().all() and log_det.isfinite().all()), f"{who}: in float32, {depth} of them are not finite."
    if chain.pull_passes is not None:
        back, log_det_back = chain.inverse_and_log_det(y, single)
        near(back, x.float(), tolerance, f"{who}: in float32, {depth} of them and back")
        near(-log_det_back, log_det, tolerance, f"{who}: in float32, minus the log-determinant back through {depth} of them")
