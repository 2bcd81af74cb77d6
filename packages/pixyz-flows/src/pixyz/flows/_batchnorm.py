"""Batch normalisation as a bijection."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pixyz.core import need_finite

from ._bijection import Bijection, Mapped


class BatchNormFlow(Bijection):
    r"""Normalises each feature of a vector, or each channel of an image, by the mean m and the variance v of the data, from data to noise.

    $$y = e^\gamma \frac{x - m}{\sqrt{v + \epsilon}} + \beta, \qquad \log\left|\det\frac{\partial y}{\partial x}\right| =
    HW \sum_c \left(\gamma_c - \tfrac12 \log(v_c + \epsilon)\right)$$

    In training mode, forward takes m and v of the batch, and moves running averages of them towards these; in evaluation mode it takes the
    running averages. The inverse takes the running averages in both modes, for it has no data: in evaluation mode, it undoes forward. A
    batch of fewer than 2 data is mapped by the running averages as well. These are saved with the weights.

    Forward is the direction of the data. So in a `TransformedDistribution`, take `.inverse`.

    Args:
        shape: the features: D, or `(C, H, W)`.
        momentum: the weight of a new batch in the running averages, in (0, 1].
        eps: ε.

    Source:
        Dinh et al. (2017), section 3.7, https://arxiv.org/abs/1605.08803

    Examples:
        >>> f = BatchNormFlow(1, momentum=1.0, eps=0.0)
        >>> f.forward_and_log_det(torch.tensor([[1.0], [3.0], [5.0], [7.0]]))[0].detach().flatten()
        tensor([-1.3416, -0.4472,  0.4472,  1.3416])
        >>> f.eval().inverse_and_log_det(torch.zeros(1, 1))[0].item()
        4.0
    """

    push_passes = pull_passes = 0
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, shape: int | Sequence[int], *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(shape)
        features = self.in_shape or (1,)
        self.pixels = math.prod(features[1:])
        need_finite(momentum, "momentum", type(self).__name__)
        need_finite(eps, "eps", type(self).__name__)
        self.momentum, self.eps = momentum, eps
        per_channel = (features[0], *[1] * (len(features) - 1))
        self.shift = nn.Parameter(torch.zeros(per_channel))
        self.log_scale = nn.Parameter(torch.zeros(per_channel))
        self.register_buffer("running_mean", torch.zeros(per_channel))
        self.register_buffer("running_var", torch.ones(per_channel))

    def push(self, x: Tensor, context: Tensor | None) -> Mapped:
        mean, var = self._of_batch(x) if self.training and x.shape[0] > 1 else (self.running_mean, self.running_var)
        log_scale = self._log_scale(var)
        return (x - mean) * log_scale.exp() + self.shift, log_scale.sum() * self.pixels

    def pull(self, y: Tensor, context: Tensor | None) -> Mapped:
        log_scale = self._log_scale(self.running_var)
        return (y - self.shift) * (-log_scale).exp() + self.running_mean, -log_scale.sum() * self.pixels

    def _log_scale(self, var: Tensor) -> Tensor:
        return self.log_scale - 0.5 * (var + self.eps).log()

    def _of_batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        over = [0, *range(2, x.ndim)]
        var, mean = torch.var_mean(x, over, correction=0, keepdim=True)
        var, mean = var[0], mean[0]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var, self.momentum)
        return mean, var
