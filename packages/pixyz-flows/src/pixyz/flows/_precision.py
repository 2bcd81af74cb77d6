"""The law of rounding: by what float32 may miss float64."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixyz.distributions import Interval, Support

from ._bijection import Bijection
from ._law_tools import direction, gradients, trained

SINGLE = torch.finfo(torch.float32)
ROUNDING = 10 * SINGLE.eps
"""By how much of their size numbers may be off."""
DRAWS = 4
"""How many perturbations of that size, each with both signs, show what it does to a map."""
KNOWN = 1e-2
"""Up to what part of its size a number may move by them; beyond it, float32 cannot know it."""


def check_precision(
    make: Callable[[], Bijection],
    x: Tensor,
    context: Tensor | None = None,
    *,
    sizes: Sequence[float] = (1, 5, 50),
    interval: tuple[float, float] | None = None,
    period: float | None = None,
) -> None:
    r"""In float32 a bijection is as exact as float32 can be, in both directions, however large its parameters.

    A map that stretches much magnifies the rounding of what goes into it, which no code can undo. So no fixed tolerance is right: the truth
    is the same code in float64, and so is the tolerance. With parameters that are uniform in ±size,

    1. values, log-determinants and gradients are never nan or infinite;
    2. values lie in the codomain, and those of an interval that is mapped to itself lie in that interval;
    3. a value y = f(x) and its log-determinant are those of float64, or x is what float64 maps back from y, with minus that
       log-determinant. Equal is what differs by at most 10 eps of the size of the number (eps is 1.2e-7), and by what float64 moves
       by when x, the context and the weights are off by 10 eps of theirs: the condition of the map.

    The size of a number is the width of the interval in which it lies or, without an interval, that of the largest number in the batch;
    that of a log-determinant is at least the number of features. So `push(pull(y))` misses y by at most 10 eps of the interval where
    push has no slope above 1, however flat it is and however little is known of `pull(y)`; where it has, by as much more as it stretches.

    Left out are data of which float64 gives numbers beyond the largest or the smallest of float32, like exp(±90), and in 3., those that
    move by more than 1 % of their size in both directions, of which float32 knows nothing.

    Args:
        make: builds it anew, as for `check`.
        x: `(batch, *in_shape)` in its domain; the more, the more is found.
        context: `(batch, context)`, where it takes one.
        sizes: of the parameters. Those of a matrix are divided by the root of the number of its columns, so that it gives such numbers.
        interval: the lower and the upper end, if its numbers are mapped to it, each at its place, though the domain is larger; of a
            spline, ±bound.
        period: after how much numbers are the same again; of angles, 2π.

    Raises:
        AssertionError: for the first datum that is wrong, or where float32 can hold none of the data.

    Source:
        Higham (2002), Accuracy and Stability of Numerical Algorithms, section 1.5
    """
    for size in sizes:
        given = _of_size(make(), x, context, size)
        single, double = direction(given)[1], direction(copy.deepcopy(given).double())[1]
        t, c = _rounded(x, double.domain), None if context is None else context.float().double()
        ways = [(double, single, t, "forward")]
        if double.pull_passes is not None:
            with torch.no_grad():
                y = _rounded(double.forward_and_log_det(t, c)[0], double.codomain)
            ways.append((double.inverse, single.inverse, y, "inverse"))
            if double.in_shape == double.out_shape and double.domain == double.codomain:  # values that forward seldom gives
                ways.append((double.inverse, single.inverse, t, "inverse"))
        for f, narrow, values, name in ways:
            who = f"{direction(given)[0]}: {name}, in float32, with parameters of size {size:g}"
            _Way(f, narrow, interval, period, who).check(values, c)


@dataclass
class _Way:
    """One direction of a bijection, in float64 and in float32."""

    f: Bijection
    single: Bijection
    interval: tuple[float, float] | None
    period: float | None
    who: str

    def check(self, x: Tensor, context: Tensor | None) -> None:
        with torch.no_grad():
            y, log_det = self.f.forward_and_log_det(x, context)
        held = (_can_hold(y) & _can_hold(log_det[:, None])).nonzero().squeeze(1)
        assert len(held), f"{self.who}, none of the data can be held; take smaller sizes=, or other data."
        x, context = x[held], None if context is None else context[held]
        found, found_log_det = self._finite(x, context)
        self._check_inside(x, found)
        self._check_equal(x, context, found.double(), found_log_det.double())

    def _finite(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant in float32, which are finite, as their gradients are."""
        given = [x, *([] if context is None else [context])]
        names = [*["x", "the context"][: len(given)], *[name for name, _ in trained(self.f)]]
        weights: tuple[Tensor, Tensor] | None = None
        each = []
        for f, kind in ((self.f, torch.float64), (self.single, torch.float32)):
            t = [g.detach().to(kind).requires_grad_() for g in given]
            y, log_det = f.forward_and_log_det(*t)
            weights = weights or (torch.randn_like(y), torch.randn_like(log_det))
            total = (y * weights[0].to(kind)).sum() + (log_det * weights[1].to(kind)).sum()
            each.append((y.detach(), log_det.detach(), gradients(total, [*t, *[p for _, p in trained(f)]])))
        (_, _, expected), (y, log_det, found) = each
        for what, t in (("values", y), ("log-determinants", log_det)):
            assert t.isfinite().all(), f"{self.who}, {int((~t.isfinite()).sum())} of {t.numel()} {what} are nan or infinite."
        for name, g, e in zip(names, found, expected):
            too_large = e.isfinite() & (e.abs() > SINGLE.max)
            assert (g.isfinite() | too_large).all(), f"{self.who}, the gradient by {name} is nan or infinite."
        return y, log_det

    def _check_inside(self, x: Tensor, y: Tensor) -> None:
        inside = self.f.codomain
        assert inside is None or inside.holds(y), f"{self.who}, values from {y.min():.9g} to {y.max():.9g} are not all {inside.words}."
        if self.interval is not None:
            low, high = self.interval
            gone = y[(x >= low) & (x <= high) & ((y < low) | (y > high))]
            assert not len(gone), f"{self.who}, numbers in [{low:g}, {high:g}] become {gone.tolist()[:3]}."

    @torch.no_grad()
    def _check_equal(self, x: Tensor, context: Tensor | None, found: Tensor, found_log_det: Tensor) -> None:
        exact = self.f.forward_and_log_det(x, context)
        missed = self._missed(self.f, x, context, exact, (found, found_log_det))
        wrong, where = missed.wrong, ""
        if self.f.pull_passes is not None:
            back = self.f.inverse.forward_and_log_det(_into(exact[0], self.f.codomain), context)
            own = self._apart(back[0], x), (back[1] + exact[1]).abs()  # of a solver
            there = self._missed(self.f.inverse, _rounded(found, self.f.codomain), context, None, (x, -found_log_det), own)
            wrong = (wrong & ~(there.known & ~there.wrong)) | (there.wrong & ~(missed.known & ~missed.wrong))
            where = f", and from there float64 misses the way back by {there.value[wrong].tolist()[:2]}" if wrong.any() else ""
        assert not wrong.any(), (
            f"{self.who}, {int(wrong.sum())} of {len(wrong)} data are wrong: {found[wrong].tolist()[:2]} with log-determinants "
            f"{found_log_det[wrong].tolist()[:2]} should be {exact[0][wrong].tolist()[:2]} with {exact[1][wrong].tolist()[:2]}{where}."
        )

    def _missed(
        self,
        f: Bijection,
        x: Tensor,
        context: Tensor | None,
        exact: tuple[Tensor, Tensor] | None,
        found: tuple[Tensor, Tensor],
        own: tuple[Tensor, Tensor] | None = None,
    ) -> "_Missed":
        """By how much what was found misses f(x), and by how much f(x) is uncertain."""
        y, log_det = exact or f.forward_and_log_det(x, context)
        moves = self._moves(f, x, context, y, log_det)
        sizes = self._size(y, f.codomain), max(log_det.abs().max().item(), y[0].numel())
        misses = self._apart(found[0], y), (found[1] - log_det).abs()
        known, wrong = torch.ones_like(log_det, dtype=torch.bool), torch.zeros_like(log_det, dtype=torch.bool)
        for i, (miss, move, size) in enumerate(zip(misses, moves, sizes)):
            allowed = move + ROUNDING * size + (2 * own[i] if own is not None else 0.0)
            known &= (move <= KNOWN * (size if i == 0 else 1.0)).flatten(1).all(1) if miss.ndim > 1 else move <= KNOWN
            wrong |= (~(miss <= allowed)).flatten(1).any(1) if miss.ndim > 1 else ~(miss <= allowed)
        return _Missed(misses[0], known, wrong & known)

    def _moves(self, f: Bijection, x: Tensor, context: Tensor | None, y: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
        """How far the value and the log-determinant move when all that they depend on is off by its rounding."""
        size = self._size(x, f.domain)
        value, other = torch.zeros_like(y), torch.zeros_like(log_det)
        g = copy.deepcopy(f)
        weights = [(t, kept) for t, kept in zip(_weights(g), _weights(f))]
        for i in range(DRAWS):
            of_weights = [_noise(t, i) for t, _ in weights]
            of_x, of_context = _noise(x, i), _noise(x if context is None else context, i)
            for off in (ROUNDING, -ROUNDING):
                for (t, kept), noise in zip(weights, of_weights):
                    torch.mul(kept, 1 + off * noise, out=t)
                near = _into(x + off * size * of_x, f.domain)
                z, found = g.forward_and_log_det(near, None if context is None else context * (1 + off * of_context))
                value, other = torch.maximum(value, self._apart(z, y)), torch.maximum(other, (found - log_det).abs())
        return value, other

    def _size(self, t: Tensor, inside: Support | None) -> float:
        """The width of the interval in which numbers lie; without one, the largest of them."""
        low, high = self.interval or ((-math.inf, math.inf) if inside is None else (inside.lower, inside.upper))
        return high - low if math.isfinite(high - low) else t.abs().max().item()

    def _apart(self, a: Tensor, b: Tensor) -> Tensor:
        far = (a - b).abs()
        return far if self.period is None else torch.minimum(far, (far - self.period).abs())


@dataclass
class _Missed:
    value: Tensor
    """By how much the value is missed."""
    known: Tensor
    """For each datum, whether float32 can know it."""
    wrong: Tensor
    """Whether it can, and does not."""


@torch.no_grad()
def _of_size(f: Bijection, x: Tensor, context: Tensor | None, size: float) -> Bijection:
    """The bijection in float32, started by x, with parameters that are uniform in ±size."""
    f.double()
    direction(f)[1].initialize(x, context)
    for parameter in f.parameters():
        columns = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.copy_(size * _noise(parameter) / max(1, columns) ** 0.5)
    return f.float()


def _weights(f: Bijection) -> list[Tensor]:
    """What an evaluation depends on besides the values."""
    return [t.data for t in (*f.parameters(), *f.buffers()) if t.is_floating_point()]


def _rounded(t: Tensor, inside: Support | None) -> Tensor:
    """What float32 keeps of numbers in an interval."""
    return _into(t.detach().float().double(), inside)


def _into(t: Tensor, inside: Support | None) -> Tensor:
    """The nearest numbers that float32 has in an interval."""
    if inside is None:
        return t
    low, high = torch.tensor(inside.lower), torch.tensor(inside.upper)
    if isinstance(inside, Interval):
        low, high = (
            torch.nextafter(low, high) if inside.open_below else low,
            torch.nextafter(high, low) if inside.open_above else high,
        )
    return t.clamp(low.item(), high.item())


def _can_hold(t: Tensor) -> Tensor:
    """For each datum, whether float32 can hold all of its numbers."""
    size = t.abs()
    return ((size <= SINGLE.max) & ((size >= SINGLE.tiny) | (t == 0))).flatten(1).all(1)


def _noise(t: Tensor, i: int = 1) -> Tensor:
    """Uniform in ±1 for odd i, else -1 or 1."""
    noise = 2 * torch.rand_like(t) - 1
    return noise if i % 2 else noise.sign()
