"""Games in a sum, written as one: `min_p max_d a + b` for `a + min_p max_d b`."""

from collections.abc import Iterator

from . import _formula as f


def hoisted(node: f.Formula) -> f.Formula:
    """The formula with what its players do before it; in two, if they have different objectives."""
    games = [*_games(node)]
    if not games:
        return node
    least, most = (tuple(dict.fromkeys(name for game in games for name in names(game))) for names in (lambda g: g.least, lambda g: g.most))
    if all([game.low is None for game in games]):
        body = f.Optimum("max", most, _seen(node, False, whole=True) or node)
        return f.Optimum("min", least, body) if least else body
    low, high = _seen(node, True, whole=True), _seen(node, False, whole=False)
    parts = [f.Optimum(name, who, body) for name, who, body in (("min", least, low), ("max", most, high)) if body is not None and who]
    return f.Beside(tuple(parts))


def _games(node: f.Formula) -> Iterator[f.Saddle]:
    """Those that are terms of it."""
    match node:
        case f.Saddle():
            yield node
        case f.Sum(terms):
            for _, term in terms:
                yield from _games(term)
        case f.Product(factors):
            for factor in factors:
                yield from _games(factor)
        case f.Ratio(top, _):
            yield from _games(top)


def _seen(node: f.Formula, minimising: bool, *, whole: bool) -> f.Formula | None:
    """What one side sees of it: with `whole`, other terms than games too. None if that is nothing."""
    match node:
        case f.Saddle(body, low, least, _):
            if not minimising:
                return body
            return low if low is not None else body if least else None
        case f.Sum(terms):
            seen = [(sign, found) for sign, term in terms if (found := _seen(term, minimising, whole=whole)) is not None]
            return f.Sum(tuple([x for sign, found in seen for x in _flat(sign, found)])) if seen else None
        case f.Product(factors) if [*_games(node)]:
            seen = [_seen(factor, minimising, whole=whole) if [*_games(factor)] else factor for factor in factors]
            return None if any([x is None for x in seen]) else f.Product(tuple(seen))  # type: ignore[arg-type]
        case f.Ratio(top, bottom) if [*_games(node)]:
            found = _seen(top, minimising, whole=whole)
            return None if found is None else f.Ratio(found, bottom)
    return node if whole else None


def _flat(sign: int, node: f.Formula) -> tuple[tuple[int, f.Formula], ...]:
    """The terms that it adds: a sum is taken apart where its terms keep their signs."""
    return node.terms if isinstance(node, f.Sum) and sign > 0 else ((sign, node),)
