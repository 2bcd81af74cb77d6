"""Data and options that do not fit are errors of `fit`, which leave the weights as they were."""

import sys

import pytest
import torch
from children import forget, result_of
from fitted import data, vi, weights
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from zoo import Label, binary

from pixyz.core import KindError, MissingVariableError, ParameterError, ShapeError
from pixyz.losses import NLL
from pixyz.models import Model
from pixyz.models.lightning import LightningModel

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


BAD_DATA = {
    "no data": ({"x": torch.zeros(0, 6)}, {}, ShapeError, "VI.fit: there are no data"),
    "an empty loader": ([], {"names": ["x"]}, ShapeError, "VI.fit: there are no data"),
    "a number": (3, {}, KindError, "the data are a mapping, a Dataset or a loader; got a int"),
    "another variable": ({"y": torch.zeros(3, 6)}, {}, ShapeError, "the mapping has no tensor of a variable of the loss, x"),
    "tuples without names": ([(torch.zeros(3, 6),)], {}, KindError, r'Say which variables its tensors are, like names=\["x", "y"\]'),
    "too many names": ([(torch.zeros(3, 6),)], {"names": ["x", "y"]}, ShapeError, "a batch has 1 tensors, but the names are"),
    "wrong names": ([(torch.zeros(3, 6),)], {"names": ["y"]}, MissingVariableError, r"needs x; got \{'y'\}"),
    "wrong shapes": ({"x": torch.zeros(3, 5)}, {}, ShapeError, r"q\(z\|x\): the network failed on x of features \(5,\)"),
    "a batch size with a loader": ([torch.zeros(3, 6)], {"batch_size": 2}, KindError, "a loader has its batches already"),
    "a batch size of 0": ({"x": torch.zeros(3, 6)}, {"batch_size": 0}, KindError, "batch_size must be a whole number of at least 1"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_do_not_fit(case):
    given, options, error, words = BAD_DATA[case]
    model = vi()
    before = weights(model)
    with pytest.raises(error, match=words):
        model.fit(given, epochs=1, **options)
    assert all(torch.equal(before[name], w) for name, w in weights(model).items())


def test_variables_of_unequal_length():
    model = Model(NLL(Label()).mean())
    with pytest.raises(ShapeError, match="y has 4 data, x has 3 data, so they cannot be split together"):
        model.fit({"x": torch.zeros(3, 6), "y": torch.eye(4)[:, :3]}, epochs=1)


def test_an_iterator_that_was_run_through(tmp_path):
    with pytest.raises(ShapeError, match="there are no data. .* a loader that was run through once may be at its end"):
        vi().fit(iter([binary()]), epochs=2, names=["x"])


BAD_WORDS = {
    "no epochs": ({"epochs": 0}, "epochs must be a whole number of at least 1; got 0"),
    "patience alone": ({"patience": 2}, "patience=2 needs validation=, which is not given"),
    "best alone": ({"best": "a"}, "best='a' needs validation="),
    "save_every alone": ({"save_every": 2}, "save_every=2 needs save="),
    "saved every no epochs": ({"save_every": 0, "save": "a"}, "VI.fit: save_every must be a whole number of at least 1; got 0"),
    "logged every half": ({"log_every": 0.5}, "VI.fit: log_every must be a whole number of at least 1; got 0.5"),
    "no patience": ({"patience": -1, "validation": {}}, "VI.fit: patience must be a whole number of at least 1; got -1"),
    "resume from nothing said": ({"resume": True}, "resume=True goes on from the last file of save=, which is not given"),
    "Lightning's clipping": (
        {"gradient_clip_val": 1.0},
        r"gradient_clip_val is Lightning's; say it here with Model\(..., clip_grad_norm=\)",
    ),
    "Lightning's accumulation": ({"accumulate_grad_batches": 2}, r"say it here with Model\(..., accumulate=\)"),
}


@pytest.mark.parametrize("case", BAD_WORDS)
def test_words_that_do_not_fit(case):
    options, words = BAD_WORDS[case]
    with pytest.raises(ParameterError, match=words):
        vi().fit(data(), **{"epochs": 1, **options})


def test_precision_that_is_scaled_is_refused(monkeypatch):
    module = LightningModel(vi())
    module._trainer = type("T", (), {"strategy": Trainer(accelerator="cpu", devices=1, logger=False).strategy, "precision": "16-mixed"})()
    with pytest.raises(KindError, match='Take "bf16-mixed"'):
        module.on_fit_start()


def test_weights_that_are_sharded_are_refused():
    module = LightningModel(vi())
    module._trainer = type("T", (), {"strategy": FSDPStrategy(), "precision": "32-true"})()
    with pytest.raises(KindError, match=r"VI: fit runs on one device, or on several by DDP; got FSDPStrategy\. To shard the weights, call"):
        module.on_fit_start()


def said_without_lightning():
    forget("pixyz", "lightning")
    sys.modules["lightning"] = None
    from pixyz.distributions import Normal
    from pixyz.models import ML

    model = ML(Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0))
    model.train({"x": torch.zeros(3, 2)})
    with pytest.raises(ModuleNotFoundError) as caught:
        model.fit({"x": torch.zeros(3, 2)}, epochs=1)
    return str(caught.value)


def test_without_lightning_the_error_says_what_to_install():
    said = result_of(said_without_lightning)
    assert said == 'Loops of training are run by Lightning, which is not here: pip install "pixyz-models[lightning]".'
