"""Whole flows: each is a density, that of its own draws, on any condition; the continuous one against matrix exponentials."""

import math

import pytest
import torch
from torch import nn

from pixyz import flows
from pixyz.core import KindError, ParameterError, ShapeError, seeded
from pixyz.distributions import Normal
from pixyz.flows import FFJORD, IAF, MAF, NSF, Glow, InverseTransformedDistribution, RealNVP, TransformedDistribution, testing
from pixyz.losses import ELBO, NLL


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


PLANE = {
    "RealNVP": lambda text, **o: RealNVP(text, features=2, hidden=[8], **{"transforms": 3, **o}),
    "NSF": lambda text, **o: NSF(text, features=2, hidden=[8], bins=4, **{"transforms": 2, **o}),
    "NSF(autoregressive)": lambda text, **o: NSF(text, features=2, hidden=[8], bins=4, kind="autoregressive", **{"transforms": 2, **o}),
    "MAF": lambda text, **o: MAF(text, features=2, hidden=[8], **{"transforms": 3, **o}),
    "IAF": lambda text, **o: IAF(text, features=2, hidden=[8], **{"transforms": 3, **o}),
    "FFJORD": lambda text, **o: FFJORD(text, features=2, hidden=[8], solver="midpoint", **{"steps": 3, **o}),
}
IMAGES = {
    "Glow": lambda text, **o: Glow(text, features=(1, 4, 4), hidden=[4], **{"transforms": 1, **o}),
    "Glow(one level)": lambda text, **o: Glow(text, features=(2, 2, 4), levels=1, hidden=[4], **{"transforms": 2, **o}),
    "RealNVP(image)": lambda text, **o: RealNVP(text, features=(1, 3, 4), hidden=[4], **{"transforms": 2, **o}),
    "NSF(image)": lambda text, **o: NSF(text, features=(2, 2, 3), hidden=[4], bins=4, **{"transforms": 2, **o}),
    "FFJORD(image)": lambda text, **o: FFJORD(text, features=(1, 2, 2), hidden=[4], solver="midpoint", **{"steps": 3, **o}),
}
MODELS = PLANE | IMAGES


def ready(make, text, **options):
    """Started, and nowhere near the identity."""
    p = make(text, **options)
    testing.moved(p.generator)
    p.initialize({"x": data(p) * 1.5 + 0.5, **{v: torch.randn(50, 2) for v in p.cond_var}})
    return p


def data(p, n=50):
    return torch.randn(n, *p.generator.out_shape)


def test_the_table_is_complete():
    public = {f for name in flows.__all__ if isinstance(f := getattr(flows, name), type) and issubclass(f, TransformedDistribution)}
    held = {type(make("p(x)")) for make in MODELS.values()}
    assert held == public - {TransformedDistribution, InverseTransformedDistribution}


@pytest.mark.parametrize("name", [name for name in MODELS if "FFJORD" not in name])
def test_another_activation_stands_in_every_network(name):
    p = MODELS[name]("p(x)", activation=nn.ELU)
    with_hidden_layers = [
        m for m in p.modules() if isinstance(m, (nn.Sequential, flows.MaskedAutoregressive)) and len([*m.parameters()]) > 2
    ]
    assert len(with_hidden_layers) == len([m for m in p.modules() if isinstance(m, nn.ELU)]) > 0
    assert not [m for m in p.modules() if isinstance(m, nn.ReLU)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cond", ["", "|y"])
def test_the_density_is_that_of_the_noise_times_the_jacobian(name, cond):
    p = ready(MODELS[name], f"p(x{cond})", context=2 if cond else 0)
    x = data(p, 4)
    y = torch.randn(4, 2)

    x.requires_grad_()
    z, _ = p.generator.inverse_and_log_det(x, y if cond else None)
    z = z.flatten(1)
    rows = [torch.autograd.grad(z[:, i].sum(), x, retain_graph=True)[0].flatten(1) for i in range(z.shape[1])]
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + torch.linalg.slogdet(torch.stack(rows, 1))[1]
    tolerance = 5e-2 if isinstance(p, FFJORD) else 1e-9  # that of a few steps; of many, see below
    torch.testing.assert_close(p.log_likelihood({"x": x, "y": y}), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", PLANE)
def test_the_density_integrates_to_one_and_is_that_of_the_draws(name):
    p = ready(PLANE[name], "p(x|y)", context=2)
    y = torch.tensor([[0.4, -0.8]])
    line = torch.linspace(-12.0, 12.0, 121)
    points = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    with torch.no_grad(), seeded(0):
        density = p.log_likelihood({"x": points, "y": y.expand(len(points), 2)}).exp() * (line[1] - line[0]) ** 2
        x = p.sample({"y": y.expand(10_000, 2)})["x"]
    assert density.sum().item() == pytest.approx(1.0, abs=2e-3)
    for power in (1, 2):
        exact = (density[:, None] * points**power).sum(0)
        error = (x**power).std(0) / len(x) ** 0.5
        assert ((x**power).mean(0) - exact).abs().lt(5 * error + 1e-2).all()


def started(name, **options):
    """It, with a condition of two variables, started by data, and these."""
    p = MODELS[name]("p(x|y,h)", context=3, **options)
    values = {"x": data(p) * 3 + 1, "y": torch.randn(50, 2), "h": torch.randn(50, 1)}
    p.initialize(values)
    return p, values


@pytest.mark.parametrize("name", MODELS)
def test_it_starts_from_data_and_trains_whole(name):
    p, values = started(name)
    assert not p.needs_start
    NLL(p).mean().estimate(values).backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in p.parameters())
    assert all(w.grad.any() for n, w in p.named_parameters() if not n.endswith("bias"))


@pytest.mark.parametrize("name", MODELS)
def test_it_runs_as_one_graph(name):
    """With one transform, or one step: another is the same graph once more."""
    p, values = started(name, **{"steps" if "FFJORD" in name else "transforms": 1})
    loss = NLL(p).mean()
    with torch.no_grad():
        expected = loss.estimate(values)
        loss.compile(fullgraph=True, backend="eager")
        torch.testing.assert_close(loss.estimate(values), expected)


def test_glow_knows_the_half_that_goes_on():
    """The half that is done has a mean and a scale that the other half gives; without, the scales would be independent."""
    p = ready(MODELS["Glow"], "p(x)")
    squeezed = p.generator.inverse.layers[0]
    z = torch.randn(3, 16)
    other = torch.cat([z[:, :8], torch.randn(3, 8)], 1)
    assert squeezed.in_shape == (1, 4, 4)
    (split,) = [f for f in p.generator.inverse.layers if type(f).__name__ not in flows.__all__]
    (last,) = [f for f in p.generator.inverse.layers if getattr(f, "swap", False)]
    done, there = (last.pull(split.pull(t, None)[0], None)[0][:, :2] for t in (z, other))
    assert (done - there).abs().amin() > 1e-6


def test_glow_of_colour_images():
    torch.set_default_dtype(torch.float32)
    p = Glow("p(x)", features=(3, 32, 32), levels=3, transforms=2, hidden=[16])
    x = torch.rand(8, 3, 32, 32)
    p.initialize({"x": x})
    z, log_det = p.generator.inverse_and_log_det(x)
    assert z.shape == (8, 3072)
    back, log_det_back = p.generator.forward_and_log_det(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-4)
    torch.testing.assert_close(log_det_back, -log_det, rtol=1e-5, atol=0)
    assert p.sample(batch_size=2)["x"].shape == (2, 3, 32, 32)
    base = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(p.log_likelihood({"x": x}), base + log_det)


def test_glow_as_a_decoder():
    p = Glow("p(x|z)", features=(1, 4, 4), context=2, transforms=1, hidden=[4]) * Normal("p(z)", loc=0.0, scale=1.0, features_shape=[2])
    q = Normal("q(z|x)", loc=nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), scale=0.5)
    bound = ELBO(p, q, num_samples=3).mean().estimate({"x": torch.randn(5, 1, 4, 4)})
    bound.backward()
    assert bound.isfinite()
    assert all(w.grad is not None for w in p.parameters())


def linear_ffjord(features, **options):
    """dx/dt = A x + b t + c, whose solution is an exponential."""
    p = FFJORD("p(x)", features=features, network=nn.Linear, steps=10, **options)
    p.initialize({"x": torch.randn(100, features) * 2})
    linear = p.generator.inverse.layers[1].field.network.net
    with torch.no_grad():
        linear.weight.normal_().div_(features**0.5)
    matrix = torch.zeros(features + 2, features + 2)
    matrix[:features, : features + 1], matrix[:features, -1], matrix[features, -1] = linear.weight, linear.bias, 1.0
    whole = torch.linalg.matrix_exp(matrix).detach()
    norm = p.generator.inverse.layers[0]

    def log_likelihood(x):
        e, log_det = norm.forward_and_log_det(x)
        z = e @ whole[:features, :features].T + whole[:features, -1]
        trace = linear.weight[:, :features].trace()
        return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + trace + log_det

    return p, log_likelihood


def test_ffjord_of_a_linear_field():
    p, exact = linear_ffjord(3)
    x = torch.randn(5, 3)
    torch.testing.assert_close(p.log_likelihood({"x": x}), exact(x), rtol=1e-4, atol=1e-4)


def test_ffjord_of_many_features_is_right_in_the_mean():
    p, exact = linear_ffjord(9)
    x = torch.randn(1, 9)
    with seeded(0), torch.no_grad():
        found = p.log_likelihood({"x": x.expand(2000, 9)})
    assert abs(found.mean() - exact(x)).item() < 4 * found.std().item() / math.sqrt(2000) + 1e-4
    assert found.std() > 0.1
    certain, expected = linear_ffjord(9, trace="exact")
    torch.testing.assert_close(certain.log_likelihood({"x": x}), expected(x), rtol=1e-4, atol=1e-4)


def test_ffjord_by_torchdiffeq():
    p = ready(lambda text: FFJORD(text, features=2, hidden=[8], steps=10), "p(x)")
    q = FFJORD("p(x)", features=2, hidden=[8], solver="dopri5", tolerance=1e-7)
    q.load_state_dict(p.state_dict())
    x = torch.randn(5, 2)
    torch.testing.assert_close(q.log_likelihood({"x": x}), p.log_likelihood({"x": x}), rtol=1e-5, atol=1e-5)


BAD = {
    "no layers": (lambda: MAF("p(x)", features=2, transforms=0), KindError, "MAF: transforms must be a whole number of at least 1"),
    "one size": (
        lambda: RealNVP("p(x)", features=2, hidden=64),
        KindError,
        "hidden must be a list of positive sizes",
    ),
    "Glow of vectors": (lambda: Glow("p(x)", features=8), ShapeError, r"Glow takes images \(C, H, W\); the features are \(8,\)"),
    "too many levels": (
        lambda: Glow("p(x)", features=(1, 12, 8), levels=3),
        ShapeError,
        r"Glow: each of 3 levels halves the height and the width, so they must be divisible by 8; the features are \(1, 12, 8\)",
    ),
    "no levels": (
        lambda: Glow("p(x)", features=(1, 8, 8), levels=0),
        KindError,
        "Glow: levels must be a whole number of at least 1",
    ),
    "Glow's steps": (lambda: Glow("p(x)", features=(1, 8, 8), transforms=0.5), KindError, "Glow: transforms must be a whole number"),
    "FFJORD's flows": (lambda: FFJORD("p(x)", features=2, transforms=0), KindError, "FFJORD: transforms must be a whole number"),
    "a solver": (lambda: FFJORD("p(x)", features=2, solver="rk5"), ParameterError, "solver must be one of euler, midpoint, rk4"),
    "a kind": (
        lambda: NSF("p(x)", features=2, kind="both"),
        ParameterError,
        'NSF: kind must be "coupling" or "autoregressive"',
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_model(case):
    make, error, words = BAD[case]
    with pytest.raises(error, match=words):
        make()


def test_a_number_a_datum_is_a_context_of_a_flow():
    flow, x, t = RealNVP("p(x|t)", features=3, context=1, transforms=2, hidden=[4]), torch.randn(4, 3), torch.rand(4)
    for w in flow.parameters():
        nn.init.normal_(w, std=0.3)
    torch.testing.assert_close(flow.log_likelihood({"x": x, "t": t}), flow.log_likelihood({"x": x, "t": t[:, None]}))
