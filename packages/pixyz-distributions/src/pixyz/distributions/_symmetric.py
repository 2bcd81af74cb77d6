"""What families that are symmetric about their location share."""

from typing import Any

from torch import Tensor

from ._family import Family, Params


class Symmetric(Family):
    """A family whose density is symmetric about `loc`, and greatest there; its upper tail is its lower one, reflected."""

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["loc"]

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["loc"]

    def __init_subclass__(cls, **options: Any) -> None:
        cls.sf = staticmethod(lambda params, x: cls.cdf({**params, "loc": -params["loc"]}, -x))
        cls.isf = staticmethod(lambda params, u: -cls.icdf({**params, "loc": -params["loc"]}, u))
        super().__init_subclass__(**options)
