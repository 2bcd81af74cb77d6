"""Losses with two sides: what one side minimises, the other maximises."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from . import _formula as f
from ._depth import nested
from ._dims import Term
from ._distribution import Distribution, need_distribution
from ._errors import FormulaError, ParameterError, function_of_game
from ._leaves import leaves_of
from ._loss import Loss, need_scalar
from ._operators import Constant, is_zero
from ._scope import Scope


class Game(Loss):
    r"""What one player minimises and another maximises, `()`; it adds up with losses, and with other games.

    $$\min_{p} \max_{d} V(p, d)$$

    `loss.for_player(p)` is the ordinary loss that the optimiser of p's parameters minimises, for every sum of losses and games. A
    discriminator maximises the games that name it, and nothing else; whatever is no discriminator minimises the whole. In a sum a game
    has a positive weight, and a penalty, a game without minimiser, a negative one.

    Args:
        objective: V.
        minimiser: p, or several that play together; none for a penalty of the maximiser alone, which is subtracted.
        maximiser: d.
        loss: what the minimiser minimises in place of V.

    Raises:
        ShapeError: for an objective or a loss with a value per datum.
        ParameterError: if a parameter is in both players, or the maximiser has none.
        FormulaError: if a player has no part in what it plays for.

    Examples:
        >>> import torch
        >>> from pixyz.distributions import Normal
        >>> p = Normal("p(x)", loc=torch.nn.Parameter(torch.zeros(1)), scale=1.0)
        >>> d = Normal("d(x)", loc=torch.nn.Parameter(torch.ones(1)), scale=1.0)
        >>> game = Game((p.log_prob() - d.log_prob()).mean(), p, d)
        >>> print(game)
        min_p max_d mean(log p(x) - log d(x))
        >>> print(game.for_player(p), game.for_player(d), sep="\n")
        mean(log p(x))
        -mean(-log d(x))
    """

    is_game = True

    def __init__(
        self,
        objective: Loss,
        minimiser: Distribution | Iterable[Distribution],
        maximiser: Distribution,
        *,
        loss: Loss | None = None,
    ) -> None:
        minimisers = (minimiser,) if isinstance(minimiser, Distribution) else tuple(minimiser)
        for player, role in (*[(p, "minimiser") for p in minimisers], (maximiser, "maximiser")):
            need_distribution(player, f"Game: {role}")
        played = [objective] if loss is None else [objective, loss]
        for each in played:
            need_scalar(each, "Game")
        inputs = [v for x in played for v in x.input_var]
        super().__init__([*played, *minimisers, maximiser], input_var=inputs)
        self._played = (objective, loss, minimisers, maximiser)
        for player in (*minimisers, maximiser):
            mine = _trained(leaves_of(player))
            if not mine:
                raise ParameterError(f"{player.prob_text} has no parameters to train, so it cannot be a player in {self}.")
            _part(self, mine, player.prob_text, maximises=player is maximiser)  # says now if there is none
        for player in minimisers:
            _check_apart(player, maximiser)

    @property
    def maximiser(self) -> Distribution:
        """d."""
        return self._played[3]

    @property
    def objective(self) -> Loss:
        """V, what the maximiser maximises."""
        return self._played[0]

    @property
    def is_penalty(self) -> bool:
        """Whether the maximiser is alone."""
        return not self._played[2]

    @property
    def minimised(self) -> Loss:
        """What the other side minimises; 0 of a penalty."""
        objective, loss, _, _ = self._played
        return Constant(0.0) if self.is_penalty else objective if loss is None else loss

    @property
    def formula(self) -> f.Formula:
        objective, loss, minimisers, maximiser = self._played
        least = tuple(dict.fromkeys([p.name for p in minimisers]))
        return f.Saddle(objective.formula, None if loss is None else loss.formula, least, (maximiser.name,))

    def evaluate(self, scope: Scope) -> Term:
        objective, loss, _, _ = self._played
        if loss is not None and (scope.shared.watch is not None or scope.shared.starting):
            scope.evaluate(objective)  # who looks on sees both sides, and both sides start
        return scope.evaluate(objective if loss is None else loss)


@nested("taken apart")
def sides(loss: Loss) -> tuple[list[nn.Module], list[nn.Module]]:
    """The leaves that minimise a loss, and those that maximise games in it.

    Raises:
        FormulaError: for a game that stands elsewhere than in a sum, where it could not be taken apart, or with the wrong sign.
    """
    games: list[Game] = []

    def look(term: Loss) -> Loss:
        if isinstance(term, Game):
            games.append(term)
        elif term.is_game:
            raise function_of_game(term)
        return term

    loss.each_term(look)
    for game in games:
        _check_sign(loss, game)
    maximising = dict.fromkeys(leaf for game in games for leaf in leaves_of(game.maximiser))
    return [leaf for leaf in leaves_of(loss) if leaf not in maximising], [*maximising]


def _check_sign(loss: Loss, game: Game) -> None:
    """An error where the maximiser would play against itself."""
    one = loss.each_term(lambda term: Constant(1.0 if term is game else 0.0))
    with torch.device("cpu"):  # the numbers, wherever the model is built
        weight = one.estimate(dict.fromkeys(one.input_var, 1.0))
    if weight.is_meta:
        return
    d = game.maximiser.prob_text
    if game.is_penalty and (weight > 0).any():
        raise FormulaError(f"{loss}: {d} maximises, so it would seek the penalty {game.objective}. Subtract it, as in game - penalty.")
    if not game.is_penalty and (weight < 0).any():
        raise FormulaError(f"{loss}: {game} is subtracted, so {d} would minimise what it maximises. Add it, or exchange its players.")


def for_player(loss: Loss, player: Distribution) -> Loss:
    """What the optimiser of this player's parameters minimises.

    For a discriminator that is minus the games that it plays in; for all others the terms that they stand in. Take the gradient for
    the parameters of the player alone, `backward(inputs=list(p.parameters()))`.

    Args:
        player: a distribution, or a product of some on one side.

    Raises:
        FormulaError: if the player has no part in the loss, or parts on both sides; if a game is subtracted, or a penalty added.
    """
    need_distribution(player, "for_player")
    return of_leaves(loss, leaves_of(player), player.prob_text)


@nested("taken apart")
def of_leaves(loss: Loss, leaves: Iterable[nn.Module], who: str) -> Loss:
    """The same for a player who is called `who`, by its leaves."""
    mine = _trained(leaves)
    against = mine.intersection(sides(loss)[1])
    if against and against != mine:
        raise FormulaError(f"{who} stands on both sides of {loss}; ask for one of them.")
    return Share(loss, _part(loss, mine, who, maximises=bool(against)))


def _part(loss: Loss, mine: set[nn.Module], who: str, *, maximises: bool) -> Loss:
    """The terms in which these leaves have a part, to be minimised by them.

    Raises:
        FormulaError: if there are none.
    """

    def standing(term: Loss) -> Loss:
        return Constant(0.0) if mine.isdisjoint(leaves_of(term)) else term

    def share(term: Loss) -> Loss:
        if isinstance(term, Game):
            if maximises:
                return Constant(0.0) if mine.isdisjoint(leaves_of(term.maximiser)) else term.objective.each_term(standing)
            return term.minimised.each_term(standing)
        return Constant(0.0) if maximises else standing(term)

    found = loss.each_term(share)
    if is_zero(found):
        raise FormulaError(f"{who} has no part in {loss}: there is nothing in it to train it by.")
    return -found if maximises else found


class Share(Loss):
    """What one player minimises of a loss. It takes the values of the whole, and counts its draws by their batch.

    Args:
        whole: the loss.
        loss: the player's terms of it.
    """

    def __init__(self, whole: Loss, loss: Loss) -> None:
        taken = loss.optional_var.union(whole.input_var, whole.optional_var).difference(loss.input_var)
        super().__init__([loss], optional_var=taken)
        self._loss = loss

    @property
    def formula(self) -> f.Formula:
        return self._loss.formula

    def each_term(self, change: Callable[[Loss], Loss]) -> Loss:
        return self._loss.each_term(change)

    def evaluate(self, scope: Scope) -> Term:
        return scope.evaluate(self._loss)


def _trained(leaves: Iterable[nn.Module]) -> set[nn.Module]:
    """Those that have parameters."""
    return {leaf for leaf in leaves if any(w.requires_grad for w in leaf.parameters())}


def _check_apart(minimiser: Distribution, maximiser: Distribution) -> None:
    named = {w: f"{leaf.leaf_text}.{name}" for leaf in leaves_of(minimiser) for name, w in leaf.named_parameters() if w.requires_grad}
    for leaf in leaves_of(maximiser):
        for name, w in leaf.named_parameters():
            if w in named:
                raise ParameterError(
                    f"{named[w]} and {leaf.leaf_text}.{name} are one parameter, of {minimiser.prob_text} and of {maximiser.prob_text}, "
                    "which play against each other. Give each a network of its own."
                )
