"""The errors of Pixyz: each says who, what was expected, what came and what to do."""


class PixyzError(Exception):
    """The parent of every error that Pixyz raises on purpose."""


class FormulaError(PixyzError, ValueError):
    """A formula that has no meaning: a cycle, a variable defined twice, a clash of names."""


class ParameterError(PixyzError, ValueError):
    """A family's parameters are unknown, missing or given twice."""


class MissingVariableError(PixyzError, ValueError):
    """A formula needs a variable for which no value came."""


class BoundVariableError(PixyzError, ValueError):
    """A value came for a variable that the formula draws or computes itself."""


class ShapeError(PixyzError, ValueError):
    """Ranks, feature sizes or batches that do not fit one another."""


class SupportError(PixyzError, ValueError):
    """A value or a parameter outside of the set where the family is defined.

    Attributes:
        nans: how many entries are nan.
    """

    nans: int = 0


class IntractableError(PixyzError, ValueError):
    """A quantity without a closed form here; the message names what would give it."""


class NonFiniteLossError(PixyzError, ValueError):
    """A loss that is nan or infinite; the message names the term, and shows the value of every other.

    Attributes:
        explanation: what `loss.explain` gives; None where the loss could not be evaluated.
    """

    explanation: object = None


class CheckpointError(PixyzError, ValueError):
    """A file that is damaged, or that holds another model; nothing was loaded from it."""


class KindError(PixyzError, TypeError):
    """Something of the wrong kind: a list for a tensor, an integer for a real, another device."""


def function_of_game(who: object) -> FormulaError:
    """The error for a formula in which a game stands elsewhere than in a sum."""
    return FormulaError(
        f"{who} is a function of a game. Games add up with losses, and with numbers before them; no more. "
        "Write the function of what one side plays for, game.for_player(p), or inside of the game's objective."
    )
