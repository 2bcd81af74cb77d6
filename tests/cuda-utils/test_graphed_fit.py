"""Graphed models in `fit`: short batches, validation, checkpoints, precision."""

import pytest
import torch
from graphable import ADAM, DECAY, MOMENTUM, adversaries, autoencoder, batches, graphs_of, need_same, state_of

from pixyz.core import KindError, NonFiniteLossError
from pixyz.cuda_utils import graph_report
from pixyz.models.steps import Engine

X = torch.cat([values["x"] for values in batches(6)])[:44]  # five batches of 8 and one of 4
FIRST = "the first step of an optimiser, which makes its state"


def fitted(model, epochs=2, **options):
    torch.manual_seed(5)
    return model.fit({"x": X}, epochs=epochs, batch_size=8, progress=False, **options)


BUILD = {
    "autoencoder": lambda: autoencoder(**MOMENTUM, **DECAY, ema=0.9, clip_grad_norm=1.0),
    "accumulated": lambda: autoencoder(**ADAM, accumulate=2),
    "game": lambda: adversaries(**ADAM),
}


@pytest.mark.parametrize("on_change", ["eager", "recapture"])
@pytest.mark.parametrize("name", BUILD)
def test_a_fit_is_that_without_graphs(name, on_change):
    eager = BUILD[name]()
    expected = fitted(eager, validation={"x": X[:20]})
    model, graphs = graphs_of(BUILD[name](), on_change=on_change)
    history = fitted(model, validation={"x": X[:20]})
    assert (history.train, history.validation) == (expected.train, expected.validation)
    need_same(state_of(model), state_of(eager))
    report = graph_report(model)
    assert report.changes["x is (4, 6) float32 on cpu, and was (8, 6) float32 on cpu"] == (2 if on_change == "eager" else 1)
    assert report.replays == len(graphs.replays) == 12 - sum(report.eager.values())
    assert report.eager[FIRST] == model.accumulate


def test_a_training_that_was_interrupted_goes_on_bit_for_bit(tmp_path):
    path = tmp_path / "run.safetensors"
    whole = BUILD["autoencoder"]()
    fitted(whole, epochs=3)
    model, _ = graphs_of(BUILD["autoencoder"]())
    fitted(model, epochs=1, save=path)
    again, graphs = graphs_of(BUILD["autoencoder"]())
    torch.manual_seed(99)
    again.fit({"x": X}, epochs=3, batch_size=8, progress=False, save=path, resume=True)
    need_same(state_of(again), state_of(whole))
    assert len(graphs.replays) == 10  # no step of its optimiser is the first one


def test_two_fits_of_one_model_are_one_training():
    eager = BUILD["autoencoder"]()
    model, _ = graphs_of(BUILD["autoencoder"]())
    for each in (eager, model):
        fitted(each)
        fitted(each)
        each.train({"x": X[:8]})
    need_same(state_of(model), state_of(eager))


def test_hooks_of_the_trainer_are_called_at_replays():
    from lightning.pytorch import Callback

    class Counts(Callback):
        steps = 0
        trained = 0

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            self.steps += 1

        def on_train_batch_end(self, trainer, *_):
            self.trained = trainer.global_step

    counts = []
    for model in (autoencoder(**ADAM), graphs_of(autoencoder(**ADAM))[0]):
        counts.append(Counts())
        fitted(model, callbacks=[counts[-1]])
    assert counts[1].trained == counts[0].trained == 12
    assert counts[1].steps == counts[0].steps == 12


def test_a_bad_batch_ends_a_fit_with_the_weights_of_before():
    bad = X.clone()
    bad[30] = torch.nan
    model, _ = graphs_of(autoencoder(**ADAM))
    with pytest.raises(NonFiniteLossError, match=r"q\(z\|x\): loc must be a number, but 16 of 16 are not"):
        model.fit({"x": bad}, epochs=1, batch_size=8, progress=False)
    assert all(w.isfinite().all() for w in model.trained_parameters)


class OfTwo(Engine):
    """An engine of two processes."""

    @property
    def processes(self):
        return 2


def test_several_processes_are_rejected():
    model, _ = graphs_of(autoencoder(**ADAM))
    evaluated = model.ready({"x": X[:8]}, {})
    with pytest.raises(KindError, match="VAE: a graphed model trains in one process, and this is one of 2"):
        model.executor.run(model.program, evaluated, model.program.phase(0), OfTwo())
