"""What families that are symmetric about their location share."""

from torch import Tensor

from ._family import Family, Params


class Symmetric(Family):
    """A family whose density is symmetric about `loc`, and greatest there."""

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["loc"]

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["loc"]

    @classmethod
    def sf(cls, params: Params, x: Tensor) -> Tensor:
        return cls.cdf(params, 2 * params["loc"] - x)

    @classmethod
    def isf(cls, params: Params, u: Tensor) -> Tensor:
        return 2 * params["loc"] - cls.icdf(params, u)
