"""Families of vectors whose elements depend on one another."""

import math
from collections.abc import Callable

import torch
import torch.distributions as td
from torch import Tensor

from pixyz.core import cholesky, normal_noise

from ._deviance import excess
from ._family import Family, Params, Shape
from ._from_torch import TorchFamily
from ._logs import share
from ._special import digamma_gap, log_gamma_ratio
from ._supports import lower_cholesky, positive, positive_definite, positive_vectors, real_matrices, real_vectors, sphere


class MultivariateNormal(Family):
    r"""The multivariate normal distribution of a vector, the last feature dim.

    $$\log p(x) = -\tfrac{1}{2}(x-\mu)^\top\Sigma^{-1}(x-\mu) - \tfrac{1}{2}\log|2\pi\Sigma|$$

    Args:
        loc: the mean μ, `(*features, D)`.
        covariance_matrix: Σ, `(*features, D, D)`, symmetric and positive definite.
        precision_matrix: Σ⁻¹, instead.
        scale_tril: the lower triangular L with positive diagonal and Σ = LLᵀ, instead; the cheapest.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "covariance_matrix"), ("loc", "precision_matrix"), ("loc", "scale_tril"))
    supports = {
        "loc": real_vectors,
        "covariance_matrix": positive_definite,
        "precision_matrix": positive_definite,
        "scale_tril": lower_cholesky,
    }
    value_support = real_vectors

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        tril = _tril(params)
        return -0.5 * _whitened(tril, x - params["loc"]).square().sum(-1) - _log_diagonal(tril) - 0.5 * x.shape[-1] * math.log(2 * math.pi)

    @staticmethod
    def rsample(params: Params, shape: Shape) -> Tensor:
        loc, tril = params["loc"], _tril(params)
        noise = normal_noise(shape, loc)
        return loc + _applied(torch.matmul, tril, noise)

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        a, b = _tril(p), _tril(q)
        change = torch.linalg.solve_triangular(b, a - b, upper=False)  # B⁻¹A - 1
        shift = _whitened(b, q["loc"] - p["loc"])
        ratio = a.diagonal(dim1=-2, dim2=-1) / b.diagonal(dim1=-2, dim2=-1)
        logs = excess(change.diagonal(dim1=-2, dim2=-1), ratio).sum(-1)
        return logs + 0.5 * (change.square().sum((-2, -1)) + shift.square().sum(-1))

    @staticmethod
    def renyi(p: Params, q: Params, alpha: float) -> Tensor:
        a, b = _tril(p), _tril(q)
        # In the coordinates where q has covariance 1, that of p^α q^(1-α) is the inverse of M.
        ratio = torch.linalg.solve_triangular(b, a, upper=False)
        identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        m = alpha * identity + (1 - alpha) * ratio @ ratio.mT
        infinite = torch.linalg.cholesky_ex(m.detach()).info != 0  # not positive definite
        root = cholesky(torch.where(infinite[..., None, None], identity, m))
        shift = _whitened(root, _whitened(b, p["loc"] - q["loc"])).square().sum(-1)
        value = 0.5 * alpha * shift + _log_diagonal(b) - _log_diagonal(a) - _log_diagonal(root) / (alpha - 1)
        return value.masked_fill(infinite, torch.inf)

    @staticmethod
    def squared_wasserstein(p: Params, q: Params) -> Tensor:
        a, b = _tril(p), _tril(q)
        # The trace of (Σ_q^½ Σ_p Σ_q^½)^½ is the sum of the singular values of BᵀA, where Σ_p = AAᵀ and Σ_q = BBᵀ.
        both = a.square().sum((-2, -1)) + b.square().sum((-2, -1)) - 2 * torch.linalg.svdvals(b.mT @ a).sum(-1)
        return (p["loc"] - q["loc"]).square().sum(-1) + both.clamp_min(0)

    @staticmethod
    def whitener(params: Params, count: int) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        tril = _tril(params)
        return lambda t: torch.linalg.solve_triangular(tril, t, upper=False), -_log_diagonal(tril)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        return params["loc"]

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["loc"]

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return _tril(params).square().sum(-1)

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        tril = _tril(params)
        return _log_diagonal(tril) + 0.5 * tril.shape[-1] * (1 + math.log(2 * math.pi))


class LowRankMultivariateNormal(TorchFamily):
    r"""The multivariate normal distribution of a vector whose covariance is of low rank and a diagonal.

    $$\Sigma = WW^\top + \operatorname{diag}(d)$$

    Args:
        loc: the mean μ, `(*features, D)`.
        cov_factor: W, `(*features, D, R)`.
        cov_diag: d > 0, `(*features, D)`.

    The other arguments are those of every family.
    """

    parametrisations = (("loc", "cov_factor", "cov_diag"),)
    supports = {"loc": real_vectors, "cov_factor": real_matrices, "cov_diag": positive_vectors}
    value_support = real_vectors
    torch_class = td.LowRankMultivariateNormal

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        gap = x - params["loc"]
        scaled, root = _capacitance(params)
        # What the factors explain, and what they leave: two sums of squares. The square of all less that of what they explain has no
        # digits where the noise is small.
        explained = torch.cholesky_solve(scaled @ gap.unsqueeze(-1), root)
        left = gap - (params["cov_factor"] @ explained).squeeze(-1)
        distance = (left.square() / params["cov_diag"]).sum(-1) + explained.squeeze(-1).square().sum(-1)
        return -0.5 * (x.shape[-1] * math.log(2 * math.pi) + _log_determinant(params, root) + distance)

    @staticmethod
    def rsample(params: Params, shape: Shape) -> Tensor:
        loc, factor = params["loc"], params["cov_factor"]
        along = normal_noise((*shape[:-1], factor.shape[-1]), loc)
        noise = normal_noise(shape, loc)
        return loc + (factor @ along.unsqueeze(-1)).squeeze(-1) + params["cov_diag"].sqrt() * noise

    mean_of = staticmethod(MultivariateNormal.mean_of)
    mode_of = staticmethod(MultivariateNormal.mode_of)

    @staticmethod
    def variance_of(params: Params) -> Tensor:
        return params["cov_factor"].square().sum(-1) + params["cov_diag"]

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        _, root = _capacitance(params)
        return 0.5 * (params["loc"].shape[-1] * (1 + math.log(2 * math.pi)) + _log_determinant(params, root))

    @staticmethod
    def kl(p: Params, q: Params) -> Tensor:
        return MultivariateNormal.kl(_dense(p), _dense(q))

    @staticmethod
    def renyi(p: Params, q: Params, alpha: float) -> Tensor:
        return MultivariateNormal.renyi(_dense(p), _dense(q), alpha)

    @staticmethod
    def squared_wasserstein(p: Params, q: Params) -> Tensor:
        return MultivariateNormal.squared_wasserstein(_dense(p), _dense(q))

    @staticmethod
    def whitener(params: Params, count: int) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        tril = _tril(_dense(params))
        return lambda t: torch.linalg.solve_triangular(tril, t, upper=False), -_log_diagonal(tril)


class PowerSpherical(Family):
    r"""The power spherical distribution of a vector of length 1, the last feature dim: like von Mises–Fisher, with exact pathwise draws.

    $$\log p(x) = \kappa\log(1+\mu^\top x) - (\alpha+\beta)\log 2 - \beta\log\pi
    - \log\Gamma(\alpha) + \log\Gamma(\alpha+\beta), \qquad \beta = \tfrac{D-1}{2},\ \alpha = \beta + \kappa$$

    Args:
        loc: the mean direction μ, `(*features, D)`, of length 1.
        concentration: κ > 0, one number for each event.

    The other arguments are those of every family.

    Source:
        De Cao and Aziz (2020), https://arxiv.org/abs/2006.04437
    """

    parametrisations = (("loc", "concentration"),)
    supports = {"loc": sphere, "concentration": positive}
    value_support = sphere

    @staticmethod
    def log_density(params: Params, x: Tensor) -> Tensor:
        loc, kappa = params["loc"], params["concentration"]
        # (1 + μᵀx)/2, by the nearer of μ and -μ.
        apart, across = ((x - sign * loc).square().sum(-1) / 4 for sign in (1, -1))
        near = apart < across
        log_height = torch.where(near, torch.log1p(-torch.where(near, apart, 0.0)), torch.where(near, 1.0, across).log())
        return kappa * log_height - _log_surface(kappa, loc.shape[-1])

    @staticmethod
    def rsample(params: Params, shape: Shape) -> Tensor:
        loc = params["loc"].expand(shape)
        kappa = params["concentration"].expand(shape[:-1])
        beta = 0.5 * (shape[-1] - 1)
        t = 2 * td.Beta(kappa + beta, torch.full_like(kappa, beta), validate_args=False).rsample().unsqueeze(-1) - 1
        v = normal_noise((*shape[:-1], shape[-1] - 1), loc)
        v = v / v.norm(dim=-1, keepdim=True)
        y = torch.cat([t, (1 - t.square()).clamp_min(0).sqrt() * v], -1)
        # The reflection that takes the first axis to μ.
        axis = torch.zeros_like(loc)
        axis[..., 0] = 1
        u = axis - loc
        square = u.square().sum(-1, keepdim=True)
        return torch.where(square > 0, y - 2 * u * (u * y).sum(-1, keepdim=True) / square.clamp_min(torch.finfo(square.dtype).tiny), y)

    @staticmethod
    def mean_of(params: Params) -> Tensor:
        loc, kappa = params["loc"], params["concentration"]
        return share(kappa, torch.full_like(kappa, loc.shape[-1] - 1)).unsqueeze(-1) * loc

    @staticmethod
    def mode_of(params: Params) -> Tensor:
        return params["loc"]

    @staticmethod
    def entropy_of(params: Params) -> Tensor:
        kappa, d = params["concentration"], params["loc"].shape[-1]
        beta = 0.5 * (d - 1)
        return _log_surface(kappa, d) + kappa * digamma_gap(beta + kappa, beta)


def _tril(params: Params) -> Tensor:
    """The Cholesky factor L of the covariance."""
    if "scale_tril" in params:
        return params["scale_tril"].tril()
    if "covariance_matrix" in params:
        return cholesky(params["covariance_matrix"])
    # With P = MMᵀ for the matrix turned about both axes, the inverse of M, turned back, is L.
    turned = cholesky(params["precision_matrix"].flip((-2, -1))).flip((-2, -1)).mT
    identity = torch.eye(turned.shape[-1], dtype=turned.dtype, device=turned.device)
    return torch.linalg.solve_triangular(turned, identity, upper=False)


def _whitened(tril: Tensor, gap: Tensor) -> Tensor:
    """L⁻¹ applied to vectors."""
    return _applied(lambda m, v: torch.linalg.solve_triangular(m, v, upper=False), tril, gap)


def _applied(apply: Callable[[Tensor, Tensor], Tensor], matrix: Tensor, vectors: Tensor) -> Tensor:
    """What a function of a matrix and of columns makes of vectors; a matrix that all of them share is not copied for each."""
    if matrix[..., 0, 0].numel() != 1:
        return apply(matrix, vectors.unsqueeze(-1)).squeeze(-1)
    shape = torch.broadcast_shapes(vectors.shape[:-1], matrix.shape[:-2])
    return apply(matrix.reshape(matrix.shape[-2:]), vectors.reshape(-1, vectors.shape[-1]).mT).mT.reshape(*shape, vectors.shape[-1])


def _log_diagonal(tril: Tensor) -> Tensor:
    return tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _capacitance(params: Params) -> tuple[Tensor, Tensor]:
    """WᵀD⁻¹ of a low-rank normal, and the Cholesky factor of 1 + WᵀD⁻¹W, by which Σ⁻¹ and |Σ| are known (Woodbury)."""
    factor = params["cov_factor"]
    scaled = factor.mT / params["cov_diag"].unsqueeze(-2)
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return scaled, cholesky(scaled @ factor + identity)


def _log_determinant(params: Params, root: Tensor) -> Tensor:
    """log |Σ| of a low-rank normal."""
    return 2 * _log_diagonal(root) + params["cov_diag"].log().sum(-1)


def _dense(params: Params) -> dict[str, Tensor]:
    """The parameters of a low-rank normal as those of a multivariate normal."""
    factor = params["cov_factor"]
    return {**params, "covariance_matrix": factor @ factor.mT + torch.diag_embed(params["cov_diag"])}


def _log_surface(kappa: Tensor, d: int) -> Tensor:
    """The logarithm of the integral of ((1 + μᵀx)/2)^κ over the sphere."""
    beta = 0.5 * (d - 1)
    return beta * math.log(4 * math.pi) - log_gamma_ratio(beta + kappa, beta)
