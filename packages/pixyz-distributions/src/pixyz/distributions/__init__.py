"""Families of distributions, to be given constants or to be subclassed with a network."""

from pixyz.core import Distribution

from ._bernoulli import Bernoulli
from ._categorical import Categorical
from ._deterministic import Deterministic
from ._family import Family
from ._normal import Normal

__all__ = ["Bernoulli", "Categorical", "Deterministic", "Distribution", "Family", "Normal"]
