"""The models that tests share."""

import torch
import torch.nn.functional as F
from torch import nn

from pixyz.distributions import Bernoulli, Categorical, Deterministic, Normal


class Encoder(Normal):
    """q(z|x)"""

    def __init__(self, x=6, z=2, hidden=8, dropout=0.0):
        super().__init__(var=["z"], cond_var=["x"], name="q")
        self.fc1 = nn.Linear(x, hidden)
        self.drop = nn.Dropout(dropout)
        self.loc = nn.Linear(hidden, z)
        self.scale = nn.Linear(hidden, z)

    def forward(self, x):
        h = self.drop(F.relu(self.fc1(x)))
        return {"loc": self.loc(h), "scale": F.softplus(self.scale(h)) + 1e-3}


class Decoder(Bernoulli):
    """p(x|z)"""

    def __init__(self, x=6, z=2, hidden=8):
        super().__init__(var=["x"], cond_var=["z"], name="p")
        self.fc1 = nn.Linear(z, hidden)
        self.fc2 = nn.Linear(hidden, x)

    def forward(self, z):
        return {"probs": torch.sigmoid(self.fc2(F.relu(self.fc1(z))))}


class Linear(Normal):
    """p(var|cond_var): normal with a linear mean and a constant scale."""

    def __init__(self, var, cond_var, weight, bias, scale, name="p"):
        super().__init__(var=[var], cond_var=[cond_var], name=name)
        self.weight, self.bias, self.sd = nn.Parameter(weight), nn.Parameter(bias), nn.Parameter(torch.as_tensor(scale, dtype=weight.dtype))

    def forward(self, **given):
        (x,) = given.values()
        loc = x @ self.weight.T + self.bias
        return {"loc": loc, "scale": self.sd.expand_as(loc)}


class Label(Categorical):
    """p(y|x)"""

    def __init__(self, x=6, y=3, name="p"):
        super().__init__(var=["y"], cond_var=["x"], name=name)
        self.fc = nn.Linear(x, y)

    def forward(self, x):
        return {"probs": self.fc(x).softmax(-1)}


class Hidden(Deterministic):
    """f(h|z)"""

    def __init__(self, z=2, h=3):
        super().__init__(var=["h"], cond_var=["z"], name="f")
        self.fc = nn.Linear(z, h)

    def forward(self, z):
        return {"h": torch.tanh(self.fc(z))}


class Computed(nn.Module):
    """A function of the conditioning variables, which are its arguments, and the networks that it uses."""

    def __init__(self, function, *networks):
        super().__init__()
        self.function = function
        self.networks = nn.ModuleList(networks)

    def forward(self, **given):
        return self.function(**given)


def prior(z=2, name="p_prior"):
    return Normal(var=["z"], loc=torch.tensor(0.0), scale=torch.tensor(1.0), dim=z, name=name)


def binary(batch=5, x=6):
    return (torch.rand(batch, x) > 0.5).float()
