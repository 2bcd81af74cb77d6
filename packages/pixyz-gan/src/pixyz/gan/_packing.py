"""Discriminators that judge several data at once."""

from torch import Tensor, nn

from pixyz.core import ParameterError, ShapeError, is_whole


class Packed(nn.Module):
    r"""A network that judges `size` data together, so that it sees when they are all alike (PacGAN).

    The batch is cut into packs; of each the data are put side by side, `(N / size, size * features)`, and all of a pack have its number.

    Args:
        network: takes `(M, size * D)`, of features `(D,)`, or `(M, size * C, ...)`, of features `(C, ...)`.
        size: how many are judged together.

    Raises:
        ParameterError: for a size below 1.
        ShapeError: for a batch that is not cut into whole packs.

    Examples:
        >>> import torch
        >>> from pixyz.distributions import Deterministic
        >>> d = Deterministic("d(t|x)", t=Packed(nn.Linear(2 * 3, 1), 2))
        >>> d.sample({"x": torch.zeros(8, 3)})["t"].shape
        torch.Size([8, 1])

    Source:
        Lin et al. (2018), section 3, https://arxiv.org/abs/1712.04086
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        if not is_whole(size) or size < 1:
            raise ParameterError(f"Packed: size is how many data are judged together, at least 1; got {size!r}.")
        self.network = network
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] % self.size:
            raise ShapeError(
                f"Packed: {x.shape[0]} data do not make whole packs of {self.size}. Choose another batch size, or drop_last=True."
            )
        packs = x.reshape(x.shape[0] // self.size, self.size * x.shape[1], *x.shape[2:])
        return self.network(packs).repeat_interleave(self.size, 0)
