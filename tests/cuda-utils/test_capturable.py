"""Models without obstacles are told of none, stay as they are, and what is no model is an error."""

import copy
import random
from itertools import pairwise

import pytest
import torch
from torch import nn

from pixyz.core import KindError, Loss, MissingVariableError, Parameter, ParameterError, ShapeError, SupportError
from pixyz.cuda_utils import Obstacle, Obstacles, capturable, precision
from pixyz.distributions import Bernoulli, Categorical, Deterministic, MixtureModel, Normal, VectorQuantizer
from pixyz.flows import FFJORD, RealNVP
from pixyz.gan import GAN, AdversarialWassersteinDistance, GradientPenalty
from pixyz.losses import ELBO, Commitment, IterativeLoss
from pixyz.models import ML, VAE, LinearSchedule, Model

NONE = "nothing in this step would break a CUDA graph"


class Encoder(nn.Module):
    """The parameters of q(z|x), with all that a network may change: batch normalisation, dropout, and a list."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 4))
        self.seen = []

    def forward(self, x):
        self.seen.append(x.shape)
        loc, scale = self.net(x).chunk(2, -1)
        return {"loc": loc, "scale": scale.exp()}


def vae(**options):
    p, prior = Bernoulli("p(x|z)", logits=nn.Linear(2, 6)), Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    return VAE(Normal("q(z|x)", Encoder()), p, prior, **options)


def scheduled():
    p, prior = Bernoulli("p(x|z)", logits=nn.Linear(2, 6)), Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    loss = -ELBO(p * prior, Normal("q(z|x)", Encoder()), kl="analytic", beta=Parameter("beta")).mean()
    return Model(loss, schedules={"beta": LinearSchedule(0.0, 1.0, steps=100)}, ema=0.9, clip_grad_norm=1.0, clip_grad_value=0.5)


def gan(**options):
    g = Deterministic("p(x|z)", x=nn.Linear(2, 6))
    p = (g * Normal("p(z)", loc=0.0, scale=1.0, dim=2)).marginalize_var("z")
    d = Deterministic("d(t|x)", t=nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(), nn.Linear(8, 1)))
    return GAN(p, d, loss=lambda p, d: AdversarialWassersteinDistance(p, d) - 10 * GradientPenalty(p, d), **options)


def enumerated():
    p = Bernoulli("p(x|k)", logits=nn.Linear(3, 6)) * Categorical("p(k)", probs=torch.full((3,), 1 / 3))
    return Model(-ELBO(p, Categorical("q(k|x)", logits=nn.Linear(6, 3))).mean())


def mixture():
    experts = [Normal(f"p_{k}(x)", loc=nn.Parameter(torch.randn(6)), scale=1.0) for k in range(3)]
    return ML(MixtureModel(experts, Categorical("p(k)", logits=nn.Parameter(torch.zeros(3)))))


def chain():
    names = [f"z_{t}" for t in range(5)]
    start = Categorical("p(z)", logits=nn.Parameter(torch.zeros(3)))
    move, shown = Categorical("p(z_next|z)", logits=nn.Linear(3, 3)), Normal("p(x|z)", loc=nn.Linear(3, 1), scale=1.0)
    p = start.replace_var(z=names[0])
    for a, b in pairwise(names):
        p = p * move.replace_var(z=a, z_next=b)
    for t, z in enumerate(names):
        p = p * shown.replace_var(z=z, x=f"x_{t}")
    return ML(p.marginalize_var(names))


def sequence():
    p = Normal("p(x|z)", loc=nn.Linear(2, 1), scale=1.0) * Normal("p(z|z_prev)", loc=nn.Linear(2, 2), scale=1.0)
    q = Normal("q(z|x,z_prev)", loc=Beside(), scale=0.5)
    return Model(-IterativeLoss(ELBO(p, q), series_var=["x"], update_value={"z": "z_prev"}).mean())


class Beside(nn.Linear):
    """A layer of x and z_prev, side by side."""

    def __init__(self):
        super().__init__(3, 2)

    def forward(self, x, z_prev):
        return super().forward(torch.cat([x, z_prev], -1))


def quantised():
    q = VectorQuantizer("q(z|x)", z=nn.Linear(6, 2), num_codes=5, dim=2, decay=0.9, restart_below=0.1)
    p = Normal("p(x|z)", loc=nn.Linear(2, 6), scale=1.0)
    return Model((-p.log_prob().expectation(q) + Commitment(q)).mean())


def shared():
    """A layer that a function keeps, and that another distribution registers."""
    layer = nn.Linear(6, 6)
    with pytest.warns(UserWarning, match="parameters it cannot register"):
        features = Deterministic("h(h|x)", h=lambda x: layer(x))
    p, q = Normal("p(h)", loc=nn.Parameter(torch.zeros(6)), scale=1.0), Normal("q(y|x)", loc=layer, scale=1.0)
    return Model(-(p.log_prob().expectation(features) + q.log_prob()).mean())


X = {"x": torch.rand(8, 6, generator=torch.Generator().manual_seed(0)).round()}
CLEAN = {
    "a VAE": (vae, X),
    "warming up, averaged, clipped": (scheduled, X),
    "accumulating": (lambda: vae(accumulate=3), X),
    "SGD with a schedule": (lambda: falling(), X),
    "RMSprop, one weight after the other": (lambda: vae(optimizer=torch.optim.RMSprop), X),
    "compiled": (lambda: vae(compile={"backend": "eager"}), X),
    "a game with a gradient penalty": (lambda: gan(n_critic=2), X),
    "a game at once": (lambda: gan(at_once=True), X),
    "a continuous flow": (lambda: ML(FFJORD("p(x)", features=6, hidden=[8], steps=2)), X),
    "a flow": (lambda: ML(RealNVP("p(x)", features=6, transforms=2, hidden=[8])), X),
    "an enumerated latent variable": (enumerated, X),
    "a mixture": (mixture, X),
    "a chain": (chain, {f"x_{t}": torch.randn(4, 1) for t in range(5)}),
    "a sequence": (sequence, {"x": torch.randn(4, 5, 1), "z_prev": torch.zeros(4, 2)}),
    "codes that follow": (quantised, X),
    "a layer that two share": (shared, {**X, "y": torch.zeros(8, 6)}),
}


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_model_has_no_obstacle(name):
    build, values = CLEAN[name]
    torch.manual_seed(0)
    found = capturable(build(), values)
    assert str(found) == NONE
    assert found == []


class Of(nn.Module):
    """The loc of a normal distribution, by a function of a network and x."""

    def __init__(self, net, function):
        super().__init__()
        self.net, self.function = net, function

    def forward(self, x):
        return self.function(self.net, x)


def zeros_where_negative(y):
    y[y < 0] = 0.0
    return y


NETWORKS = {
    "convolutions": lambda: Of(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 1, 3, padding=1)),
        lambda net, x: net(x.view(-1, 1, 2, 3)).flatten(1),
    ),
    "recurrent": lambda: Of(nn.GRU(2, 6, batch_first=True), lambda net, x: net(x.view(-1, 3, 2))[0][:, -1]),
    "attention": lambda: Of(nn.TransformerEncoderLayer(2, 1, 4, batch_first=True), lambda net, x: net(x.view(-1, 3, 2)).flatten(1)),
    "spectral normalisation": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)),
    "positions": lambda: Of(nn.Embedding(6, 1), lambda net, x: x + net(torch.arange(6, device=x.device)).squeeze(-1)),
    "classes": lambda: Of(nn.Linear(12, 6), lambda net, x: net(nn.functional.one_hot(x.long(), 2).flatten(1).to(x.dtype))),
    "a mask": lambda: Of(nn.Linear(6, 6), lambda net, x: torch.where(x > 0.5, net(x), 0.0).masked_fill(x < 0, -1.0)),
    "numbers under a mask": lambda: Of(nn.Linear(6, 6), lambda net, x: zeros_where_negative(net(x))),
    "a histogram": lambda: Of(nn.Linear(6, 6), lambda net, x: net(x) + torch.histc(x, 6, -1.0, 1.0)),
    "gradients of functions": lambda: Of(nn.Linear(6, 6), lambda net, x: torch.func.vmap(torch.func.jacrev(net))(x).sum(-1)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_usual_network_has_no_obstacle(name):
    torch.manual_seed(0)
    loss = -Normal("p(y|x)", loc=NETWORKS[name](), scale=1.0).log_prob().mean()
    assert str(capturable(Model(loss), {**X, "y": torch.zeros(8, 6)})) == NONE


def falling():
    return vae(
        optimizer=torch.optim.SGD,
        optimizer_params={"lr": 0.1, "momentum": 0.9},
        scheduler=torch.optim.lr_scheduler.ExponentialLR,
        scheduler_params={"gamma": 0.9},
    )


@pytest.mark.parametrize(
    ("build", "steps"),
    [(vae, 0), (vae, 4), (scheduled, 1), (lambda: vae(accumulate=3), 4), (falling, 4), (gan, 1), (quantised, 1)],
    ids=["new", "trained", "averaged", "accumulating", "falling", "game", "codes"],
)
def test_the_model_goes_on_as_if_nobody_had_looked(build, steps):
    torch.manual_seed(0)
    model = build()
    for _ in range(steps):
        model.train(X)
    twin = copy.deepcopy(model.loss.state_dict())
    before = (model.step_count, model.validate, random.getstate(), torch.get_rng_state(), [m.training for m in model.loss.modules()])
    grads = [None if w.grad is None else w.grad.clone() for w in model.trained_parameters]
    attributes = [(m, [*m.seen]) for m in model.loss.modules() if isinstance(m, Encoder)]
    capturable(model, X)
    after = (model.step_count, model.validate, random.getstate(), torch.get_rng_state(), [m.training for m in model.loss.modules()])
    assert before[:3] == after[:3]
    assert torch.equal(before[3], after[3])
    assert before[4] == after[4]
    for name, tensor in model.loss.state_dict().items():
        assert torch.equal(tensor, twin[name])
    for weight, grad in zip(model.trained_parameters, grads, strict=True):
        assert (weight.grad is None) if grad is None else torch.equal(weight.grad, grad)
    for module, seen in attributes:
        assert module.seen == seen
    torch.manual_seed(1)
    ours = [model.train(X) for _ in range(4)]
    torch.manual_seed(0)
    other = build()
    for _ in range(steps):
        other.train(X)
    torch.manual_seed(1)
    theirs = [other.train(X) for _ in range(4)]
    assert torch.equal(torch.stack(ours), torch.stack(theirs))
    for a, b in zip(model.loss.state_dict().values(), other.loss.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_counts_and_tensors_in_attributes_are_put_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls, self.last = 0, None
            self.table = torch.zeros(6)

        def forward(self, x):
            self.calls += 1
            self.last = x.mean()
            self.table += 1
            self.register_buffer("extra", x)
            return x

    network = Counting()
    p = Normal("p(y|x)", loc=network, scale=nn.Parameter(torch.ones(6)))
    random.seed(0)
    capturable(-p.log_prob().mean(), {**X, "y": torch.zeros(8, 6)})
    assert (network.calls, network.last, network.table.sum(), {*network._buffers}) == (0, None, 0, set())


def test_a_failing_example_leaves_the_model_as_it_was():
    model = vae()
    weights = [w.clone() for w in model.trained_parameters]
    with pytest.raises(SupportError):
        capturable(model, {"x": torch.full((8, 6), torch.nan)})
    assert all(torch.equal(a, b) for a, b in zip(weights, model.trained_parameters, strict=True))
    assert (model.step_count, model.validate, model.optimizer.state) == (0, True, {})


def test_a_loss_alone_is_looked_at():
    assert capturable(vae().loss, X) == []


def test_what_cannot_be_looked_at_is_an_error():
    model = vae()
    with pytest.raises(KindError, match="capturable takes a model of pixyz.models or a scalar loss; got a Linear"):
        capturable(nn.Linear(2, 2), X)
    with pytest.raises(ShapeError, match=r"capturable needs one number, but .* has one per datum"):
        capturable(Normal("p(x)", loc=nn.Parameter(torch.zeros(6)), scale=1.0).log_prob(), X)
    with pytest.raises(MissingVariableError, match=r"needs x; got \{'y'\}"):
        capturable(model, {"y": X["x"]})
    with pytest.raises(KindError, match="takes a mapping from variables to tensors"):
        capturable(model, X["x"])
    with pytest.raises(ShapeError, match=r"p\(x\)"):
        capturable(ML(Normal("p(x)", loc=nn.Parameter(torch.zeros(6)), scale=1.0)), {"x": torch.zeros(8, 5)})
    with pytest.raises(ParameterError, match="has no gradient, for it has no parameter that requires one"):
        capturable(Normal("p(x)", loc=0.0, scale=1.0).log_prob().mean(), X)
    with pytest.raises(ParameterError, match="has no gradient: its value depends on no parameter that requires one"):
        capturable(Normal("p(x)", loc=nn.Parameter(torch.zeros(6)), scale=1.0).log_prob().detach().mean(), X)


def test_a_parameter_without_a_shape_is_an_error():
    loss = -Normal("p(y|x)", loc=nn.LazyLinear(6), scale=1.0).log_prob().mean()
    with pytest.raises(ParameterError, match=r"capturable: p\(y\|x\).* has no shape yet"):
        capturable(loss, {**X, "y": torch.zeros(8, 6)})


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["a VAE", "warming up, averaged, clipped", "a game at once", "an enumerated latent variable", "a chain"])
def test_a_clean_model_has_no_obstacle_on_a_device(name, device):
    build, values = CLEAN[name]
    model = build()
    model.loss.to(device)
    assert str(capturable(model, {v: t.to(device) for v, t in values.items()})) == NONE


@pytest.mark.gpu
def test_obstacles_on_a_device(device):
    def plant(x):
        y = x * x.mean().item() + torch.tensor(0.5, device=x.device) * x[x > 0.5].sum() + x.cpu().mean().to(x.device)
        return (y + torch.tensor(2.0)).sum(-1)

    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(6)), scale=1.0)
    model = ML(p)
    loss = model.loss + Loss.from_function(plant, "f", var=["x"]).mean()
    loss.to(device)
    kinds = {o.kind for o in capturable(Model(loss), {"x": X["x"].to(device)})}
    assert kinds == {"host read", "copy from the host", "data-dependent shape", "copy to the host", "number on the host"}


def test_an_obstacle_says_whether_the_capture_fails():
    kinds = {"host read": True, "copy from the host": True, "new number": False, "number on the host": False}
    for kind, stops in kinds.items():
        assert Obstacle(kind, "", "", "", 0, "forward").stops_capture is stops
    assert str(Obstacles()) == NONE


class Steep(Normal):
    """Its gradient overflows at the scales with which float16 begins."""

    def __init__(self):
        super().__init__(var=["x"], cond_var=["z"])
        self.net = nn.Linear(2, 2)

    def forward(self, z):
        return {"loc": 60 * self.net(z), "scale": torch.ones_like(z)}


def test_steps_that_overflow_are_no_obstacle():
    model = Model(-Steep().log_prob().mean(), optimizer=torch.optim.Adam)
    with precision("f16"):
        assert str(capturable(model, {"x": torch.zeros(4, 2), "z": torch.ones(4, 2)})) == "nothing in this step would break a CUDA graph"
        assert model.skipped_steps == 0
        assert not model.optimizer.state
