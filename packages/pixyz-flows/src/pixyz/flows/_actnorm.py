"""Activation normalisation."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pixyz.core import ShapeError

from ._bijection import Bijection, Mapped


class ActNorm(Bijection):
    r"""An affine map of each feature of a vector, or of each channel of an image, that starts by normalising data.

    $$y = e^s (x + b), \qquad \log\left|\det\frac{\partial y}{\partial x}\right| = HW \sum_c s_c$$

    Until it is started, by `initialize(values)` of the bijection or of a distribution or model that has it, it is the identity. Started
    once, it has mean 0 and variance 1 on those data, and is not started again; that it has been is saved with the weights.

    Args:
        shape: the features: D, or `(C, H, W)`.
        trained: whether s and b are parameters; else they stay what they are after the start, which standardises data at no cost.

    Raises:
        ShapeError: when it is started by fewer than 2 data.

    Source:
        Kingma and Dhariwal (2018), section 3.1, https://arxiv.org/abs/1807.03039

    Examples:
        >>> f = ActNorm(1)
        >>> f.initialize(torch.tensor([[1.0], [3.0]]))
        >>> f.forward_and_log_det(torch.tensor([[1.0], [3.0]]))[0].detach().flatten()
        tensor([-1.,  1.])
    """

    push_passes = pull_passes = 0
    shift: Tensor
    log_scale: Tensor
    started: Tensor

    def __init__(self, shape: int | Sequence[int], *, trained: bool = True) -> None:
        super().__init__(shape)
        features = self.in_shape or (1,)
        self.pixels = math.prod(features[1:])
        per_channel = (features[0], *[1] * (len(features) - 1))
        for name in ("shift", "log_scale"):
            start = torch.zeros(per_channel)
            self.register_parameter(name, nn.Parameter(start)) if trained else self.register_buffer(name, start)
        self.register_buffer("started", torch.tensor(False))

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        return (x + self.shift) * self.log_scale.exp(), self._log_det()

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        return y * (-self.log_scale).exp() - self.shift, -self._log_det()

    def start(self, x: Tensor, context: Tensor | None) -> None:
        if not self.started:
            mean, deviation = self._moments(x)
            self._begin(-mean, -deviation.log())

    def start_back(self, y: Tensor, context: Tensor | None) -> None:
        if not self.started:
            mean, deviation = self._moments(y)
            self._begin(mean / deviation, deviation.log())

    @property
    def needs_start(self) -> bool:
        return not bool(self.started)

    def _log_det(self) -> Tensor:
        return self.log_scale.sum() * self.pixels

    def _moments(self, t: Tensor) -> tuple[Tensor, Tensor]:
        if t.shape[0] < 2:
            raise ShapeError(f"ActNorm starts from the mean and the variance of data, so it needs at least 2; the batch is {t.shape[0]}.")
        over = [d for d in range(t.ndim) if d != 1]
        mean = t.mean(over, keepdim=True)[0]
        deviation = (t - mean).square().mean(over, keepdim=True)[0].sqrt()
        return mean, torch.where(deviation > 1e-6, deviation, 1.0)  # what is the same in all data is left as wide as it is

    @torch.no_grad()
    def _begin(self, shift: Tensor, log_scale: Tensor) -> None:
        self.shift.copy_(shift)
        self.log_scale.copy_(log_scale)
        self.started.fill_(True)
