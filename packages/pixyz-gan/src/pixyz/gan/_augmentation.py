"""Differentiable augmentation: a discriminator that never sees the data as they are cannot learn them by heart."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from pixyz.core import FormulaError, ShapeError


def _brightness(x: Tensor) -> Tensor:
    return x + torch.rand(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device) - 0.5


def _saturation(x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    return mean + (x - mean) * 2 * torch.rand(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device)


def _contrast(x: Tensor) -> Tensor:
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (0.5 + torch.rand(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device))


def _translation(x: Tensor) -> Tensor:
    n, _, height, width = x.shape
    rows, columns = _shifts(n, height, x), _shifts(n, width, x)
    # A frame of zeros, one wide, stands for everything outside.
    framed = nn.functional.pad(x, (1, 1, 1, 1))
    down = (torch.arange(height, device=x.device) + rows + 1).clamp(0, height + 1)
    across = (torch.arange(width, device=x.device) + columns + 1).clamp(0, width + 1)
    which = torch.arange(n, device=x.device)[:, None, None]
    return framed.permute(0, 2, 3, 1)[which, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)


def _shifts(n: int, size: int, x: Tensor) -> Tensor:
    """By up to an eighth, but at least one."""
    most = max(round(size / 8), 1)
    return torch.randint(-most, most + 1, (n, 1), device=x.device)


def _cutout(x: Tensor) -> Tensor:
    n, _, height, width = x.shape
    hidden = [_interval(n, size, x) for size in (height, width)]
    return x * ~(hidden[0][:, None, :, None] & hidden[1][:, None, None, :])


def _interval(n: int, size: int, x: Tensor) -> Tensor:
    """Half of the places, around a random one."""
    half = size // 2
    first = torch.randint(0, size + (1 - half % 2), (n, 1), device=x.device) - half // 2
    places = torch.arange(size, device=x.device)
    return (places >= first) & (places < first + half)


AUGMENTATIONS: Mapping[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "color": (_brightness, _saturation, _contrast),
    "translation": (_translation,),
    "cutout": (_cutout,),
}


class DiffAugment(nn.Module):
    """Random changes of images that gradients go through, before a discriminator's network, of real ones and fakes alike.

    In evaluation mode images stay as they are.

    Args:
        policy: which: `"color"` (brightness, saturation, contrast), `"translation"` (by up to an eighth), `"cutout"` (a square of half
            the side).

    Raises:
        FormulaError: for an unknown one.
        ShapeError: for what is no image, `(N, C, H, W)`.

    Examples:
        >>> network = nn.Sequential(DiffAugment(["translation", "cutout"]), nn.Flatten(), nn.Linear(64, 1))
        >>> network(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 1])

    Source:
        Zhao et al. (2020), https://arxiv.org/abs/2006.10738
    """

    def __init__(self, policy: Iterable[str] = ("color", "translation", "cutout")) -> None:
        super().__init__()
        self.policy = (policy,) if isinstance(policy, str) else tuple(policy)
        for name in self.policy:
            if name not in AUGMENTATIONS:
                raise FormulaError(f"DiffAugment: there is no augmentation {name!r}; choose of {', '.join(AUGMENTATIONS)}.")

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            raise ShapeError(f"DiffAugment: it takes images, (N, C, H, W); got {tuple(x.shape)}.")
        if self.training:
            for name in self.policy:
                for change in AUGMENTATIONS[name]:
                    x = change(x)
        return x

    def extra_repr(self) -> str:
        return ", ".join(self.policy)
