"""How layers start: near the identity, with a gradient for every weight; what each of their networks sees; the order of their features."""

import pytest
import torch

from pixyz.flows import IAF, MAF, NSF, ActNorm, Coupling, Glow, MaskedAutoregressive, Permutation, Planar, RealNVP, Reverse


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


STARTING = {
    "vectors": lambda: Coupling(6, hidden=[16, 16]),
    "images": lambda: Coupling((2, 6, 6), hidden=[16, 16], mask="checkerboard"),
    "autoregressive": lambda: MaskedAutoregressive(6, hidden=[16, 16]),
    "no hidden layer": lambda: Coupling(6, hidden=[]),
}


@pytest.mark.parametrize("name", STARTING)
def test_a_layer_starts_near_the_identity_and_not_at_it(name):
    """What the network gives has weights of 1 % of those of a layer of torch: y - x is some 1 % of x."""
    f = STARTING[name]()
    x = torch.randn(64, *f.in_shape)
    y, log_det = f.forward_and_log_det(x, None)
    moved = (y - x)[(y != x)]
    assert 1e-4 < moved.square().mean().sqrt() < 3e-2
    assert 1e-4 < log_det.square().mean().sqrt() < 0.3


@pytest.mark.parametrize("name", STARTING)
def test_every_weight_has_a_gradient_from_the_start(name):
    f = STARTING[name]()
    y, log_det = f.forward_and_log_det(torch.randn(64, *f.in_shape), None)
    (y.square().sum() - log_det.sum()).backward()
    weights = {n: w for n, w in f.named_parameters() if n.endswith("weight")}
    assert weights
    assert all(w.grad.any() for w in weights.values())


@pytest.mark.parametrize(("hidden", "reach"), [([], 1), ([4], 2), ([4, 4], 2), ([4, 4, 4], 2)])
def test_a_coupling_of_images_sees_two_pixels_around(hidden, reach):
    """The first and last convolutions are 3 × 3, those between 1 × 1; with no hidden layer, the first is the last."""
    f = Coupling((1, 11, 11), hidden=hidden, mask="checkerboard")
    with torch.no_grad():
        for p in f.parameters():
            p.copy_(torch.rand_like(p) * 0.1 + 0.05)  # no activation is off
    x = torch.rand(1, 1, 11, 11, requires_grad=True)
    y, _ = f.forward_and_log_det(x, None)
    moved = next((5, 5 + k) for k in (0, 1) if (y - x)[0, 0, 5, 5 + k] != 0)
    (slope,) = torch.autograd.grad(y[0, 0, moved[0], moved[1]], x)
    rows, columns = slope[0, 0].nonzero().T
    assert int((rows - moved[0]).abs().max()) == int((columns - moved[1]).abs().max()) == reach


def slopes(f, n=4):
    """Which of the features of the other side depend on which of x."""
    x = torch.randn(n)
    return torch.autograd.functional.jacobian(lambda v: f.forward_and_log_det(v[None], None)[0][0], x).ne(0)


LOWER = torch.ones(4, 4).tril().bool()


@pytest.mark.parametrize("family", [MAF, IAF, lambda **o: NSF(kind="autoregressive", **o)])
def test_features_are_taken_in_turns_from_either_end(family):
    """The first layer takes them forwards, the second in reverse, the third forwards."""
    layers = [f for f in family(features=4, transforms=3, hidden=[32]).modules() if isinstance(f, MaskedAutoregressive)]
    for f, expected in zip(layers, (LOWER, LOWER.T, LOWER)):
        assert slopes(f).equal(expected)
    assert len(layers) == 3


def test_the_halves_of_a_coupling_take_turns():
    layers = [f for f in RealNVP(features=4, transforms=4, hidden=[8]).modules() if isinstance(f, Coupling)]
    moved = []
    for f in layers:
        x = torch.randn(1, 4)
        moved.append((f.forward_and_log_det(x, None)[0] != x)[0].tolist())
    first, second = moved[:2]
    assert [not a for a in first] == second
    assert sum(first) == 2
    assert moved[2:] == [first, second]


def test_a_permutation_stands_after_every_second_coupling():
    names = [type(f).__name__ for f in RealNVP(features=4, transforms=5, hidden=[8]).generator.modules()]
    kinds = [name for name in names if name in ("ActNorm", "Coupling", "Permutation")]
    assert kinds == ["ActNorm", "Coupling", "Coupling", "Permutation", "Coupling", "Coupling", "Permutation", "Coupling"]


def test_two_features_are_not_permuted():
    names = [type(f).__name__ for f in RealNVP(features=2, transforms=5, hidden=[8]).generator.modules()]
    assert "Permutation" not in names
    assert names.count("Coupling") == 5


def test_glow_starts_where_the_data_are():
    """Each level starts near a rotation of standardised data: the noise of the data has a variance of about one."""
    p = Glow(features=(2, 4, 4), levels=1, transforms=2, hidden=[8])
    x = torch.randn(200, 2, 4, 4) * 3 + 1
    p.initialize({"x": x})
    z, _ = p.generator.inverse_and_log_det(x, None)
    assert 0.8 < z.std() < 1.2
    assert z.mean().abs() < 0.1


def test_a_chain_costs_what_its_networks_cost():
    """A permutation has no network; a masked autoregressive layer runs its own once, or once for each feature."""
    assert (Permutation(3).push_passes, Permutation(3).pull_passes) == (0, 0)
    assert (Reverse(3).push_passes, Reverse(3).pull_passes) == (0, 0)
    chain = ActNorm(3) >> Permutation(3) >> MaskedAutoregressive(3, hidden=[4]) >> Reverse(3) >> Coupling(3, hidden=[4])
    assert (chain.push_passes, chain.pull_passes) == (2, 4)
    assert (chain.inverse.push_passes, chain.inverse.pull_passes) == (4, 2)


def test_activations_of_a_single_number_are_normalised():
    f = ActNorm(())
    x = torch.randn(100) * 3 + 2
    f.start(x, None)
    y, log_det = f.forward_and_log_det(x, None)
    assert y.shape == log_det.shape == (100,)
    assert y.mean().abs() < 1e-9
    torch.testing.assert_close(y.std(correction=0), torch.tensor(1.0), rtol=1e-3, atol=0)
    torch.testing.assert_close(log_det, (-x.std(correction=0).log()).expand(100), rtol=1e-3, atol=1e-3)


def test_a_planar_step_never_folds_whatever_its_parameters_are():
    """Along w its slope is at least 0.001: w · y grows with w · x, by 1 + (1 - tanh²) w · û, which is the determinant that it returns."""
    for seed in range(20):
        torch.manual_seed(seed)
        f = Planar(3)
        with torch.no_grad():
            f.params[:3].mul_(8)
            f.params[3:].mul_(4 if seed % 2 else 0.2)  # w longer than 1, and shorter
        w = f.params[3:6].detach()
        x = torch.linspace(-3, 3, 201)[:, None] * (w / w.square().sum()) - f.params[6].detach() * w / w.square().sum()
        y, log_det = f.forward_and_log_det(x, None)
        along = y.detach() @ w
        slope = (along[2:] - along[:-2]) / 0.06
        assert (slope > 0).all()
        torch.testing.assert_close(slope, log_det.detach().exp()[1:-1], rtol=2e-2, atol=2e-3)
