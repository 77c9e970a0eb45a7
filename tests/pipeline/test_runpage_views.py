"""Pictures and means of a product: by other readers of the same files, and by hand."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import Resampling

from pipeline.errors import InvalidScene
from pipeline.runseries import DateAxis
from pipeline.survey import survey
from pipeline.viewlayers import ViewLayers
from pipeline.viewpictures import OVER_CLOUDMASK, OVER_PROVENANCE, shade, view_pictures
from pipeline.viewseries import mean_ndvi, vegetation
from tests.pipeline.made_run import made_layers, made_run_product


def rgba(blob: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(blob)).convert("RGBA"))


def test_before_and_after_are_the_halves_of_the_preview(tmp_path: Path) -> None:
    folder = made_run_product(tmp_path)
    (view,) = survey(tmp_path).products
    pictures = view_pictures(view)
    preview = np.asarray(Image.open(folder / "preview.png")).astype(int)
    width = (preview.shape[1] - 4) // 2
    assert pictures.size == (width, preview.shape[0])
    for blob, half in ((pictures.before, preview[:, :width]), (pictures.after, preview[:, -width:])):
        shown = np.asarray(Image.open(BytesIO(blob)).convert("RGB")).astype(int)
        assert shown.shape == half.shape
        assert np.abs(shown - half).mean() < 12  # WebP loses a little
    before, after = (np.asarray(Image.open(BytesIO(blob)).convert("L")) for blob in (pictures.before, pictures.after))
    assert before[:50, 30:].mean() > 1.5 * after[:50, 30:].mean()


def test_layers_have_the_colours_of_their_classes_and_leave_the_rest_clear(tmp_path: Path) -> None:
    layers = made_layers()
    made_run_product(tmp_path, layers=layers)
    (view,) = survey(tmp_path).products
    shown = view_pictures(view).layers
    for name, colours in (("provenance", OVER_PROVENANCE), ("cloudmask", OVER_CLOUDMASK)):
        picture = rgba(shown[name])
        for value in np.unique(layers[name]):
            pixels = picture[layers[name] == value]
            if value in colours:
                assert (pixels == (*colours[value], 255)).all()
            else:
                assert (pixels[:, 3] == 0).all()
    picture, confidence = rgba(shown["confidence"]), layers["confidence"]
    assert (picture[confidence >= 100][:, 3] == 0).all()
    brightness = [picture[confidence == value][0, :3].sum() for value in (20, 80)]
    assert brightness[0] > brightness[1]


@pytest.mark.parametrize("shape", [(60, 60), (90, 60), (61, 47)])
def test_thinned_layers_lie_where_rasterio_finds_them(tmp_path: Path, shape: tuple[int, int]) -> None:
    down, across = np.mgrid[: shape[0], : shape[1]]
    layers = {
        "B04": (100 + 10 * down + across).astype(np.uint16),
        "provenance": np.where(across < shape[1] // 2, 1, 3).astype(np.uint8),
        "cloudmask": np.where(down < shape[0] // 2, 1, 3).astype(np.uint8),
    }
    folder = made_run_product(tmp_path, layers=layers)
    (view,) = survey(tmp_path).products
    with ViewLayers(view, 20) as pixels:
        assert pixels.shape is not None
        assert max(pixels.shape) <= 20
        for name, slack in (("B04", 45), ("provenance", 0), ("cloudmask", 0)):
            found = pixels.read(name).astype(float)
            with rasterio.open(folder / f"{name}.tif") as dataset:
                expected = dataset.read(1, out_shape=pixels.shape, resampling=Resampling.nearest).astype(float)
            inner = (slice(1, -1), slice(1, -1))
            different = np.abs(found - expected)[inner] > slack
            # Where two classes meet, a pixel may fall to either side.
            assert different.mean() < 0.12, name


def test_ndvi_is_that_of_the_pixels_it_names(tmp_path: Path) -> None:
    layers = made_layers(3)
    made_run_product(tmp_path, layers=layers)
    (view,) = survey(tmp_path).products
    found = vegetation(view)
    red, near = (layers[name].astype(np.float64) * 1e-4 for name in ("B04", "B08"))
    ndvi = (near - red) / np.maximum(near + red, 1e-9)
    seen, whole = layers["provenance"] == 1, layers["provenance"] > 0
    assert found.observed == pytest.approx(ndvi[seen].mean(), abs=1e-3)
    assert found.whole == pytest.approx(ndvi[whole].mean(), abs=1e-3)
    assert (found.seen, found.made) == (pytest.approx(1 / 3, abs=1e-3), pytest.approx(2 / 3, abs=1e-3))


def test_ndvi_takes_the_offset_from_the_item(tmp_path: Path) -> None:
    def offset(item):
        for asset in item["assets"].values():
            if "declouder:reflectance" in asset:
                asset["declouder:reflectance"] = {"scale": 2e-4, "offset": -0.02}

    layers = made_layers(3)
    made_run_product(tmp_path, layers=layers, edit=offset)
    (view,) = survey(tmp_path).products
    red, near = (layers[name].astype(np.float64) * 2e-4 - 0.02 for name in ("B04", "B08"))
    where = layers["provenance"] == 1
    assert vegetation(view).observed == pytest.approx(((near - red) / (near + red))[where].mean(), abs=1e-3)


def test_what_was_left_cloudy_or_refused_is_in_no_mean() -> None:
    red = np.full((1, 4), 0.1, np.float32)
    near = np.array([[0.3, 0.1, 0.9, 0.1]], np.float32)
    found = mean_ndvi(red, near, np.uint8([[1, 1, 5, 0]]), np.array([[False, True, True, False]]))
    assert (found.observed, found.whole) == (0.5, 0.5)
    assert (found.seen, found.made) == (pytest.approx(1 / 3, abs=1e-4), 0.0)
    nothing = mean_ndvi(red, near, np.zeros((1, 4), np.uint8), np.zeros((1, 4), np.bool_))
    assert (nothing.observed, nothing.whole, nothing.seen, nothing.made) == (None, None, 0.0, 0.0)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda item: item["assets"].pop("nir"), "no NDVI without B08"),
        (lambda item: item["assets"].pop("provenance"), "no NDVI without provenance"),
        (lambda item: item["assets"]["red"].pop("declouder:reflectance"), "does not say what the numbers of B04 mean"),
        (
            lambda item: item["assets"]["red"].update({"declouder:reflectance": {"scale": 0, "offset": 0}}),
            "numbers of B04",
        ),
    ],
)
def test_without_bands_or_radiometry_there_is_no_ndvi(tmp_path: Path, edit, reason: str) -> None:
    made_run_product(tmp_path, edit=edit)
    (view,) = survey(tmp_path).products
    with pytest.raises(InvalidScene, match=reason):
        vegetation(view)


def test_without_a_preview_the_bands_show_what_is_after(tmp_path: Path) -> None:
    layers = made_layers()
    folder = made_run_product(tmp_path, layers=layers)
    whole = view_pictures(survey(tmp_path).products[0])
    (folder / "preview.png").unlink()
    (view,) = survey(tmp_path).products
    pictures = view_pictures(view)
    assert pictures.problems == (f"{folder}/preview.png: no such file",)
    assert (pictures.before, pictures.layers) == (b"", whole.layers)
    shown = np.asarray(Image.open(BytesIO(pictures.after)).convert("L")).astype(float)
    stored = layers["B03"].astype(float)
    # The brighter the ground, the brighter the picture; what is nodata is black.
    assert np.corrcoef(shown[:50].ravel(), stored[:50].ravel())[0, 1] > 0.95
    assert shown[-1].max() < 20


@pytest.mark.parametrize("colours", [OVER_PROVENANCE, OVER_CLOUDMASK], ids=["provenance", "cloudmask"])
def test_colours_over_a_picture_stay_apart_for_colour_blind_eyes(colours) -> None:
    """Machado, Oliveira and Fernandes (2009), severity 1: protan, deutan, tritan; in CIE Lab, where 2.3 is just visible."""
    from skimage.color import rgb2lab

    eyes = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    rgb = np.array(list(colours.values())) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for name, matrix in eyes.items():
        seen = np.clip(linear @ np.asarray(matrix).T, 0, 1)
        lab = rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)) > 15, name


def test_the_shades_of_confidence_differ_in_lightness_alone_enough() -> None:
    from skimage.color import rgb2lab

    lightness = rgb2lab(np.array([shade(percent) for percent in range(0, 101, 10)]) / 255)[:, 0]
    assert (np.diff(lightness) < -2.3).all()  # just visible


@pytest.mark.parametrize("days", [1, 9, 40, 149, 151, 400, 3000])
def test_a_date_axis_names_days_or_months_that_lie_on_it(days: int) -> None:
    start = datetime(2023, 12, 20, 12, tzinfo=UTC)
    axis = DateAxis("date", start.timestamp(), (start + timedelta(days=days)).timestamp())
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 8
    assert all(0 <= axis.place(value) <= 1 for value, _ in ticks)
    for value, label in ticks:
        moment = datetime.fromtimestamp(value, UTC)
        assert label == (f"{moment:%m-%d}" if days <= 150 else f"{moment:%Y-%m}")
        assert moment.hour == 0
        assert days <= 150 or moment.day == 1
