"""The truth about finite models: every quantity is a table over the states of all variables, and an expectation is a sum of its entries.

The first axis of a table is the datum, the others are the variables of the case in the order of their names; an axis on which nothing
depends has size 1.
"""

import math

import torch

from ...case import OutsideError, generator
from .formula import (
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
    parts_of,
    variables,
)
from .formula import computed as computed_by


def event_of(kind):
    """The shape of the logits of one datum."""
    return {"coin": (1,), "coins": (2,), "two": (2,), "three": (3,), "index": (3,), "pair": (2, 2)}[kind]


def numbers_of(case):
    """The trained and the given numbers of a case, by name: tables of logits, slopes, functions, u, beta."""
    found = {}
    for part in parts_of(case.loss):
        match part:
            case Leaf():
                shape = (*[case.states(v) for v in part.parents if letter_of(v) != REAL], *event_of(case.kind(part.var)))
                found[part.text] = torch.randn(shape, generator=generator(case.seed, part.text))
                for v in part.parents:
                    if letter_of(v) == REAL:
                        slope = torch.randn(2, *event_of(case.kind(part.var)), generator=generator(case.seed, part.text + "'"))
                        found[part.text + "'"] = 0.5 * slope
            case Term(op="function"):
                name, *of = part.options
                text = f"{name}({','.join(of)})"
                found[text] = torch.randn([case.states(v) for v in of], generator=generator(case.seed, text))
            case Term(op="parameter"):
                found["beta"] = 1.5 + torch.randn((), generator=generator(case.seed, "beta")).tanh()
    for name in sorted(given_reals(case.loss)):
        found[name] = torch.randn(case.batch_of(name), 2, generator=generator(case.seed, name))
    return found


def given_reals(node):
    """The names under which u is given: u itself where a leaf has it, and what it is renamed to."""
    if isinstance(node, Renamed):
        names = dict(node.names)
        return {names.get(v, v) for v in given_reals(node.of)}
    if isinstance(node, Leaf):
        return {v for v in node.parents if letter_of(v) == REAL}
    if isinstance(node, Mixture):
        return {v for v in node.parents if letter_of(v) == REAL}
    inside = [x for value in vars(node).values() for x in (value if isinstance(value, tuple) else (value,)) if hasattr(x, "__dict__")]
    return set().union(*map(given_reals, inside)) if inside else set()


def state_given(case, name):
    """The states of a given variable."""
    return torch.randint(case.states(name), (case.batch_of(name),), generator=generator(case.seed, name))


def mask_given(case, name):
    return torch.rand(case.batch_of(name), 2, generator=generator(case.seed, "mask " + name)) < 0.6


def weights_given(case):
    return 0.5 + torch.rand(case.batch, generator=generator(case.seed, "weights"))


class Tables:
    """The tables of a case.

    Args:
        case: the case.
        numbers: the leaves, by name.
    """

    def __init__(self, case, numbers):
        self.case, self.numbers = case, numbers
        self.names = sorted(names_in(case.loss))
        self.axis = {v: 1 + i for i, v in enumerate(self.names)}
        self.largest = 1.0
        self.real = REAL

    def value(self, loss):
        """The value of a loss: `(batch,)`, or `()` below a mean or a sum."""
        if loss.op in ("number", "parameter"):
            return torch.tensor(*loss.options) if loss.op == "number" else self.numbers["beta"]
        if loss.op in ("mean", "sum"):
            data = self.value(loss.parts[0])
            return data.mean() if loss.op == "mean" else data.sum()
        if loss.op in ELEMENTWISE and any(_is_reduced(part) for part in loss.parts):
            return self.seen(ELEMENTWISE[loss.op](self, *[self.value(part) for part in loss.parts], *loss.options))
        return self.at_data(self.term(loss), loss)

    def at_data(self, table, loss):
        """The entries of the data."""
        batch = self.case.batch_of_term(loss)
        index = [torch.arange(batch) if table.shape[0] > 1 else torch.zeros(batch, dtype=torch.long)]
        for v, size in zip(self.names, table.shape[1:]):
            index.append(state_given(self.case, v) if size > 1 else torch.zeros(batch, dtype=torch.long))
        return table[tuple(index)]

    def term(self, loss):
        """The table of a loss with one value per datum."""
        if loss.op in ELEMENTWISE:
            return self.seen(ELEMENTWISE[loss.op](self, *map(self.term, loss.parts), *loss.options))
        return self.seen(globals()["_" + loss.op](self, *loss.parts, *loss.options))

    def seen(self, table):
        """The same; it must be finite, and its largest entry is the scale of the rounding."""
        if not table.isfinite().all() or table.abs().max() > 1e5:
            raise OutsideError
        self.largest = max(self.largest, table.abs().max().item())
        return table

    # Distributions.

    def log(self, p):
        """The logarithm of the mass of a distribution, for all states of its variables and of its conditions."""
        match p:
            case Leaf():
                return self.placed(self.rows(p).sum(-1), p)
            case Computed():
                return torch.zeros([1] * (1 + len(self.names)))
            case Product():
                return self.substituted(sum(self.log(part) for part in p.parts), p)
            case Marginal():
                return torch.logsumexp(self.log(p.of), [self.axis[v] for v in p.hidden], keepdim=True)
            case Posterior():
                joint = self.log(p.of)
                return joint - torch.logsumexp(joint, [self.axis[v] for v in p.var], keepdim=True)
            case Quotient():
                joint = self.log(p.of)
                return joint - torch.logsumexp(joint, [self.axis[v] for v in variables(p)], keepdim=True)
            case Conditioned():
                joint, axis = self.log(p.of), self.axis[p.var]
                if p.var in variables(p.of):
                    joint = joint - torch.logsumexp(joint, [self.axis[v] for v in variables(p)], keepdim=True)
                return joint.narrow(axis, p.state, 1) if joint.shape[axis] > 1 else joint
            case Renamed():
                if any(letter_of(old) == REAL for old, _ in p.names):
                    before, self.real = self.real, dict(p.names).get(self.real, self.real)
                    table = self.log(p.of)
                    self.real = before
                else:
                    table = self.log(p.of)
                order = list(range(table.ndim))
                for old, new in p.names:
                    if letter_of(old) != REAL:
                        order[self.axis[new]], order[self.axis[old]] = self.axis[old], self.axis[new]
                return table.permute(order)
            case Mixture():
                first, second = (self.placed(self.rows(part).sum(-1), part) for part in p.parts)
                weights = self.rows(p.prior)[..., 0].flatten()
                return torch.logaddexp(weights[0] + first, weights[1] + second)

    def rows(self, leaf):
        """log p of every feature: `(1 or batch, *states of the parents, states of the variable, features)`."""
        logits = self.numbers[leaf.text].unsqueeze(0)
        kind = self.case.kind(leaf.var)
        event = event_of(kind)
        if self.numbers.get(leaf.text + "'") is not None:
            shift = torch.einsum("bi,i...->b...", self.numbers[self.real], self.numbers[leaf.text + "'"])
            logits = logits + shift.reshape(len(shift), *[1] * (logits.ndim - 1 - len(event)), *event)
        if kind in ("coin", "coins"):
            states = bits(event[0])
            signed = (2.0 * states - 1.0) * logits.unsqueeze(-2)
            return -torch.log1p(torch.exp(-signed))
        log_probs = logits - torch.logsumexp(logits, -1, keepdim=True)
        if kind == "pair":
            first, second = log_probs.unbind(-2)
            return torch.stack([torch.stack([first[..., s // 2], second[..., s % 2]], -1) for s in range(4)], -2)
        return log_probs.unsqueeze(-1)

    def placed(self, table, leaf):
        """A table over the parents and the variable, with the axes of the case."""
        order = [*[v for v in leaf.parents if letter_of(v) != REAL], leaf.var]
        table = table.permute(0, *[1 + i for i in sorted(range(len(order)), key=lambda i: order[i])])
        shape = [table.shape[0]] + [self.case.states(v) if v in order else 1 for v in self.names]
        return table.reshape(shape)

    def substituted(self, table, p):
        """A table in which the variables that p computes are what their parents make them, last ones first."""
        for c in reversed(computed_by(p)):
            axis = self.axis[c.var]
            if table.shape[axis] == 1:
                continue
            states = [self.case.states(v) for v in c.parents]
            made = computed_states(self.case, c)
            order = sorted(range(len(states)), key=lambda i: c.parents[i])
            made = made.permute(order).reshape([1] + [self.case.states(v) if v in c.parents else 1 for v in self.names])
            wide = [max(a, b) for a, b in zip(table.shape, made.shape)]
            wide[axis] = table.shape[axis]
            index = made.expand([n if i != axis else 1 for i, n in enumerate(wide)])
            table = table.expand(wide).gather(axis, index)
        return table

    def expected(self, q, table):
        table = self.substituted(table, q)
        weights = self.log(q).exp()
        drawn = [self.axis[v] for v in variables(q) if v not in {c.var for c in computed_by(q)}]
        return (weights * table).sum(drawn, keepdim=True)


def bits(features):
    """All values of so many coins, the first the slowest."""
    return torch.tensor([[(s >> (features - 1 - i)) & 1 for i in range(features)] for s in range(2**features)], dtype=torch.float64)


def computed_states(case, c):
    """The state that each state of the parents makes."""
    shape = [case.states(v) for v in c.parents]
    return torch.randint(case.states(c.var), shape, generator=generator(case.seed, c.text))


def _is_reduced(loss):
    return loss.op in ("mean", "sum") or (loss.op in ELEMENTWISE and any(map(_is_reduced, loss.parts)))


def _apart(a, b):
    if (a - b).abs().min() < 1e-7:
        raise OutsideError
    return a, b


def _maximum(t, *parts):
    value = parts[0]
    for part in parts[1:]:
        value = torch.where(*_ordered(value, part))
    return value


def _ordered(a, b):
    a, b = torch.broadcast_tensors(*_apart(a, b))
    return a > b, a, b


def _minimum(t, *parts):
    return -_maximum(t, *[-part for part in parts])


def _away_from_zero(a):
    if a.abs().min() < 1e-2:
        raise OutsideError
    return a


def _many(parts):
    return torch.stack(torch.broadcast_tensors(*parts))


ELEMENTWISE = {
    "number": lambda t, c: torch.full([1] * (1 + len(t.names)), c),
    "add": lambda t, a, b: a + b,
    "sub": lambda t, a, b: a - b,
    "mul": lambda t, a, b: a * b,
    "div": lambda t, a, b: a / _away_from_zero(b),
    "neg": lambda t, a: -a,
    "power": lambda t, a, n: a**n,
    "of_base": lambda t, a, base: torch.exp(a * math.log(base)),
    "powers": lambda t, a, b: torch.exp(b * torch.log(a)),
    "exp": lambda t, a: a.exp(),
    "log": lambda t, a: _away_from_zero(a).log(),
    "abs": lambda t, a: _maximum(t, a, -a),
    "minimum": _minimum,
    "maximum": _maximum,
    "clamp": lambda t, a, low, high: _minimum(t, _maximum(t, a, torch.tensor(low)), torch.tensor(high)),
    "logsumexp": lambda t, *parts: torch.logsumexp(_many(parts), 0),
    "log_mean_exp": lambda t, *parts: torch.logsumexp(_many(parts), 0) - math.log(len(parts)),
    "stop": lambda t, a: a.detach(),
    "weighted": lambda t, a: a * weights_given(t.case).reshape(-1, *[1] * (a.ndim - 1)),
}


def _log_prob(t, p):
    return t.substituted(t.log(p), p)


def _prob(t, p):
    return _log_prob(t, p).exp()


def _nll(t, p):
    return -_log_prob(t, p)


def _masked(t, leaf):
    rows = t.rows(leaf)
    seen = mask_given(t.case, leaf.var).to(rows.dtype)
    return t.placed((rows * seen.reshape(len(seen), *[1] * (rows.ndim - 2), 2)).sum(-1), leaf)


def _function(t, name, *of):
    table = t.numbers[f"{name}({','.join(of)})"]
    order = sorted(range(len(of)), key=lambda i: of[i])
    return table.permute(order).reshape([1] + [t.case.states(v) if v in of else 1 for v in t.names])


def _parameter(t):
    return t.numbers["beta"].reshape([1] * (1 + len(t.names)))


def _expectation(t, q, f, how):
    return t.expected(q, t.term(f))


def _constant_var(t, f, name, state):
    table, axis = t.term(f), t.axis[name]
    return table.narrow(axis, state, 1) if table.shape[axis] > 1 else table


def _entropy(t, p, analytic):
    return -t.expected(p, t.log(p))


def _cross_entropy(t, q, p):
    return -t.expected(q, t.log(p))


def _log_ratio(t, p, q):
    return t.log(p) - t.log(q)


def _kl(t, q, p, analytic):
    return t.expected(q, t.log(q) - t.log(p))


def _sum_over(t, p, table):
    return table.sum([t.axis[v] for v in variables(p)], keepdim=True)


def _renyi(t, p, q, alpha, analytic):
    return torch.log(_sum_over(t, p, torch.exp(alpha * t.log(p) + (1 - alpha) * t.log(q)))) / (alpha - 1)


def _chi_squared(t, p, q, analytic):
    return _sum_over(t, p, torch.exp(2 * t.log(p) - t.log(q))) - 1


def _hellinger(t, p, q, analytic):
    return 1 - _sum_over(t, p, torch.exp(0.5 * (t.log(p) + t.log(q))))


def _jensen_shannon(t, p, q):
    a, b = t.log(p), t.log(q)
    m = torch.log(0.5 * (a.exp() + b.exp()))
    return 0.5 * _sum_over(t, p, a.exp() * (a - m) + b.exp() * (b - m))


def _total_variation(t, p, q):
    a, b = (table.exp() for table in (t.log(p), t.log(q)))
    a, b = torch.broadcast_tensors(a, b)
    return 0.5 * _sum_over(t, p, _maximum(t, a - b, b - a))


def _elbo(t, likelihood, prior, q, kl, beta, free_bits):
    divergence = t.expected(q, t.log(q) - t.log(prior))
    if free_bits:
        divergence = _maximum(t, divergence, torch.tensor(free_bits))
    return t.expected(q, t.log(likelihood)) - beta * divergence


def _iwae(t, p, q):
    """With all of q enumerated, and so outside of the mean over the draws, of which there are none."""
    return t.expected(q, t.log(p) - t.log(q))


_renyi_bound = _iwae
