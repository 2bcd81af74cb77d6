"""Whole flows in one line."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from pixyz.core import Distribution, KindError, ParameterError, is_whole
from pixyz.distributions import Normal

from ._actnorm import ActNorm
from ._bijection import Bijection, as_shape
from ._chain import Chain
from ._coupling import Coupling
from ._masked_autoregressive import MaskedAutoregressive
from ._monotone import AffineMap, MonotoneMap
from ._networks import MakesActivation, MakesNetwork
from ._permutation import Permutation
from ._spline import SplineMap
from ._transformed import InverseTransformedDistribution, TransformedDistribution


class RealNVP(InverseTransformedDistribution):
    r"""Affine coupling layers: density and draws cost one pass each.

    Of vectors, each layer maps one half by the other, in turns, with a fixed random permutation after every second layer. Of images
    `(C, H, W)`, each maps every other pixel by the rest, with convolutions.

    Args:
        text: the distribution as papers write it, `"p(x|y)"`, in place of `var`, `cond_var` and `name`.
        features: D, or the shape of an image.
        transforms: how many layers.
        context: how many features the conditioning variables have together.
        hidden: the sizes of the hidden layers of each network.
        activation: makes what stands between their layers.
        network: makes another network, from the numbers of its inputs and outputs.
        base: the distribution of the noise; the standard normal one, if not given.
        var: the variable.
        cond_var: the variables that it depends on.
        name: the letter before the brackets.

    Raises:
        ShapeError: for a single feature.

    Examples:
        >>> import torch
        >>> p = RealNVP("p(x|y)", features=4, context=3)
        >>> p.log_likelihood(p.sample({"y": torch.zeros(5, 3)})).shape
        torch.Size([5])

    Source:
        Dinh et al. (2017), https://arxiv.org/abs/1605.08803
    """

    distribution_name = "RealNVP"

    def __init__(
        self,
        text: str | None = None,
        /,
        *,
        features: int | Sequence[int],
        transforms: int = 5,
        context: int = 0,
        hidden: Sequence[int] = (64, 64),
        activation: MakesActivation = nn.ReLU,
        network: MakesNetwork | None = None,
        base: Distribution | None = None,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
    ) -> None:
        need_transforms(type(self).__name__, transforms)
        flow = _couplings(features, transforms, AffineMap, context=context, hidden=hidden, activation=activation, network=network)
        super().__init__(standard_noise(base, features), flow, text, var=var, cond_var=cond_var, name=name)


class NSF(InverseTransformedDistribution):
    r"""A neural spline flow: monotone rational-quadratic splines.

    With `kind="coupling"` density and draws cost one pass each; with `"autoregressive"` a draw costs D passes, and the density fits better.

    Args:
        text: the distribution as papers write it, `"p(x|y)"`, in place of `var`, `cond_var` and `name`.
        features: D, or, for couplings, the shape of an image.
        transforms: how many layers.
        context: how many features the conditioning variables have together.
        hidden: the sizes of the hidden layers of each network.
        activation: makes what stands between their layers, such as `lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.3))`.
        bins: how many bins each spline has.
        bound: the half of the interval in which it is one; the data are standardised first, when it is initialised.
        kind: `"coupling"` or `"autoregressive"`.
        network: makes another network for couplings, from the numbers of its inputs and outputs.
        base: the distribution of the noise; the standard normal one, if not given.
        var: the variable.
        cond_var: the variables that it depends on.
        name: the letter before the brackets.

    Raises:
        ShapeError: for couplings of a single feature.
        ParameterError: for another kind.

    Examples:
        >>> import torch
        >>> p = NSF("p(x|y)", features=2, transforms=5, context=3)
        >>> p.sample({"y": torch.zeros(5, 3)})["x"].shape
        torch.Size([5, 2])

    Source:
        Durkan et al. (2019), https://arxiv.org/abs/1906.04032
    """

    distribution_name = "NSF"

    def __init__(
        self,
        text: str | None = None,
        /,
        *,
        features: int | Sequence[int],
        transforms: int = 5,
        context: int = 0,
        hidden: Sequence[int] = (64, 64),
        activation: MakesActivation = nn.ReLU,
        bins: int = 8,
        bound: float = 5.0,
        kind: str = "coupling",
        network: MakesNetwork | None = None,
        base: Distribution | None = None,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
    ) -> None:
        who = type(self).__name__
        need_transforms(who, transforms)
        if kind not in ("coupling", "autoregressive"):
            raise ParameterError(f'{who}: kind must be "coupling" or "autoregressive"; got {kind!r}.')

        def spline() -> SplineMap:
            return SplineMap(bins, bound)

        if kind == "coupling":
            flow = _couplings(features, transforms, spline, context=context, hidden=hidden, activation=activation, network=network)
        elif network is not None:
            raise ParameterError(f"{who}: network= is for couplings; the networks of autoregressive layers are masked.")
        else:
            layers = _autoregressive(features, transforms, spline, context=context, hidden=hidden, activation=activation)
            flow = Chain([ActNorm(features, trained=False), *layers])
        super().__init__(standard_noise(base, features), flow, text, var=var, cond_var=cond_var, name=name)


class MAF(InverseTransformedDistribution):
    r"""A masked autoregressive flow: the density costs one pass of each network, a draw D of them.

    Args:
        text: the distribution as papers write it, `"p(x|y)"`, in place of `var`, `cond_var` and `name`.
        features: D.
        transforms: how many layers; every other one takes the features in reverse.
        context: how many features the conditioning variables have together.
        hidden: the sizes of the hidden layers of each network.
        activation: makes what stands between their layers.
        base: the distribution of the noise; the standard normal one, if not given.
        var: the variable.
        cond_var: the variables that it depends on.
        name: the letter before the brackets.

    Examples:
        >>> p = MAF("p(x)", features=3)
        >>> p.log_likelihood(p.sample(batch_size=5)).shape
        torch.Size([5])

    Source:
        Papamakarios et al. (2017), https://arxiv.org/abs/1705.07057
    """

    distribution_name = "MAF"

    def __init__(
        self,
        text: str | None = None,
        /,
        *,
        features: int,
        transforms: int = 5,
        context: int = 0,
        hidden: Sequence[int] = (64, 64),
        activation: MakesActivation = nn.ReLU,
        base: Distribution | None = None,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
    ) -> None:
        need_transforms(type(self).__name__, transforms)
        layers = _autoregressive(features, transforms, AffineMap, context=context, hidden=hidden, activation=activation)
        flow = Chain([ActNorm(features, trained=False), *layers])
        super().__init__(standard_noise(base, features), flow, text, var=var, cond_var=cond_var, name=name)


class IAF(TransformedDistribution):
    r"""An inverse autoregressive flow: a draw costs one pass of each network, the density of given data D of them.

    What it has drawn in an evaluation it scores without another pass, so it serves as a posterior:
    `IAF("q(z|x)", features=8, context=64, base=Normal("q_0(z|x)", encoder))`.

    Args:
        text: the distribution as papers write it, `"q(z|x)"`, in place of `var`, `cond_var` and `name`.
        features: D.
        transforms: how many layers; every other one takes the features in reverse.
        context: how many features the conditioning variables have together; 0 where only the base depends on them.
        hidden: the sizes of the hidden layers of each network.
        activation: makes what stands between their layers.
        base: the distribution of the noise; the standard normal one, if not given.
        var: the variable.
        cond_var: the variables that it depends on.
        name: the letter before the brackets.

    Examples:
        >>> q = IAF("q(z)", features=3)
        >>> q.sample(batch_size=5)["z"].shape
        torch.Size([5, 3])

    Source:
        Kingma et al. (2016), https://arxiv.org/abs/1606.04934
    """

    distribution_name = "IAF"

    def __init__(
        self,
        text: str | None = None,
        /,
        *,
        features: int,
        transforms: int = 5,
        context: int = 0,
        hidden: Sequence[int] = (64, 64),
        activation: MakesActivation = nn.ReLU,
        base: Distribution | None = None,
        var: Iterable[str] | None = None,
        cond_var: Iterable[str] | None = None,
        name: str | None = None,
    ) -> None:
        need_transforms(type(self).__name__, transforms)
        flow = Chain(_autoregressive(features, transforms, AffineMap, context=context, hidden=hidden, activation=activation))
        super().__init__(standard_noise(base, features), flow, text, var=var, cond_var=cond_var, name=name)


def need_transforms(who: str, transforms: int) -> None:
    """Raises an error unless there is a number of layers."""
    if not is_whole(transforms) or transforms < 1:
        raise KindError(f"{who}: transforms must be a whole number of at least 1; got {transforms!r}.")


def standard_noise(base: Distribution | None, features: int | Sequence[int]) -> Distribution:
    """The base, or standard normal noise of the shape of the data."""
    if base is not None:
        return base
    return Normal(var=["noise"], loc=0.0, scale=1.0, features_shape=list(as_shape(features, "features") or ()))


def _couplings(features: int | Sequence[int], transforms: int, map: Callable[[], MonotoneMap], **each: Any) -> Chain:
    """From data to noise: standardised, then mapped in turns."""
    shape = as_shape(features, "features") or ()
    mask = "checkerboard" if len(shape) == 3 else "halves"
    layers: list[Bijection] = [ActNorm(features, trained=False)]
    for i in range(transforms):
        if i and i % 2 == 0 and len(shape) == 1 and shape[0] > 2:
            layers.append(Permutation(features))
        layers.append(Coupling(features, map=map(), mask=mask, swap=i % 2 == 1, **each))
    return Chain(layers)


def _autoregressive(features: int | Sequence[int], transforms: int, map: Callable[[], MonotoneMap], **each: Any) -> list[Bijection]:
    """Mapped one feature after another, in turns from either end."""
    orders = ("forward", "reverse")
    return [MaskedAutoregressive(features, map=map(), order=orders[i % 2], **each) for i in range(transforms)]
