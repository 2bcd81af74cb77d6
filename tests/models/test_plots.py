"""Pictures: what is in them, that they are saved where the program says, and what is said where there can be none."""

import sys

import pytest
import torch
from children import forget, result_of
from matplotlib.figure import Figure
from matplotlib.image import imread
from torch import nn
from zoo import Decoder, Encoder, prior

from pixyz.core import FormulaError, KindError, MissingVariableError, ShapeError
from pixyz.distributions import Bernoulli, Categorical, Normal
from pixyz.models import ML, VI, plot_history, plot_latent, plot_reconstructions, plot_samples


def vae(x=9, z=2):
    return VI(Decoder(x=x, z=z) * prior(z, name="p"), Encoder(x=x, z=z))


def images(*shape):
    """A model that always makes the same image, of the numbers 0 to 1."""
    loc = torch.linspace(0, 1, torch.Size(shape).numel()).reshape(shape)
    return ML(Normal("p(x)", loc=nn.Parameter(loc), scale=1.0))


def canvas(figure, number=0):
    (shown,) = figure.axes[number].images
    return torch.tensor(shown.get_array())


X = {"x": torch.arange(18.0).reshape(2, 9) / 17}
PLOTS = {
    "samples": lambda path: plot_samples(vae(), 4, path=path),
    "reconstructions": lambda path: plot_reconstructions(vae(), X, path=path),
    "latent": lambda path: plot_latent(vae(), X, labels=torch.tensor([0, 1]), path=path),
    "history": lambda path: plot_history({"loss": [2.0, 1.0]}, path=path),
}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS.keys())
def test_a_figure_is_returned_and_saved_where_the_program_says(plot, suffix, tmp_path):
    path = tmp_path / "new folder" / f"picture{suffix}"
    assert isinstance(plot(path), Figure)
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(start)
    if suffix == ".png":
        assert imread(path).std() > 0


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS.keys())
def test_without_a_path_nothing_is_written(plot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plot(None)
    assert not list(tmp_path.iterdir())


SHAPES = {
    "square of numbers": ((9,), None, (3, 3, 1)),
    "as said": ((6,), (2, 3), (2, 3, 1)),
    "colours as said": ((12,), (3, 2, 2), (2, 2, 3)),
    "rows and columns": ((2, 5), None, (2, 5, 1)),
    "one channel": ((1, 2, 5), None, (2, 5, 1)),
    "three channels": ((3, 2, 5), None, (2, 5, 3)),
}


@pytest.mark.parametrize(("features", "told", "image"), SHAPES.values(), ids=SHAPES.keys())
def test_the_canvas_has_every_image_in_its_place(features, told, image):
    """Three images in rows of two: a line between them, and nothing where there is none."""
    model = images(*features)
    figure = plot_samples(model, 3, columns=2, image_shape=told)
    height, width, channels = image
    shown = canvas(figure)
    assert shown.shape == (2 * height + 1, 2 * width + 1, 4)
    truth = model.p.mean().detach().reshape(channels, height, width).movedim(0, -1).expand(height, width, 3)
    for row, column in ((0, 0), (0, 1), (1, 0)):
        tile = shown[row * (height + 1) :, column * (width + 1) :][:height, :width]
        torch.testing.assert_close(tile[..., :3].float(), truth, atol=1 / 255, rtol=0)  # the colours are of 8 bits
        assert (tile[..., 3] == 1).all()
    assert (shown[height, :, 3] == 0).all()
    assert (shown[:, width, 3] == 0).all()
    assert (shown[height + 1 :, width + 1 :, 3] == 0).all()


def test_numbers_outside_of_0_and_1_go_from_black_to_white():
    model = ML(Normal("p(x)", loc=nn.Parameter(torch.tensor([-3.0, 0.0, 0.0, 5.0])), scale=1.0))
    shown = canvas(plot_samples(model, 1))
    torch.testing.assert_close(shown[..., 0].flatten()[[0, 1, 3]].float(), torch.tensor([0.0, 3 / 8, 1.0]), atol=1 / 255, rtol=0)


def test_numbers_between_0_and_1_keep_their_greys():
    model = ML(Normal("p(x)", loc=nn.Parameter(torch.tensor([0.25, 0.5, 0.5, 0.75])), scale=1.0))
    shown = canvas(plot_samples(model, 1))
    torch.testing.assert_close(shown[..., 0].flatten()[[0, 1, 3]].float(), torch.tensor([0.25, 0.5, 0.75]), atol=1 / 255, rtol=0)


def test_ink_on_paper():
    shown = canvas(plot_samples(images(4), 1, cmap="gray_r"))
    assert shown[0, 0, 0] == 1.0
    assert shown[1, 1, 0] == 0.0


def test_reconstructions_stand_below_the_data():
    model = vae()
    figure = plot_reconstructions(model, X, columns=2)
    data = canvas(figure, 0)
    torch.testing.assert_close(data[:, :3, 0].flatten().float(), X["x"][0], atol=1 / 255, rtol=0)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["data", "reconstructions"]
    assert canvas(figure, 1).shape == data.shape


def test_conditions_and_a_choice_of_variable():
    p = Bernoulli("p(x|y)", logits=nn.Linear(3, 4)) * Categorical("p(y)", probs=nn.Parameter(torch.full((3,), 1 / 3)))
    with pytest.raises(FormulaError, match=r"plot_samples: p\(x,y\) has x and y to show\. Say which, like var='x'"):
        plot_samples(ML(p))
    assert canvas(plot_samples(ML(p), 5, var="x", columns=5)).shape == (2, 14, 4)
    assert canvas(plot_samples(ML(p), given={"y": torch.eye(3)}, columns=3)).shape == (2, 8, 4)


def test_two_latent_numbers_are_shown_as_they_are():
    model = vae()
    (axes,) = plot_latent(model, X).axes
    shown = torch.tensor(axes.collections[0].get_offsets().data)
    torch.testing.assert_close(shown.float(), model.infer(X, mean_of="z")["z"])


def test_more_are_shown_by_their_principal_components():
    model = vae(z=5)
    x = {"x": torch.rand(20, 9)}
    (axes,) = plot_latent(model, x).axes
    shown = torch.tensor(axes.collections[0].get_offsets().data).double()
    z = model.infer(x, mean_of="z")["z"].double()
    values, vectors = torch.linalg.eigh(z.T.cov())
    component = (z - z.mean(0)) @ vectors[:, [-1, -2]]
    torch.testing.assert_close(shown.abs(), component.abs(), atol=1e-6, rtol=1e-5)
    assert axes.get_xlabel() == f"first principal component of z ({values[-1] / values.sum():.0%})"


LABELS = {
    "classes": (torch.tensor([4, 7] * 5), 1, ["4", "7"]),
    "one-hot": (torch.eye(3)[torch.arange(10) % 3], 1, ["0", "1", "2"]),
    "a scale": (torch.linspace(0, 1, 10), 2, None),
}


@pytest.mark.parametrize(("labels", "axes", "names"), LABELS.values(), ids=LABELS.keys())
def test_labels_are_colours(labels, axes, names):
    figure = plot_latent(vae(), {"x": torch.rand(10, 9)}, labels=labels)
    assert len(figure.axes) == axes
    if names:
        assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == names


def test_history_has_a_curve_for_each_name():
    (axes,) = plot_history({"train": [3.0, 2.0, 1.0], "held out": torch.tensor([4.0, 3.5])}, ylabel="nats").axes
    assert [line.get_label() for line in axes.lines] == ["train", "held out"]
    assert axes.lines[0].get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]
    (axes,) = plot_history([1.0, 2.0]).axes
    assert axes.get_legend() is None


ERRORS = {
    "no image": (
        lambda: plot_samples(vae(x=6), 2),
        ShapeError,
        r"plot_samples: x has features \(6,\), which are no images\. Give",
    ),
    "another size": (lambda: plot_samples(vae(), 2, image_shape=(2, 2)), ShapeError, r"features \(9,\) and image_shape=\(2, 2\)"),
    "no such variable": (lambda: plot_samples(vae(), var="y"), FormulaError, r"p\(x,z\) has no y to show; it has x"),
    "no data": (lambda: plot_reconstructions(vae(), {}), MissingVariableError, "x has no value to show"),
    "one number": (lambda: plot_latent(vae(z=1), X), ShapeError, "z is one number, which has no plane"),
    "labels": (lambda: plot_latent(vae(), X, labels=[1, 2, 3]), ShapeError, "there are 2 data, but 3 labels"),
    "no numbers": (lambda: plot_history([]), KindError, "there are no numbers"),
    "no model": (lambda: plot_latent(ML(Decoder()), X), FormulaError, "ML knows no inference model q, which plot_latent needs"),
}


@pytest.mark.parametrize(("call", "error", "text"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_several_latent_variables():
    p = Decoder(x=9) * Normal("p(z|w)", loc="w", scale=1.0) * Normal("p(w)", loc=0.0, scale=1.0, dim=2)
    model = VI(p, Normal("q(w|z)", loc=nn.Linear(2, 2), scale=1.0) * Encoder(x=9))
    with pytest.raises(FormulaError, match=r"q\(w,z\|x\) draws w and z\. Say which to show, like var='w'"):
        plot_latent(model, X)
    (axes,) = plot_latent(model, X, var="z").axes
    assert axes.get_xlabel() == "z, first number"


def said_without_matplotlib():
    forget("pixyz", "matplotlib")
    sys.modules["matplotlib"] = None
    from pixyz.models import plot_history

    with pytest.raises(ImportError) as caught:
        plot_history([1.0])
    return str(caught.value)


def test_without_matplotlib_the_line_that_installs_it():
    assert result_of(said_without_matplotlib) == 'Pictures are drawn with matplotlib, which is not here: pip install "pixyz-models[plot]".'
