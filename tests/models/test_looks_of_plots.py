"""How pictures look: their sizes, their axes, their colours and their legends."""

import pytest
import torch
from torch import nn
from zoo import Decoder, Encoder, prior

from pixyz.distributions import Normal
from pixyz.models import ML, VI, plot_history, plot_latent, plot_reconstructions, plot_samples


def vae(x=9, z=2):
    return VI(Decoder(x=x, z=z) * prior(z, name="p"), Encoder(x=x, z=z))


def images(*shape):
    return ML(Normal("p(x)", loc=nn.Parameter(torch.rand(shape)), scale=1.0))


def shape_of(figure, number=0):
    return figure.axes[number].images[0].get_array().shape[:2]


def test_fifty_images_in_rows_of_ten():
    assert shape_of(plot_samples(images(4))) == (5 * 3 - 1, 10 * 3 - 1)


@pytest.mark.parametrize(
    ("count", "columns", "shape", "inches"),
    [(3, 10, (2, 2), (3, 1)), (20, 10, (2, 2), (10, 2)), (24, 24, (2, 2), (12, 0.5)), (4, 2, (2, 4), (2, 1)), (5, 2, (4, 2), (2, 6))],
)
def test_an_image_is_an_inch_wide_and_a_row_at_most_twelve(count, columns, shape, inches):
    figure = plot_samples(images(*shape), count, columns=columns)
    assert figure.get_size_inches().tolist() == pytest.approx(inches)


def test_two_rows_have_titles_above_them():
    """An inch for each image and 0.3 for its title; of more data than columns the first are shown."""
    figure = plot_reconstructions(vae(), {"x": torch.rand(14, 9)})
    assert figure.get_size_inches().tolist() == pytest.approx([10, 2.6])
    assert shape_of(figure, 0) == shape_of(figure, 1) == (3, 10 * 4 - 1)
    figure = plot_reconstructions(vae(), {"x": torch.rand(14, 9)}, columns=3)
    assert figure.get_size_inches().tolist() == pytest.approx([3, 2.6])


def test_both_rows_have_the_greys_of_the_data():
    """A reconstruction is as bright as the number it is, whatever the others are."""
    model = vae()
    x = torch.full((2, 9), 0.5)
    x[0, 0], x[0, 1] = -1.0, 3.0
    figure = plot_reconstructions(model, {"x": x})
    made = model.reconstruct({"x": x})["x"][0].reshape(3, 3)
    shown = torch.tensor(figure.axes[1].images[0].get_array())[:3, :3, 0]
    torch.testing.assert_close(shown.float(), (made + 1) / 4, atol=1 / 255 + 1e-3, rtol=0)


def test_pixels_are_squares_without_axes():
    for axes in plot_reconstructions(vae(), {"x": torch.rand(2, 9)}).axes + plot_samples(images(4), 2).axes:
        assert not axes.axison
        assert axes.images[0].get_interpolation() == "nearest"


def latent(labels):
    return plot_latent(vae(), {"x": torch.rand(60, 9)}, labels=labels)


@pytest.mark.parametrize("count", [2, 10, 11, 20])
def test_every_class_has_its_colour(count):
    labels = torch.arange(60) % count
    axes = latent(labels).axes[0]
    colours = {tuple(points.get_facecolor()[0]) for points in axes.collections}
    assert len(colours) == len(axes.collections) == count
    assert [len(points.get_offsets()) for points in axes.collections] == labels.bincount().tolist()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [str(k) for k in range(count)]
    assert not axes.get_legend().get_frame_on()


@pytest.mark.parametrize("labels", [torch.arange(60) % 21, torch.arange(60) / 7, [k / 2 for k in range(60)], torch.rand(60, 1)])
def test_more_classes_than_colours_and_real_numbers_are_a_scale(labels):
    axes, scale = latent(labels).axes
    (points,) = axes.collections
    numbers = torch.as_tensor(labels).flatten().double()
    torch.testing.assert_close(torch.tensor(points.get_array()).double(), numbers)
    low, high = scale.get_ylim()
    assert (low, high) == pytest.approx((numbers.min().item(), numbers.max().item()))


def test_classes_in_a_column_are_classes():
    axes = latent((torch.arange(60) % 3)[:, None]).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0", "1", "2"]


def test_a_point_stands_where_its_datum_is():
    model, x, labels = vae(), torch.rand(10, 9), torch.arange(10) % 2
    z = model.infer({"x": x}, mean_of="z")["z"]
    axes = plot_latent(model, {"x": x}, labels=labels).axes[0]
    for k, points in enumerate(axes.collections):
        torch.testing.assert_close(torch.tensor(points.get_offsets().data).float(), z[labels == k])


def test_a_point_on_a_scale_stands_where_its_datum_is():
    model, x = vae(), torch.rand(10, 9)
    axes = plot_latent(model, {"x": x}, labels=torch.rand(10)).axes[0]
    (points,) = axes.collections
    torch.testing.assert_close(torch.tensor(points.get_offsets().data).float(), model.infer({"x": x}, mean_of="z")["z"])


def test_the_axes_of_a_latent_space_are_alike_and_named():
    figure = latent(None)
    (axes,) = figure.axes
    assert axes.get_aspect() == 1
    assert axes.get_adjustable() == "datalim"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("z, first number", "z, second number")
    assert figure.get_size_inches().tolist() == [5.5, 5]
    (axes,) = plot_latent(vae(z=4), {"x": torch.rand(60, 9)}).axes
    assert axes.get_xlabel().startswith("first principal component of z (")
    assert axes.get_ylabel().startswith("second principal component of z (")


def test_a_history_has_names_and_two_axes():
    figure = plot_history({"train": [3.0, 2.0], "test": [4.0, 3.0]}, ylabel="nats")
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "nats")
    assert {side: spine.get_visible() for side, spine in axes.spines.items()} == {
        "top": False,
        "right": False,
        "left": True,
        "bottom": True,
    }
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "test"]
    assert not axes.get_legend().get_frame_on()
    assert figure.get_size_inches().tolist() == pytest.approx([6, 3.6])
    (axes,) = plot_history([1.0], xlabel="step").axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "")


def test_a_path_without_a_suffix_is_a_png(tmp_path):
    plot_history([1.0, 2.0], path=tmp_path / "curve")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
