"""channels_last: weights of convolutions in another layout, with the same values and the same training."""

import pytest
import torch
from torch import nn, optim

from pixyz.core import KindError
from pixyz.cuda_utils import channels_last
from pixyz.distributions import Normal
from pixyz.models import Model

IMAGES = {"x": torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))}
LAST = torch.channels_last
OPTIMIZERS = {
    "fused Adam": (optim.Adam, {}),
    "Adam in a loop": (optim.Adam, {"foreach": False}),
    "SGD with momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
}


def model(optimizer="fused Adam", **options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    kind, params = OPTIMIZERS[optimizer]
    q = Normal("q(z|x)", loc=net, scale=1.0)
    p = Normal("p(z)", loc=0.0, scale=1.0, dim=2)
    return Model(-p.log_prob().expectation(q).mean(), optimizer=kind, optimizer_params=params, **options)


def weights(model):
    return [w.detach() for w in model.trained_parameters]


def train(model, *seeds):
    for seed in seeds:
        torch.manual_seed(seed)
        model.train(IMAGES)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("when", [0, 2])
def test_the_training_is_the_same_before_and_after_the_first_step(optimizer, when):
    plain, converted = model(optimizer, ema=0.9), model(optimizer, ema=0.9)
    train(plain, *range(4))
    train(converted, *range(when))
    assert channels_last(converted) is converted
    images = [w for w in weights(converted) if w.ndim == 4]
    assert images
    assert all(w.is_contiguous(memory_format=LAST) for w in images)
    state = [s for of in converted.optimizer.state.values() for s in of.values() if torch.is_tensor(s) and s.ndim == 4]
    assert all(s.is_contiguous(memory_format=LAST) for s in state)
    assert bool(state) is bool(when)
    train(converted, *range(when, 4))
    for a, b in zip(weights(plain), weights(converted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    with plain.averaged(), converted.averaged():
        for a, b in zip(weights(plain), weights(converted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_images_inside_are_laid_out_so_whatever_comes_in():
    converted, layouts = channels_last(model()), []
    for m in converted.loss.modules():
        if isinstance(m, nn.Conv2d):
            m.register_forward_hook(lambda module, given, image: layouts.append(image.is_contiguous(memory_format=LAST)))
    train(converted, 0)
    assert layouts == [True, True]


def test_a_checkpoint_fits_whatever_the_layout(tmp_path):
    converted, plain = channels_last(model()), model()
    train(converted, 0, 1)
    converted.save(tmp_path / "model.safetensors")
    plain.load(tmp_path / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(converted), strict=True))


def test_a_loss_and_a_distribution():
    p = Normal("p(y|x)", loc=nn.Conv2d(3, 4, 3), scale=1.0)
    loss = p.log_prob().mean()
    assert channels_last(loss) is loss
    assert next(p.parameters()).is_contiguous(memory_format=LAST)


def test_a_model_without_images_says_so():
    p = Normal("p(y|x)", loc=nn.Linear(3, 4), scale=1.0)
    with pytest.warns(UserWarning, match="the Model has no tensor of 4 dims, such as the weight of a Conv2d; nothing is changed"):
        channels_last(Model(-p.log_prob().mean()))


def test_what_is_no_model():
    with pytest.raises(KindError, match="takes a model, a loss or a module; got a Tensor"):
        channels_last(torch.zeros(1, 2, 3, 4))
