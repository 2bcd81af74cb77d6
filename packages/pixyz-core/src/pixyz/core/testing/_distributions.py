"""The laws of a distribution."""

import copy
import math
import pickle
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from .._distribution import Distribution
from .._errors import IntractableError
from .._nodes import Nodes

FREQUENCIES = (0.3, 1.0, 2.5)
"""Draws are held against the density by the averages of cos ωx and sin ωx at these ω, in units of the values' spread."""

SIGMAS = 5.0
"""How many standard errors a Monte Carlo average may be off."""


def check(
    p: Distribution, nodes: Nodes, *, tolerance: float = 1e-6, draws: int = 20_000, traceable: Iterable[str] = ("density", "draw")
) -> None:
    """Every law below that `p` can be held to.

    Args:
        p: a distribution of one variable, without conditioning variables, in float64.
        nodes: of its values.
        tolerance: of integrals, relative and absolute.
        draws: how many samples are drawn.
        traceable: what must run as one graph.

    Raises:
        AssertionError: for the first law that is broken.
    """
    check_mass(p, nodes, tolerance=tolerance)
    check_statistics(p, nodes, tolerance=tolerance)
    check_draws(p, nodes, draws=draws)
    check_gradients(p, nodes, draws=draws)
    check_shapes(p, nodes)
    check_kinds(p, nodes)
    check_copies(p, nodes)
    check_graph(p, nodes, what=traceable)


def check_mass(p: Distribution, nodes: Nodes, *, tolerance: float = 1e-6) -> None:
    """The probability of all values is 1."""
    _near(_integral(nodes, _density(p, nodes)), torch.ones((), dtype=torch.float64), tolerance, f"{p.prob_text}: the mass of all values")


def check_statistics(p: Distribution, nodes: Nodes, *, tolerance: float = 1e-6) -> None:
    """Mean, variance, mode and entropy, where they are known, are those of the density."""
    density, x = _density(p, nodes), nodes.points
    log_density = density.log()
    mean = _integral(nodes, density, x)
    truth = {
        "mean": mean,
        "variance": _integral(nodes, density, (x - mean).square()),
        "entropy": _integral(nodes, torch.where(density > 0, -density * log_density, 0.0)),
    }
    for what, expected in truth.items():
        found = _known(getattr(p, what))
        if found is not None and found.isfinite().all():
            _near(found[0], expected, tolerance, f"{p.prob_text}: the {what}")
    mode = _known(p.mode)
    if mode is not None:
        best = _score(p, mode)
        if best.isfinite():
            low = log_density.max() - best.squeeze()
            assert low <= tolerance * (1 + best.abs()), f"{p.prob_text}: the density at the mode is exceeded by e^{low.item():.3g}."


def check_draws(p: Distribution, nodes: Nodes, *, draws: int = 20_000) -> None:
    """Samples follow the density: the averages of cos ωx and sin ωx are its characteristic function."""
    density = _density(p, nodes)
    with torch.no_grad():
        x = _draw(p, draws)
    for what, test in _waves(nodes, density):
        values = test(x)
        expected = _integral(nodes, density, test(nodes.points))
        error = (values.mean() - expected).abs()
        spread = values.std() / math.sqrt(draws) + 1e-9
        assert error <= SIGMAS * spread, (
            f"{p.prob_text}: the average of {what} over {draws} samples is {values.mean().item():.5f}, "
            f"by the density {expected.item():.5f}: {(error / spread).item():.1f} standard errors off."
        )


def check_gradients(p: Distribution, nodes: Nodes, *, draws: int = 20_000) -> None:
    """Where samples have gradients, those of E[cos ωx] are the density's, for every parameter."""
    if not all(f.dist.has_rsample for f in p.factors):
        return
    q, parameters = _trainable(p)
    alive = _density(p, nodes) > 1e-200  # what underflows has a gradient of 0 · inf
    nodes = Nodes(nodes.points[alive], nodes.weights[alive])
    density = _density(q, nodes)
    waves = _waves(nodes, density.detach())
    found = _slopes_of_draws([test for _, test in waves], lambda: _draw(q, draws // 50), parameters)
    for (what, test), batches in zip(waves, found):
        truth = torch.autograd.grad(_integral(nodes, density, test(nodes.points)), parameters, retain_graph=True, allow_unused=True)
        _agree(batches, _flat(truth, parameters), torch.tensor(1e-7), f"{p.prob_text}: the gradient of E[{what}]")


def check_free_gradients(
    make: Callable[[Tensor], Distribution], nodes: Callable[[Tensor], Nodes], at: Tensor, *, draws: int = 20_000, step: float = 1e-4
) -> None:
    """As `check_gradients`, where parameters are constrained or move the support: the density's gradients are differences of integrals.

    Args:
        make: the distribution, from a vector of numbers that may take any value near `at`.
        nodes: of its values, from the same.
        at: the vector, in float64, on the device where the distribution is to be.
        draws: how many samples are drawn.
        step: relative, of the differences.
    """
    t = at.clone().requires_grad_()
    p, there = make(t), nodes(at.cpu())
    waves = _waves(there, _density(p, there).detach())
    found = _slopes_of_draws([test for _, test in waves], lambda: _draw(make(t), draws // 50), [t])
    for (what, test), batches in zip(waves, found):

        def integral(t: Tensor, test: Callable[[Tensor], Tensor] = test) -> Tensor:
            there = nodes(t.cpu())
            return _integral(there, _density(make(t), there), test(there.points))

        steps = torch.diag(step * at.abs().clamp_min(1e-2))
        expected = torch.stack([(integral(at + h) - integral(at - h)) / (2 * h.sum().cpu()) for h in steps])
        _agree(batches, expected, 1e-6 * (1 + expected.abs()), f"{p.prob_text}: the gradient of E[{what}]")


def check_shapes(p: Distribution, nodes: Nodes) -> None:
    """A batch of any size, sample dims, and one value per datum."""
    (name,) = p.var
    features = tuple(nodes.points.shape[1:])
    for batch in (0, 1, 5):
        x = p.sample(batch_size=batch)[name]
        assert x.shape == (batch, *features), f"{p.prob_text}: {batch} samples have shape {tuple(x.shape)}, not {(batch, *features)}."
        score = p.log_likelihood({name: x})
        assert score.shape == (batch,), f"{p.prob_text}: the log-likelihood of a batch of {batch} has shape {tuple(score.shape)}."
    x = p.sample(batch_size=3, sample_shape=[2])[name]
    assert x.shape == (2, 3, *features), f"{p.prob_text}: 2 × 3 samples have shape {tuple(x.shape)}."
    apart = torch.stack([p.log_likelihood({name: row}) for row in x])
    _near(p.log_likelihood({name: x}, sample_dims={name: 1}), apart, 1e-12, f"{p.prob_text}: the log-likelihood with a sample dim")


def check_kinds(p: Distribution, nodes: Nodes) -> None:
    """In float32 it is what it is in float64, to single precision, and draws have the parameters' dtype."""
    (name,) = p.var
    single = copy.deepcopy(p).float()
    x = p.sample(batch_size=200)[name]
    drawn = single.sample(batch_size=10)[name]
    assert drawn.dtype == torch.float32, f"{p.prob_text}: with parameters in float32 a sample is {drawn.dtype}."
    low, high = single.log_likelihood({name: x.float()}).double(), p.log_likelihood({name: x})
    _near(low, high, 2e-3, f"{p.prob_text}: in float32, the log-likelihood")


def check_copies(p: Distribution, nodes: Nodes) -> None:
    """`state_dict`, `deepcopy` and pickle keep it."""
    (name,) = p.var
    x = nodes.points[:: max(1, len(nodes.points) // 50)].to(_device(p))
    expected = p.log_likelihood({name: x})
    twin = copy.deepcopy(p)
    for tensor in [*twin.parameters(), *twin.buffers()]:
        tensor.data = tensor.data.clone() * 1.25
    twin.load_state_dict(p.state_dict())
    for copied, how in ((twin, "load_state_dict"), (pickle.loads(pickle.dumps(p)), "pickle")):
        assert torch.equal(copied.log_likelihood({name: x}), expected), f"{p.prob_text}: after {how} it is another."


def check_graph(p: Distribution, nodes: Nodes, *, what: Iterable[str] = ("density", "draw")) -> None:
    """`torch.compile(fullgraph=True)` gives what eager mode gives: the density, and a draw and its density."""
    (name,) = p.var
    x = nodes.points[:: max(1, len(nodes.points) // 50)].to(_device(p))
    losses = {"density": (p.log_prob(), {name: x}), "draw": (p.log_prob().expectation(p, num_samples=3, estimator="auto"), {})}
    for kind in what:
        loss, values = losses[kind]
        expected = _seeded(loss.estimate, values)
        loss.compile(backend="eager", fullgraph=True)
        _near(_seeded(loss.estimate, values), expected, 1e-10, f"{p.prob_text}: the compiled {kind}")


def check_divergence(p: Distribution, q: Distribution, divergence: Tensor, nodes: Nodes, *, tolerance: float = 1e-6) -> None:
    """A value of KL[p||q] is the integral of p log p/q."""
    density, other = _density(p, nodes), _density(q, nodes)
    terms = torch.where(density > 0, density * (density.log() - other.log()), 0.0)
    _near(divergence, _integral(nodes, terms), tolerance, f"KL[{p.prob_text}||{q.prob_text}]")


def _device(p: Distribution) -> torch.device:
    """Where it is; what is held against truth goes to the CPU."""
    return next((t.device for t in (*p.parameters(), *p.buffers())), torch.device("cpu"))


def _density(p: Distribution, nodes: Nodes) -> Tensor:
    (name,) = p.var
    return p.log_likelihood({name: nodes.points.to(_device(p))}).exp().cpu()


def _score(p: Distribution, x: Tensor) -> Tensor:
    (name,) = p.var
    try:
        return p.log_likelihood({name: x.to(_device(p))}).cpu()
    except ValueError:  # a mode on the rim of an open support
        return torch.full((1,), math.inf)


def _integral(nodes: Nodes, density: Tensor, f: Tensor | None = None) -> Tensor:
    terms = nodes.weights * density
    if f is not None:
        terms = terms.reshape(-1, *[1] * (f.ndim - 1)) * f
    return torch.where(terms.isfinite(), terms, 0.0).sum(0)


def _waves(nodes: Nodes, density: Tensor) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
    """cos ωx and sin ωx, for vectors along a direction that weighs every element otherwise."""
    features = nodes.points[0].numel()
    direction = torch.linspace(0.5, 1.0, features, dtype=torch.float64) if nodes.points.ndim > 1 else None
    x = nodes.points if direction is None else nodes.points.flatten(1) @ direction
    # The spread by quantiles, which there are without a variance too.
    order = x.argsort()
    mass = (nodes.weights * density)[order].nan_to_num(0.0, 0.0, 0.0).cumsum(0)
    low, high = (x[order][(mass >= level * mass[-1]).nonzero()[0, 0]] for level in (0.16, 0.84))
    unit = max((0.5 * (high - low)).item(), 1e-3)

    def wave(f: Callable[[Tensor], Tensor], omega: float) -> Callable[[Tensor], Tensor]:
        return lambda t: f(omega / unit * (t if direction is None else t.flatten(1) @ direction))

    return [(f"{name}({omega:g} x)", wave(f, omega)) for omega in FREQUENCIES for name, f in (("cos", torch.cos), ("sin", torch.sin))]


def _draw(p: Distribution, n: int) -> Tensor:
    (name,) = p.var
    return p.sample(batch_size=n)[name].cpu()


def _slopes_of_draws(tests: list[Callable[[Tensor], Tensor]], draw: Callable[[], Tensor], parameters: list[Tensor]) -> Tensor:
    """The gradients of the mean of each test over 50 batches of samples, which the tests share, `(tests, 50, D)`."""
    rows: list[Tensor] = []
    for _ in range(50):
        x = draw()
        slopes = [torch.autograd.grad(test(x).mean(), parameters, retain_graph=True, allow_unused=True) for test in tests]
        rows.append(torch.stack([_flat(s, parameters) for s in slopes]))
    return torch.stack(rows, 1)


def _trainable(p: Distribution) -> tuple[Distribution, list[Tensor]]:
    """A copy whose real constants are parameters."""
    q = copy.deepcopy(p)
    parameters: list[Tensor] = []
    for module in q.modules():
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and buffer.is_floating_point() and name not in ("levels", "total_count"):
                del module._buffers[name]
                module.register_parameter(name, nn.Parameter(buffer.clone()))
        parameters += [t for t in module._parameters.values() if t is not None]
    return q, parameters


def _agree(batches: Tensor, expected: Tensor, error: Tensor, who: str) -> None:
    """Whether the mean of batches is as expected, but for sampling and an error of the expectation."""
    found = batches.mean(0)
    worst = ((found - expected).abs() / (batches.std(0) / math.sqrt(len(batches)) + error)).max()
    assert worst <= SIGMAS + 1, (
        f"{who} through samples is {found.tolist()}, by the density {expected.tolist()}: {worst.item():.1f} standard errors off."
    )


def _flat(gradients: Iterable[Tensor | None], parameters: list[Tensor]) -> Tensor:
    return torch.cat([(torch.zeros_like(t) if g is None else g).flatten().cpu() for g, t in zip(gradients, parameters)])


def _known(statistic: Callable[[], Tensor]) -> Tensor | None:
    try:
        return statistic().cpu()
    except IntractableError:
        return None


def _seeded(f: Callable[..., Tensor], values: dict[str, Tensor]) -> Tensor:
    torch.manual_seed(0)
    return f(values)


def _near(found: Tensor, expected: Tensor, tolerance: float, who: str) -> None:
    found, expected = torch.broadcast_tensors(found.cpu().squeeze(), expected.cpu().squeeze())
    equal = torch.isclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    assert equal.all(), f"{who} is {found[~equal].tolist()[:5]}, not {expected[~equal].tolist()[:5]}."
