"""What stands around a discriminator: augmentation, packs, clipped weights; and the way to `GAN`."""

import importlib.metadata
import re

import pytest
import torch
from torch import nn

import pixyz.models
from pixyz.core import FormulaError, ParameterError, ShapeError
from pixyz.distributions import Deterministic, Normal
from pixyz.gan import GAN, AdversarialWassersteinDistance, DiffAugment, Packed, clip_weights

N, C, H, W = 4, 3, 8, 6


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)


def drawn_color(x):
    out = x.clone()
    brightness, saturation, contrast = [torch.rand(N, 1, 1, 1).flatten() for _ in range(3)]
    for i in range(N):
        out[i] += brightness[i] - 0.5
        gray = sum(out[i, c] for c in range(C)) / C
        for c in range(C):
            out[i, c] = gray + (out[i, c] - gray) * 2 * saturation[i]
        level = out[i].sum() / (C * H * W)
        out[i] = level + (out[i] - level) * (contrast[i] + 0.5)
    return out


def drawn_translation(x):
    out = torch.zeros_like(x)
    rows, columns = [torch.randint(-1, 2, (N, 1)).flatten().tolist() for _ in range(2)]
    for i in range(N):
        for h in range(H):
            for w in range(W):
                a, b = h + rows[i], w + columns[i]
                if 0 <= a < H and 0 <= b < W:
                    out[i, :, h, w] = x[i, :, a, b]
    return out


def drawn_cutout(x):
    out = x.clone()
    tops, lefts = [torch.randint(0, size + (1 - size // 2 % 2), (N, 1)).flatten().tolist() for size in (H, W)]
    for i in range(N):
        for h in range(H):
            for w in range(W):
                if 0 <= h - tops[i] + H // 4 < H // 2 and 0 <= w - lefts[i] + W // 4 < W // 2:
                    out[i, :, h, w] = 0
    return out


LOOPS = {"color": drawn_color, "translation": drawn_translation, "cutout": drawn_cutout}


def test_every_augmentation_has_a_loop():
    """The error about an unknown one lists them all."""
    with pytest.raises(FormulaError, match=f"there is no augmentation 'none'; choose of {re.escape(', '.join(LOOPS))}\\.$"):
        DiffAugment(["none"])


@pytest.mark.parametrize("policy", LOOPS)
def test_an_augmentation_is_what_a_plain_loop_does(policy):
    x = torch.rand(N, C, H, W)
    found = []
    for augment in (DiffAugment([policy]), LOOPS[policy]):
        torch.manual_seed(3)
        found.append(augment(x))
    assert not torch.equal(found[0], x)
    torch.testing.assert_close(*found, atol=1e-12, rtol=0)


def test_gradients_go_through_augmentation():
    x = torch.rand(N, C, H, W, requires_grad=True)
    augment = DiffAugment()

    def seeded(x):
        torch.manual_seed(3)
        return augment(x)

    assert torch.autograd.gradcheck(seeded, x, fast_mode=True)
    (slope,) = torch.autograd.grad(seeded(x).sum(), x)
    assert slope.abs().sum((1, 2, 3)).min() > 0


def test_in_evaluation_mode_images_stay_as_they_are():
    x = torch.rand(N, C, H, W)
    assert DiffAugment().eval()(x) is x


def test_augmentations_that_are_refused():
    with pytest.raises(FormulaError, match="there is no augmentation 'colour'; choose of color, translation, cutout"):
        DiffAugment(["colour"])
    with pytest.raises(ShapeError, match=r"it takes images, \(N, C, H, W\); got \(4, 48\)"):
        DiffAugment()(torch.rand(4, 48))


def test_a_pack_is_judged_by_all_that_is_in_it():
    net = nn.Linear(4, 1)
    x = torch.randn(6, 2)
    found = Packed(net, 2)(x)
    for i in range(3):
        want = net(torch.cat([x[2 * i], x[2 * i + 1]]))
        torch.testing.assert_close(found[2 * i], want)
        torch.testing.assert_close(found[2 * i + 1], want)
    images = torch.randn(4, 1, 3, 3)
    assert torch.equal(Packed(nn.Identity(), 2)(images)[0], images[:2, 0])
    with pytest.raises(ShapeError, match="5 data do not make whole packs of 2"):
        Packed(net, 2)(x[:5])
    with pytest.raises(ParameterError, match="at least 1; got 0"):
        Packed(net, 0)


def players(net):
    p = (Deterministic("p(x|z)", x=nn.Linear(2, 2)) * Normal("p(z)", loc=0.0, scale=1.0, dim=2)).marginalize_var("z")
    return p, Deterministic("d(t|x)", t=net)


def test_clipped_weights():
    p, d = players(nn.Linear(2, 1))
    before = [w.detach().abs().max() for w in (*d.parameters(), *p.parameters())]
    assert min(before) > 0.02
    model = GAN(
        p,
        d,
        loss=AdversarialWassersteinDistance,
        optimizer=torch.optim.RMSprop,
        optimizer_params={"lr": 1e-3},
        d_optimizer=clip_weights(torch.optim.RMSprop, 0.01),
        d_optimizer_params={"lr": 1e-3},
    )
    for _ in range(3):
        model.train({"x": torch.randn(8, 2) + 3})
        assert max(w.abs().max() for w in d.parameters()) <= 0.01
    assert min(w.abs().max() for w in p.parameters()) > 0.01
    assert "RMSprop(lr=0.001) for d(t|x)" in str(model)
    with pytest.raises(ParameterError, match="limit must be positive; got 0"):
        clip_weights(torch.optim.SGD, 0)


def test_gan_is_found_among_the_models():
    assert pixyz.models.GAN is GAN


def test_without_its_package_the_error_names_it(monkeypatch):
    monkeypatch.setattr(pixyz.models, "_entry_points", lambda **_: importlib.metadata.EntryPoints())
    with pytest.raises(ImportError, match="GAN is in pixyz-gan, which is not installed: pip install pixyz-gan"):
        from pixyz.models import GAN  # noqa: F401
    with pytest.raises(AttributeError, match="has no attribute 'GANN'"):
        pixyz.models.GANN  # noqa: B018
