"""Every example of the library's founding text, with 784 for its 128 and its indentation restored."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn, optim

from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.losses import ELBO, NLL
from pixyz.models import VI, Model


class Inference(Normal):
    def __init__(self):
        super(Inference, self).__init__(cond_var=["x"], var=["z"], name="q")  # noqa: UP008
        self.fc1 = nn.Linear(784, 512)
        self.fc2 = nn.Linear(512, 512)
        self.fc31 = nn.Linear(512, 64)
        self.fc32 = nn.Linear(512, 64)

    def forward(self, x):
        h = F.relu(self.fc1(x))
        h = F.relu(self.fc2(h))
        return {"loc": self.fc31(h), "scale": F.softplus(self.fc32(h))}


class Generator(Bernoulli):
    def __init__(self):
        super(Generator, self).__init__(cond_var=["z"], var=["x"], name="p")  # noqa: UP008
        self.fc1 = nn.Linear(64, 512)
        self.fc2 = nn.Linear(512, 512)
        self.fc3 = nn.Linear(512, 784)

    def forward(self, z):
        h = F.relu(self.fc1(z))
        h = F.relu(self.fc2(h))
        return {"probs": F.sigmoid(self.fc3(h))}


@pytest.fixture
def p():
    return Generator()


@pytest.fixture
def q():
    return Inference()


@pytest.fixture
def prior():
    loc = torch.tensor(0.0)
    scale = torch.tensor(1.0)
    return Normal(loc=loc, scale=scale, var=["z"], dim=64, name="p_prior")


@pytest.fixture
def x_tensor():
    return (torch.rand(32, 784) < 0.2).float()


def test_print_p(p, capsys):
    print(p)
    assert capsys.readouterr().out == (
        "Distribution:\n"
        "  p(x|z) (Bernoulli)\n"
        "Network architecture:\n"
        "  Generator(\n"
        "    (fc1): Linear(in_features=64, out_features=512, bias=True)\n"
        "    (fc2): Linear(in_features=512, out_features=512, bias=True)\n"
        "    (fc3): Linear(in_features=512, out_features=784, bias=True)\n"
        "  )\n"
    )


def test_print_p_joint(p, prior, capsys):
    p_joint = p * prior
    print(p_joint)
    assert capsys.readouterr().out == (
        "Distribution:\n"
        "  p(x,z) = p(x|z)p_prior(z)\n"
        "Network architecture:\n"
        "  p_prior(z) (Normal): Normal(loc=0, scale=1)\n"
        "  p(x|z) (Bernoulli): Generator(\n"
        "    (fc1): Linear(in_features=64, out_features=512, bias=True)\n"
        "    (fc2): Linear(in_features=512, out_features=512, bias=True)\n"
        "    (fc3): Linear(in_features=512, out_features=784, bias=True)\n"
        "  )\n"
    )


def test_model_api(p, q, prior, x_tensor):
    p_joint = p * prior
    model = VI(p_joint, q, optimizer=optim.Adam, optimizer_params={"lr": 1e-3})
    losses = [model.train({"x": x_tensor}).item() for _ in range(20)]
    assert losses[0] == pytest.approx(784 * 0.6931, rel=0.05)
    assert losses[-1] < 0.8 * losses[0]


def test_loss_api(p, q, prior, x_tensor):
    p_joint = p * prior
    loss = -ELBO(p_joint, q).mean()
    assert str(loss) == "-mean(E_q(z|x)[log p(x,z)/q(z|x)])"
    optimizer = optim.Adam(loss.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss_tensor = loss.estimate({"x": x_tensor})
        optimizer.zero_grad()
        loss_tensor.backward()
        optimizer.step()
        losses.append(loss_tensor.item())
    assert losses[-1] < 0.8 * losses[0]


def test_distribution_api_only(p, q, prior, x_tensor):
    samples_dict = prior.sample()
    assert samples_dict["z"].shape == (1, 64)
    assert set(p.sample(samples_dict)) == {"x", "z"}
    p_joint = p * prior
    drawn = p_joint.sample()
    assert {k: tuple(v.shape) for k, v in drawn.items()} == {"z": (1, 64), "x": (1, 784)}
    assert set(drawn["x"].unique().tolist()) <= {0.0, 1.0}

    data = {"x": x_tensor, "z": torch.randn(32, 64)}
    loglike = p.log_likelihood(data)
    assert loglike.shape == (32,)
    torch.testing.assert_close(loglike, torch.distributions.Bernoulli(p(z=data["z"])["probs"]).log_prob(x_tensor).sum(-1))

    optimizer = optim.Adam([*q.parameters(), *p.parameters()], lr=1e-3)
    elbos = []
    for _ in range(20):
        samples_dict = q.sample({"x": x_tensor})  # z~q(z|x)
        elbo = p_joint.log_likelihood(samples_dict) - q.log_likelihood(samples_dict)  # log p(x,z)-log q(z|x)
        optimizer.zero_grad()
        (-elbo.mean()).backward()
        optimizer.step()
        elbos.append(elbo.mean().item())
    assert elbos[-1] > 0.8 * elbos[0]
    assert all(w.grad.abs().sum() > 0 for w in q.parameters())


# The semi-supervised VAE of section 2.2


class LabelledInference(Normal):
    """q(z|x,y)"""

    def __init__(self):
        super().__init__(cond_var=["x", "y"], var=["z"], name="q")
        self.fc1 = nn.Linear(784 + 10, 128)
        self.fc21 = nn.Linear(128, 64)
        self.fc22 = nn.Linear(128, 64)

    def forward(self, x, y):
        h = F.relu(self.fc1(torch.cat([x, y], 1)))
        return {"loc": self.fc21(h), "scale": F.softplus(self.fc22(h))}


class LabelledGenerator(Bernoulli):
    """p(x|z,y)"""

    def __init__(self):
        super().__init__(cond_var=["z", "y"], var=["x"], name="p")
        self.fc1 = nn.Linear(64 + 10, 128)
        self.fc2 = nn.Linear(128, 784)

    def forward(self, z, y):
        h = F.relu(self.fc1(torch.cat([z, y], 1)))
        return {"probs": F.sigmoid(self.fc2(h))}


class Classifier(Categorical):
    """p(y|x)"""

    def __init__(self):
        super().__init__(cond_var=["x"], var=["y"], name="p")
        self.fc1 = nn.Linear(784, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        return {"probs": F.softmax(self.fc2(F.relu(self.fc1(x))), dim=1)}


@pytest.fixture
def semi_supervised(prior):
    p, q, f = LabelledGenerator(), LabelledInference(), Classifier()
    p_joint = p * prior
    p_joint_u = p_joint.replace_var(x="x_u", y="y_u")
    q_u = q.replace_var(x="x_u", y="y_u") * f.replace_var(x="x_u", y="y_u")
    elbo_u = ELBO(p_joint_u, q_u)
    elbo = ELBO(p_joint, q)
    nll = NLL(f)
    return p, q, f, -(elbo - (0.1 * nll)).sum() - elbo_u.sum()


@pytest.fixture
def semi_data(x_tensor):
    y = torch.eye(10)[torch.arange(32) % 10]
    x_u = (torch.rand(48, 784) < 0.2).float()
    return {"x": x_tensor, "y": y, "x_u": x_u}


def test_semi_supervised_print(semi_supervised):
    """As in the text, but for its NLL, which lacked its sign, and a pair of brackets that are not needed."""
    assert str(semi_supervised[-1]) == (
        "-sum(E_q(z|x,y)[log p(x,z|y)/q(z|x,y)] - 0.1 * (-log p(y|x))) - sum(E_p(z,y_u|x_u)[log p(x_u,z|y_u)/p(z,y_u|x_u)])"
    )


def test_semi_supervised_estimate_and_step(semi_supervised, semi_data):
    p, q, f, loss_cls = semi_supervised
    loss_tensor = loss_cls.estimate(semi_data)
    assert loss_tensor.shape == ()
    assert loss_tensor.item() == pytest.approx((32 + 48) * 784 * 0.6931, rel=0.05)
    optimizer = optim.Adam(list(q.parameters()) + list(p.parameters()) + list(f.parameters()), lr=1e-3)
    optimizer.zero_grad()
    loss_tensor.backward()
    assert all(w.grad.abs().sum() > 0 for d in (p, q, f) for w in d.parameters())
    optimizer.step()


def test_semi_supervised_train(semi_supervised, semi_data):
    p, q, f, loss_cls = semi_supervised
    model = Model(loss_cls, distributions=[p, q, f], optimizer=optim.Adam, optimizer_params={"lr": 1e-3})
    losses = [model.train(semi_data).item() for _ in range(15)]
    assert losses[-1] < 0.9 * losses[0]


def test_semi_supervised_unlabelled_term_sums_the_labels_exactly(semi_supervised, semi_data, prior):
    """E over y_u and z of log p(x_u,z|y_u)/q(z,y_u|x_u): with the noise of z fixed, the same as ten labelled bounds, weighted."""
    p, q, f, _ = semi_supervised
    from pixyz.core import seeded

    x = semi_data["x_u"]
    joint = q * f
    with torch.no_grad():
        with seeded(0):
            value = ELBO(p * prior, joint).estimate({"x": x})
        with seeded(0):
            noise = torch.randn(10, 48, 64)
        total = 0
        for k in range(10):
            y = torch.eye(10)[k].expand(48, 10)
            given = q(x=x, y=y)
            z = given["loc"] + given["scale"] * noise[k]
            everything = {"x": x, "y": y, "z": z}
            ratio = (p * prior).log_likelihood(everything) - joint.log_likelihood(everything)
            total = total + f.log_likelihood({"x": x, "y": y}).exp() * ratio
    torch.testing.assert_close(value, total)


def test_the_founding_texts_own_slip_is_caught(q, prior):
    """The text's generator has 128 outputs for 784 pixels: the error says so."""

    class Slip(Generator):
        def __init__(self):
            super().__init__()
            self.fc3 = nn.Linear(512, 128)

    with pytest.raises(ValueError, match=re.escape("p(x|z): x has features (784,), but the network's probs have (128,).")):
        (-ELBO(Slip() * prior, q).mean()).estimate({"x": torch.zeros(4, 784)})
