"""Linear-Gaussian models, whose latent variables are integrated out exactly, against scikit-learn."""

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis
from torch import nn

from pixyz.distributions import Normal


@pytest.mark.parametrize("kind", ["ppca", "factor analysis"])
def test_against_scikit_learn(kind):
    """log p(x) of a fitted model, on the digits."""
    x = load_digits().data[:, 10:22].astype("float64")
    x = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).numpy()
    net = nn.Linear(4, 12).double()
    if kind == "ppca":
        fit = PCA(4).fit(x)
        scale = torch.tensor(fit.noise_variance_**0.5)
        weight = torch.tensor(fit.components_.T * (fit.explained_variance_ - fit.noise_variance_) ** 0.5)
    else:
        fit = FactorAnalysis(4).fit(x)
        scale, weight = torch.tensor(fit.noise_variance_).sqrt(), torch.tensor(fit.components_.T)
    with torch.no_grad():
        net.weight.copy_(weight)
        net.bias.copy_(torch.tensor(fit.mean_))
    p = (Normal("p(x|z)", loc=net, scale=scale) * Normal("p(z)", loc=torch.zeros(4).double(), scale=1.0)).marginalize_var("z")
    given = {"x": torch.tensor(x)}
    torch.testing.assert_close(p.log_likelihood(given).detach(), torch.tensor(fit.score_samples(x)), rtol=1e-8, atol=1e-6)
    if kind == "factor analysis":
        torch.testing.assert_close(p.posterior().mean(given).detach(), torch.tensor(fit.transform(x)), rtol=1e-6, atol=1e-7)
