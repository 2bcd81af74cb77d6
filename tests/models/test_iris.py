"""A mixture of normal distributions with full covariances, fitted by gradients, comes to where EM does."""

import pytest
import torch
from torch import nn, optim

from pixyz.distributions import Categorical, MixtureModel, MultivariateNormal
from pixyz.models import ML

datasets = pytest.importorskip("sklearn.datasets", reason="the flowers and the reference are scikit-learn's")
cluster = pytest.importorskip("sklearn.cluster", reason="the start is scikit-learn's k-means")
mixture = pytest.importorskip("sklearn.mixture", reason="the reference is scikit-learn's EM")


class Cluster(MultivariateNormal):
    """A learned mean and covariance."""

    def __init__(self, loc, covariance):
        super().__init__("p(x)")
        tril = torch.linalg.cholesky(covariance)
        self.mu, self.below, self.log_diagonal = nn.Parameter(loc), nn.Parameter(tril), nn.Parameter(tril.diagonal().log())

    def forward(self):
        return {"loc": self.mu, "scale_tril": self.below.tril(-1) + self.log_diagonal.exp().diag()}


def test_iris_within_a_hundredth_of_a_nat_per_flower():
    x = torch.tensor(datasets.load_iris().data)
    numbers = torch.tensor(cluster.KMeans(3, n_init=10, random_state=0).fit_predict(x.numpy())).long()
    groups = [x[numbers == k] for k in range(3)]
    weights = torch.tensor([len(g) for g in groups]).double() / len(x)
    means, covariances = torch.stack([g.mean(0) for g in groups]), torch.stack([g.T.cov() for g in groups])
    begin = {"weights_init": weights.numpy(), "means_init": means.numpy(), "precisions_init": covariances.inverse().numpy()}
    reference = mixture.GaussianMixture(3, **begin, tol=1e-8, max_iter=1000).fit(x.numpy())
    assert reference.score(x.numpy()) == pytest.approx(-1.2012, abs=1e-3)

    parts = [Cluster(m, c) for m, c in zip(means, covariances)]
    p = MixtureModel(parts, Categorical("p(k)", logits=nn.Parameter(weights.log())))
    start = p.log_likelihood({"x": x}).mean().item()
    model = ML(p, optimizer=optim.Adam, optimizer_params={"lr": 0.01, "betas": (0.9, 0.99)})
    for _ in range(300):
        model.train({"x": x})
    with torch.no_grad():
        found = p.log_likelihood({"x": x}).mean().item()
        shares = p.posterior("k").mean({"x": x})
    assert start < -1.3
    assert abs(found - reference.score(x.numpy())) < 0.01
    # EM's own parameters have the likelihood that EM says, and nearly the same clusters.
    probs = torch.tensor(reference.weights_)
    theirs = MixtureModel(
        [
            MultivariateNormal("p(x)", loc=torch.tensor(m), covariance_matrix=torch.tensor(c))
            for m, c in zip(reference.means_, reference.covariances_)
        ],
        Categorical("p(k)", probs=probs / probs.sum()),
    )
    assert theirs.log_likelihood({"x": x}).mean().item() == pytest.approx(reference.score(x.numpy()), abs=1e-9)
    torch.testing.assert_close(theirs.posterior("k").mean({"x": x}), torch.tensor(reference.predict_proba(x.numpy())), atol=1e-8, rtol=1e-6)
    assert (shares - torch.tensor(reference.predict_proba(x.numpy()))).abs().max() < 0.1
