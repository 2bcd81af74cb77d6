"""Games of a generator and a discriminator with penalties, at given noise: what each player minimises, and its gradient.

Each side is a list of terms; a player minimises those in which it stands. Slopes are those of `torch.autograd.grad`.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

from pixyz import gan
from pixyz.core import Loss
from pixyz.distributions import Bernoulli, Deterministic

from ..case import Built, Case, by_autograd, generator

RANDOM_PLACE = "GradientPenalty"


class _Generator(nn.Module):
    """x of the noise."""

    def __init__(self, w, b):
        super().__init__()
        self.w, self.b = w, b

    def forward(self, z):
        return _generated(self.w, self.b, z)


def _generated(w, b, z):
    return (z @ w + b).tanh() + 0.5 * (z @ w)


class _Critic(nn.Module):
    """The number of the discriminator, of x and perhaps of what both are given."""

    def __init__(self, v, a, u, linear):
        super().__init__()
        self.v, self.a, self.u, self.linear = v, a, u, linear

    def forward(self, x, c=None):
        return _judged(self.v, self.a, self.u, self.linear, x, c)


def _judged(v, a, u, linear, x, c):
    inner = x @ v
    if linear:
        return (inner @ a).unsqueeze(-1) + (0.0 if c is None else c * u)
    return ((inner + (0.0 if c is None else c * u)).tanh() @ a).unsqueeze(-1) + 0.3 * x.square().sum(-1, keepdim=True) * a[:1]


@dataclass(frozen=True)
class Penalty:
    name: str
    weight: float
    one_sided: bool = False


@dataclass(frozen=True)
class Played(Case):
    """A game, and the player whose loss is asked for.

    Attributes:
        seed: of all numbers.
        batch: how many data.
        features: of x.
        game: the class of the library; a divergence follows after a colon.
        weight: of the game.
        real: what is real: `"data"`, or a distribution that is `"trained"` or `"fixed"`.
        critic: `"Deterministic"`, `"Bernoulli"`, or `"Packed"`, which judges two data together.
        linear: whether the discriminator is linear in x.
        conditional: whether it sees c as well.
        hidden: whether the generator has a hidden variable.
        penalties: what is subtracted.
        extra: whether the generator has one more term.
        player: `"p"`, `"real"`, `"d"` or `"whole"`.
    """

    seed: int
    batch: int
    features: int
    game: str
    weight: float
    real: str
    critic: str
    linear: bool
    conditional: bool
    hidden: bool
    penalties: tuple[Penalty, ...]
    extra: bool
    player: str

    copies = 1

    @property
    def exact(self):
        return self.linear or self.player in ("p", "real") or all(x.name != RANDOM_PLACE for x in self.penalties)

    def at(self, seed):
        """Neither the networks nor the sizes are printed."""
        return None

    def _numbers(self):
        shapes = {"w": (2, self.features), "b": (self.features,), "z": (self.batch, 2), "rw": (2, self.features), "rb": (self.features,)}
        judged = self.features * (2 if self.critic == "Packed" else 1)
        shapes |= {"v": (judged, 3), "a": (3,), "u": (1,), "x": (self.batch, self.features), "c": (self.batch, 1), "h": (2, 2)}
        return {n: 0.7 * torch.randn(s, generator=generator(self.seed, n)) for n, s in shapes.items()}

    def _own(self):
        """The leaves of the player."""
        players = {"p": ("w", "b"), "real": ("rw", "rb"), "d": ("v", "a", *(("u",) if self.conditional else ()))}
        # No player minimises the whole, so that a penalty of d in it says nothing of the gradient of what it is at.
        players["whole"] = players["d" if any(x.name != RANDOM_PLACE for x in self.penalties) else "p"]
        return players[self.player]

    def build(self, copies=1):
        numbers = self._numbers()
        trained = {"w", "b", "v", "a", "u"} | ({"rw", "rb"} if self.real == "trained" else set())
        leaves = {n: nn.Parameter(t) if n in trained else t for n, t in numbers.items()}
        p = Deterministic("p(x|z)", x=_Generator(leaves["w"], leaves["b"]))
        if self.hidden:
            matrix = leaves["h"]
            p = Deterministic("p(x|k)", x=_Generator(leaves["w"], leaves["b"])) * Deterministic("p(k|z)", k=lambda z: z @ matrix)
            p = p.marginalize_var("k")
        r = None if self.real == "data" else Deterministic("r(x|s)", x=_Generator(leaves["rw"], leaves["rb"]))
        network = _Critic(leaves["v"], leaves["a"], leaves["u"], self.linear)
        network = gan.Packed(network, 2) if self.critic == "Packed" else network
        text = "d(t|x,c)" if self.conditional else "d(t|x)"
        d = Bernoulli(text, logits=network) if self.critic == "Bernoulli" else Deterministic(text, t=network)
        name, _, divergence = self.game.partition(":")
        options = {"divergence": divergence} if divergence else {}
        loss = getattr(gan, name)(p, d, r, **options)
        loss = loss if self.weight == 1 else self.weight * loss
        for x in self.penalties:
            sides = (p, d) if x.name == "R2" else (p, d, r)
            loss = loss - x.weight * getattr(gan, x.name)(*sides, **({"one_sided": True} if x.one_sided else {}))
        if self.extra:
            loss = loss + 0.3 * Loss.from_function(lambda x: x.square().sum(-1), "size", var=["x"]).expectation(p).mean()
        if self.player != "whole":
            loss = loss.for_player({"p": p, "real": r, "d": d}[self.player])
        values = {"z": numbers["z"], "x": numbers["x"], "s": numbers["z"].flip(0), "c": numbers["c"]}
        return Built(loss, {n: t for n, t in values.items() if n in loss.input_var}, {n: leaves[n] for n in self._own()})

    def truth(self):
        numbers = self._numbers()
        own = {n: numbers.pop(n) for n in self._own()}
        return by_autograd(lambda **leaves: self._value(numbers | leaves), own)

    def _value(self, n):
        fake = _generated(n["w"], n["b"], n["z"] @ n["h"] if self.hidden else n["z"])
        real = n["x"] if self.real == "data" else _generated(n["rw"], n["rb"], n["z"].flip(0))
        c = n["c"] if self.conditional else None

        def d(x):
            if self.critic == "Packed":
                pairs = x.reshape(len(x) // 2, -1)
                return _judged(n["v"], n["a"], n["u"], self.linear, pairs, None).squeeze(-1).repeat_interleave(2)
            return _judged(n["v"], n["a"], n["u"], self.linear, x, c).squeeze(-1)

        objective, loss = _sides(self.game, d(real), d(fake), trained=self.real == "trained")
        total = torch.zeros(())
        if self.player == "d":
            total = -self.weight * sum(t for _, t in objective)
        else:
            terms = objective if loss is None else loss
            stands = {"p": "f", "real": "r", "whole": "fr"}[self.player]
            total = total + self.weight * sum(t for who, t in terms if self.player == "whole" or set(who) & set(stands))
        if self.player in ("d", "whole"):
            sign = 1 if self.player == "d" else -1
            total = total + sign * sum((x.weight * self._penalty(x, d, real, fake) for x in self.penalties), torch.zeros(()))
        if self.extra and self.player in ("p", "whole"):
            total = total + 0.3 * fake.square().sum(-1).mean()
        return total

    def _penalty(self, x, d, real, fake):
        def slopes(at):
            at = at if at.requires_grad else at.clone().requires_grad_()
            return torch.autograd.grad(d(at).sum(), at, create_graph=True)[0]

        if x.name != RANDOM_PLACE:
            return slopes(real if x.name == "R1" else fake).square().sum(-1).mean()
        total = 0.0
        for share, w in zip(*np.polynomial.legendre.leggauss(12)):
            share = float(share + 1) / 2
            excess = slopes(share * real.detach() + (1 - share) * fake.detach()).norm(dim=-1) - 1
            total = total + w / 2 * (excess.clamp(min=0) if x.one_sided else excess).square().mean()
        return total


def _sides(game, real, fake, *, trained):
    """What d maximises and what the others minimise, None if that is the same: terms, and which of `r` and `f` stand in each.

    Args:
        game: its name.
        real: what d says of what is real.
        fake: what d says of the fakes.
        trained: whether the real side is trained as well.
    """
    name, _, divergence = game.partition(":")
    log = F.logsigmoid
    if name == "AdversarialWassersteinDistance":
        return [("r", real.mean()), ("f", -fake.mean())], None
    if name == "AdversarialHinge":
        objective = [("r", -(1 - real).clamp(min=0).mean()), ("f", -(1 + fake).clamp(min=0).mean())]
        return objective, [("f", -fake.mean()), *([("r", real.mean())] if trained else [])]
    if name == "AdversarialLeastSquares":
        objective = [("r", -0.5 * (real - 1).square().mean()), ("f", -0.5 * fake.square().mean())]
        return objective, [("f", 0.5 * (fake - 1).square().mean()), *([("r", 0.5 * real.square().mean())] if trained else [])]
    if name == "AdversarialFDivergence":
        g, conjugate = _CONJUGATES[divergence]
        return [("r", g(real).mean()), ("f", -conjugate(g(fake)).mean())], None
    if name == "RelativisticPairing":
        return [("rf", log(real - fake).mean())], [("rf", -log(fake - real).mean())]
    if name == "RelativisticAverage":
        objective = [("rf", log(real - fake.mean()).mean()), ("rf", log(real.mean() - fake).mean())]
        return objective, [("rf", -log(fake.mean() - real).mean()), ("rf", -log(fake - real.mean()).mean())]
    objective = [("r", log(real).mean()), ("f", log(-fake).mean())]
    if name == "AdversarialJensenShannon":
        return objective, None
    if name == "AdversarialKullbackLeibler":
        return objective, [("f", -fake.mean())]
    return objective, [("f", -log(fake).mean()), *([("r", -log(-real).mean())] if trained else [])]


# The conjugates of table 6 of Nowozin et al. (2016), as functions of t = g(v).
_CONJUGATES = {
    "kl": (lambda v: v, lambda t: (t - 1).exp()),
    "reverse_kl": (lambda v: -(-v).exp(), lambda t: -1 - (-t).log()),
    "pearson": (lambda v: v, lambda t: t.square() / 4 + t),
    "neyman": (lambda v: 1 - v.exp(), lambda t: 2 - 2 * (1 - t).sqrt()),
    "squared_hellinger": (lambda v: 1 - (-v).exp(), lambda t: t / (1 - t)),
    "jensen_shannon": (lambda v: math.log(2) - (1 + (-v).exp()).log(), lambda t: -(2 - t.exp()).log()),
    "total_variation": (lambda v: v.tanh() / 2, lambda t: t),
}
GAMES = (
    *("AdversarialJensenShannon", "AdversarialNonSaturating", "AdversarialKullbackLeibler", "AdversarialWassersteinDistance"),
    *("AdversarialHinge", "AdversarialLeastSquares", "RelativisticPairing", "RelativisticAverage"),
    *(f"AdversarialFDivergence:{name}" for name in _CONJUGATES),
)


@st.composite
def cases(draw):
    critic = draw(st.sampled_from(("Deterministic", "Deterministic", "Bernoulli", "Packed")))
    game = draw(st.sampled_from(GAMES))
    real = draw(st.sampled_from(("data", "data", "trained", "fixed")))
    linear = draw(st.booleans())
    names = [] if critic == "Packed" else draw(st.lists(st.sampled_from(("R1", "R2", RANDOM_PLACE)), max_size=2, unique=True))
    if RANDOM_PLACE in names and not linear and draw(st.integers(0, 7)):
        names.remove(RANDOM_PLACE)  # such a case is evaluated many times
    penalties = tuple(Penalty(n, draw(st.sampled_from((0.5, 10.0))), one_sided=n == RANDOM_PLACE and draw(st.booleans())) for n in names)
    players = ["p", "d", "d", "whole"] + (["real"] if real == "trained" and game != "AdversarialKullbackLeibler" else [])
    return Played(
        seed=draw(st.integers(0, 2**32 - 1)),
        batch=2 * draw(st.integers(1, 2)),
        features=draw(st.integers(1, 2)),
        game=game,
        weight=draw(st.sampled_from((1.0, 0.7))),
        real=real,
        critic=critic,
        linear=linear,
        conditional=critic != "Packed" and draw(st.booleans()),
        hidden=draw(st.booleans()),
        penalties=penalties,
        extra=draw(st.booleans()),
        player=draw(st.sampled_from(players)),
    )
