"""How random objectives over finite variables are drawn."""

import functools

from hypothesis import assume
from hypothesis import strategies as st

from .case import SECOND, Finite
from .formula import (
    KINDS,
    REAL,
    Computed,
    Conditioned,
    Leaf,
    Marginal,
    Mixture,
    Posterior,
    Product,
    Quotient,
    Renamed,
    Term,
    letter_of,
    names_in,
)
from .tables import given_reals

GIVEN = ("x", "y")
DRAWN = ("z", "w")
HIDDEN = "h"
FIXED = "v"
FUNCTION = "d"
"""The letters of variables by what becomes of them: given, drawn, summed out, conditioned on a constant, computed. One is a mixture's k."""

BINARY = ("add", "sub", "mul", "div", "minimum", "maximum", "logsumexp", "log_mean_exp", "powers")
UNARY = ("neg", "power", "of_base", "exp", "log", "abs", "clamp", "stop", "weighted", "constant_var", "scaled")
LEAVES = ("log_prob", "prob", "nll", "function", "parameter", "masked", "log_ratio")
OF_DRAWN = ("expectation", "expectation", "expectation", "entropy", "cross_entropy", "kl", "divergence", "bound")


@functools.cache
def one_of(*choices):
    return st.sampled_from(choices)


@functools.cache
def up_to(n):
    return st.integers(0, n)


class Drawing:
    """Draws a description, by hypothesis' `draw`."""

    def __init__(self, draw, kinds, real):
        self.draw, self.kinds, self.real = draw, dict(kinds), real

    def pick(self, *choices):
        return self.draw(one_of(*choices)) if len(choices) > 1 else choices[0]

    def yes(self, one_in=2):
        """Rarely true, and False when it is shrunk."""
        return self.draw(up_to(one_in - 1)) == one_in - 1

    def some(self, names, most=2):
        """A sublist of at most so many."""
        names = list(names)
        if not names:
            return []
        bits = self.draw(up_to(2 ** len(names) - 1))
        return [v for i, v in enumerate(names) if bits >> i & 1][:most]

    # Distributions.

    def chain(self, over, given, letter, above=()):
        """A conditional for each variable, with parents among those before it."""
        parts, known = [], [*given]
        for v in over:
            parents = self.some(known)
            parents += [c for c in above if c not in parents][:1] if self.yes() else []
            parts.append(Leaf(letter, v, tuple(parents)))
            known.append(v)
        return parts

    def distribution(self, over, given, summed=False):
        """A distribution over just these variables, that depends on some of the given ones; `summed` if it must be enumerated."""
        over, given = list(over), [*given, *([REAL] if self.real else [])]
        letter = self.pick("p", "q", "r")
        inferred = not summed or len(over) == 1  # a posterior of several variables is drawn from, not summed
        way = self.pick("plain", "plain", "plain", "hidden", "posterior", "quotient", "renamed", "mixture", "computed", "conditioned")
        if way == "mixture" and len(over) == 1:
            return Mixture(over[0], tuple(self.some(given, 1)))
        if way == "hidden":
            return Marginal(
                Product((Leaf(letter, HIDDEN, tuple(self.some(given, 1))), *self.chain(over, given, letter, (HIDDEN,)))), (HIDDEN,)
            )
        if way == "computed" and any(letter_of(v) != REAL for v in given):
            parents = [v for v in given if letter_of(v) != REAL]
            made = Computed(FUNCTION, (self.pick(*parents),))
            return Marginal(Product((made, *self.chain(over, [*given], letter, (FUNCTION,)))), (FUNCTION,))
        seen = [v for v in given if letter_of(v) != REAL]
        if way in ("posterior", "quotient") and seen and inferred:
            below = self.pick(*seen)
            rest = [v for v in given if v != below]
            order = [*over, below] if self.yes() else [below, *over]
            joint = Product(tuple(self.chain(order, rest, letter)))
            if self.yes(3) and way == "posterior":
                parts = self.chain(order, rest, letter, (HIDDEN,))
                joint = Marginal(Product((Leaf(letter, HIDDEN, ()), *parts)), (HIDDEN,))
            return Posterior(joint, tuple(over)) if way == "posterior" else Quotient(joint, (below,))
        if way == "renamed":
            names = [*over, *seen]
            v = self.pick(*names)

            def new(names):
                return [f"{n}_0" if n == v else n for n in names]

            whole = self.product(self.chain(new(over), new(given), letter))
            return Renamed(whole, ((f"{v}_0", v),)) if f"{v}_0" in names_in(whole) else whole
        if way == "conditioned":
            if self.yes() and inferred:
                parts = self.chain([*over, FIXED], given, letter)
            else:
                parts = self.chain(over, [*given, FIXED], letter)
            whole = self.product(parts)
            if FIXED in names_in(whole):
                return Conditioned(whole, FIXED, self.draw(up_to(KINDS[self.kinds[FIXED]][1] - 1)))
            return whole
        return self.product(self.chain(over, given, letter))

    def product(self, parts):
        return parts[0] if len(parts) == 1 else Product(tuple(parts))

    # Losses.

    def term(self, free, depth):
        """A loss that depends on some of these variables."""
        how = self.pick(*LEAVES, "log_prob", "log_prob") if depth == 0 else self.pick("leaf", "drawn", "drawn", "unary", "binary", "binary")
        if how == "leaf":
            how = self.pick(*LEAVES)
        if how == "unary":
            return self.unary(free, depth)
        if how == "binary":
            op = self.pick(*BINARY)
            if op == "powers":
                return Term("powers", (self.positive(free, depth - 1), self.term(free, depth - 1)))
            if op == "div":
                return Term("div", (self.term(free, depth - 1), self.positive(free, depth - 1)))
            return Term(op, (self.term(free, depth - 1), self.term(free, depth - 1)))
        if how == "drawn":
            return self.of_drawn(free, depth)
        return self.leaf(how, free)

    def leaf(self, how, free):
        if how == "parameter":
            return Term("mul", (Term("parameter"), self.leaf("log_prob", free)))
        if not free:
            return self.of_drawn(free, 1)
        over = self.some(free) or [free[0]]
        given = [v for v in free if v not in over]
        if how == "function":
            return Term("function", (), (self.pick("f", "g"), *over))
        if how == "masked":
            fit = [v for v in free if self.kinds[letter_of(v)] in ("coins", "pair")]
            if fit and not any(v in DRAWN for v in fit):
                return Term("masked", (Leaf(self.pick("p", "q"), fit[0], tuple(v for v in given if v != fit[0])[:1]),))
            how = "log_prob"
        if how == "log_ratio":
            return Term(how, (self.distribution(over, given), self.distribution(over, given)))
        return Term(how, (self.distribution(over, given),))

    def unary(self, free, depth):
        op = self.pick(*UNARY)
        if op == "log":
            return Term("log", (self.positive(free, depth - 1),))
        inner = self.term(free, depth - 1)
        match op:
            case "power":
                return Term(op, (inner,), (self.pick(2, 3),))
            case "of_base":
                return Term(op, (inner,), (self.pick(2.0, 0.5),))
            case "clamp":
                return Term(op, (inner,), (-1.3, 0.7))
            case "scaled":
                return Term("mul", (Term("number", (), (self.pick(2.0, -0.5),)), inner))
            case "weighted" if not {*free} <= {*GIVEN}:
                return inner
            case "constant_var":
                fit = [v for v in free if v in GIVEN and v in names_in(inner)]
                if not fit:
                    return inner
                return Term(op, (inner,), (fit[0], self.draw(up_to(KINDS[self.kinds[fit[0]]][1] - 1))))
        return Term(op, (inner,))

    def positive(self, free, depth):
        """A loss that is more than 0."""
        inner = self.term(free, max(depth, 0))
        how = self.pick("exp", "square", "abs")
        if how == "exp":
            return Term("exp", (inner,))
        one = Term("number", (), (1.0,))
        return Term("add", (Term("power", (inner,), (2,)) if how == "square" else Term("abs", (inner,)), one))

    def drawable(self, free):
        return [v for v in DRAWN if v not in free]

    def of_drawn(self, free, depth):
        names = self.drawable(free) or list(DRAWN)
        drawn = self.some(names) or [names[0]]
        given = [v for v in free if v not in drawn]
        op = self.pick(*OF_DRAWN)
        q = self.distribution(drawn, given, summed=True)
        if op == "expectation":
            f = self.term([*given, *drawn], depth - 1)
            return Term(op, (q, f), (self.pick("auto", "enumerate"),))
        analytic = not self.yes(3)
        if op == "entropy":
            return Term(op, (q,), (analytic,))
        if op == "bound":
            return self.bound(q, drawn, given)
        p = self.distribution(drawn, given, summed=True)
        if op == "cross_entropy":
            return Term(op, (q, p))
        if op == "kl":
            return Term(op, (q, p), (analytic,))
        kind = self.pick("renyi", "chi_squared", "hellinger", "jensen_shannon", "total_variation")
        if kind == "renyi":
            return Term(kind, (q, p), (self.pick(0.5, 2.0), analytic))
        return Term(kind, (q, p), (analytic,) if kind in ("chi_squared", "hellinger") else ())

    def bound(self, q, drawn, given):
        """A bound on the likelihood of a given variable."""
        seen = [v for v in given if v in GIVEN]
        if not seen:
            return Term("entropy", (q,), (True,))
        x = self.pick(*seen)
        rest = [v for v in given if v != x]
        prior = self.product(self.chain(drawn, rest, "p"))
        likelihood = self.product(self.chain([x], [*rest, *drawn], "p"))
        kind = self.pick("elbo", "elbo", "iwae", "renyi_bound")
        if kind != "elbo":
            return Term(kind, (self.product([likelihood, prior]), q))
        kl = self.pick("sample", "auto", "analytic")
        beta, free_bits = self.pick(1.0, 4.0), self.pick(0.0, 0.3)
        return Term("elbo", (likelihood, prior, q), (kl, beta, free_bits))


@st.composite
def cases(draw):
    kinds = tuple((v, draw(one_of(*KINDS))) for v in (*GIVEN, *DRAWN))
    kinds += (*tuple((v, draw(one_of("coin", "three", "index", "two"))) for v in (HIDDEN, FIXED, FUNCTION)), ("k", "two"))
    drawing = Drawing(draw, kinds, draw(st.booleans()))
    given = [[], ["x"], ["x"], ["x", "y"]][draw(up_to(3))]
    loss = drawing.term(given, draw(up_to(3)))
    reduced = drawing.pick("", "", "mean", "sum", "mixed", "second")
    second = 1
    if reduced in ("mean", "sum"):
        loss = Term(reduced, (loss,))
    elif reduced == "mixed":
        op = drawing.pick("sub", "mul", "add")
        loss = Term(op, (loss, Term(drawing.pick("mean", "sum"), (drawing.term(given, 1),))))
        loss = Term("power", (loss,), (2,)) if drawing.yes() else loss
    elif reduced == "second":
        own = Term("log_prob", (Leaf("p", "x", ()),))  # so that both have a batch
        loss, other = Term("add", (loss, own)), renamed(Term("add", (drawing.term(["x"], 1), own)))
        second = 1 + draw(up_to(2))
        loss = Term("add", (Term("sum", (loss,)), Term(drawing.pick("sum", "mean"), (other,))))
    return Finite(draw(st.integers(0, 2**32 - 1)), kinds, 1 + draw(up_to(2)), second, loss)


def renamed(node):
    """The same loss of the second data."""
    if isinstance(node, Term):
        options = node.options
        if node.op == "function":
            options = (options[0], *[v + SECOND if v in GIVEN else v for v in options[1:]])
        assume(node.op not in ("masked", "weighted", "constant_var"))
        return Term(node.op, tuple(map(renamed, node.parts)), options)
    names = [v for v in GIVEN if v in names_in(node)] + ([REAL] if REAL in given_reals(node) else [])
    return Renamed(node, tuple((v, v + SECOND) for v in names)) if names else node
