"""The simple fills: figures worked out by hand, an oracle for each, and input that leaves them nothing to say."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.restoration import inpaint_biharmonic

from pipeline import baselines
from pipeline.baselines import BASELINES, TEMPORAL, Problem, unavailable
from pipeline.errors import InvalidSettings
from pipeline.harmonise import FEWEST, fit_band
from srgan.spec import BANDS, TYPICAL_LAND

SIZE = 40
HOLE = (slice(10, 22), slice(12, 30))


def made(dates: int = 3, seed: int = 0, channels: int = 2, **changes) -> Problem:
    """Ground that differs by date in gain and offset, a hole in the image, and other holes in the dates."""
    rng = np.random.default_rng(seed)
    ground = rng.gamma(4, 0.05, (channels, SIZE, SIZE)).clip(0.02, 0.9)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[HOLE] = True
    image = ground.astype(np.float32)
    image[:, mask] = 0.8
    fields = {
        "image": image,
        "mask": mask,
        "valid": np.ones((SIZE, SIZE), bool),
        "bands": ("B02", "B03", "B04")[:channels],
        "references": np.stack(
            [ground * (1 + 0.1 * i) + 0.02 * i + rng.normal(0, 0.004, ground.shape) for i in range(1, dates + 1)]
        ).astype(np.float32)
        if dates
        else np.zeros((0, channels, SIZE, SIZE), np.float32),
        "reference_valid": rng.random((dates, SIZE, SIZE)) < 0.7,
        "days": (-5.0, 3.0, -8.0, 12.0, 3.0)[:dates],
        "clouds": (0.4, 0.2, 0.05, 0.05, 0.1)[:dates],
    } | changes
    return Problem(**fields)


def row(values, valid, days, clouds=None, *, mask=None, image=None, **changes) -> Problem:
    """One band, one row of pixels: `values` and `valid` a list for each date."""
    references = np.array(values, np.float32)[:, None, None, :]
    width = references.shape[-1]
    return Problem(
        np.zeros((1, 1, width), np.float32) if image is None else np.array(image, np.float32)[None, None],
        np.ones((1, width), bool) if mask is None else np.array(mask, bool)[None],
        np.ones((1, width), bool),
        ("B08",),
        references,
        np.array(valid, bool)[:, None, :],
        tuple(days),
        tuple(clouds or [0.0] * len(days)),
        **changes,
    )


def by_pixel(problem: Problem, choose, *, harmonise: bool) -> np.ndarray:
    """An oracle in plain loops: `choose` says from [(days, clouds, date, value)] what a pixel gets."""
    out = problem.image.copy()
    clear = problem.valid & ~problem.mask
    for band in range(len(problem.bands)):
        dates = []
        for date, pixels in enumerate(problem.references[:, band]):
            joint = clear & problem.reference_valid[date]
            fit = fit_band(pixels[joint], problem.image[band][joint])
            dates.append(pixels * fit.gain + fit.offset if harmonise else pixels)
        for y, x in zip(*np.nonzero(problem.mask), strict=True):
            seen = [
                (problem.days[date], problem.clouds[date], date, float(dates[date][y, x]))
                for date in range(len(dates))
                if problem.reference_valid[date, y, x]
            ]
            out[band, y, x] = choose(seen) if seen else problem.image[band][clear].mean()
    return out


def between(seen):
    before = min((one for one in seen if one[0] <= 0), key=lambda one: (-one[0], one[1], one[2]), default=None)
    after = min((one for one in seen if one[0] > 0), default=None)
    if before is None or after is None:
        return (before or after)[3]
    return float(np.interp(0, [before[0], after[0]], [before[3], after[3]]))


ORACLES = {
    "nearest date": (True, lambda seen: min(seen, key=lambda one: (abs(one[0]), one[1], one[2]))[3]),
    "mean of dates": (True, lambda seen: float(np.mean([one[3] for one in seen]))),
    "linear in time": (True, between),
    "least-cloudy composite": (False, lambda seen: min(seen, key=lambda one: (one[1], abs(one[0]), one[2]))[3]),
    "median composite": (False, lambda seen: float(np.median([one[3] for one in seen]))),
    "median composite, harmonised": (True, lambda seen: float(np.median([one[3] for one in seen]))),
}


def test_every_temporal_method_has_an_oracle():
    assert set(ORACLES) == set(TEMPORAL)


@pytest.mark.parametrize("name", TEMPORAL)
@pytest.mark.parametrize("dates", [1, 2, 3, 5])
def test_temporal_methods_against_plain_loops(name, dates):
    problem = made(dates, seed=dates)
    harmonise, choose = ORACLES[name]
    expected = by_pixel(problem, choose, harmonise=harmonise)
    np.testing.assert_allclose(BASELINES[name](problem), expected, atol=2e-6)
    assert problem.open_share > 0.01 or dates > 3, "nothing tested of the pixels that no date shows"


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_outside_the_mask_every_method_gives_the_image_bit_for_bit_and_inside_a_number(seed, dates):
    rng = np.random.default_rng(seed)
    problem = made(
        dates,
        seed,
        mask=rng.random((SIZE, SIZE)) < rng.random(),
        valid=rng.random((SIZE, SIZE)) < 0.9,
    )
    for name, method in BASELINES.items():
        given_image = problem.image.copy()
        out = method(problem)
        np.testing.assert_array_equal(problem.image, given_image)
        if out is None:
            assert name in TEMPORAL
            assert not (problem.reference_valid.any(axis=0) & problem.mask).any()
            continue
        assert out.dtype == np.float32
        np.testing.assert_array_equal(out[:, ~problem.mask], problem.image[:, ~problem.mask])
        assert np.isfinite(out).all()


def test_harmonised_methods_undo_a_gain_and_an_offset_that_composites_keep():
    ground = made(0, channels=1).image.copy()
    ground[:, HOLE[0], HOLE[1]] = np.random.default_rng(5).uniform(0.1, 0.5, (12, 18))
    problem = made(1, channels=1)
    away = 1.25 * ground - 0.03
    image = ground.copy()
    image[:, problem.mask] = 0.8
    problem = made(
        1,
        channels=1,
        image=image,
        references=away[None].astype(np.float32),
        reference_valid=np.ones((1, SIZE, SIZE), bool),
    )
    for name, (harmonise, _) in ORACLES.items():
        expected = ground if harmonise else away
        np.testing.assert_allclose(BASELINES[name](problem)[:, problem.mask], expected[:, problem.mask], atol=1e-4)


def test_linear_in_time_by_hand():
    values = [[0.1] * 4, [0.4] * 4, [0.9] * 4]
    valid = [[1, 1, 0, 0], [1, 0, 1, 1], [1, 0, 0, 1]]
    out = BASELINES["linear in time"](row(values, valid, (-2, 4, 1)))
    # both sides (the nearer of the two after), before only, after only, after only (the nearer)
    np.testing.assert_allclose(out[0, 0], [0.1 + (0.9 - 0.1) * 2 / 3, 0.1, 0.4, 0.9], atol=1e-6)
    same_day = BASELINES["linear in time"](row([[0.2], [0.6]], [[1], [1]], (0, 3)))
    np.testing.assert_allclose(same_day[0, 0], [0.2], atol=1e-7)


def test_ties_go_to_the_less_cloudy_then_to_the_first():
    values, valid = [[0.1], [0.2], [0.3]], [[1], [1], [1]]
    assert BASELINES["nearest date"](row(values, valid, (3, -3, 3), (0.5, 0.2, 0.2)))[0, 0, 0] == pytest.approx(0.2)
    assert BASELINES["nearest date"](row(values, valid, (3, -3, 3)))[0, 0, 0] == pytest.approx(0.1)
    composite = BASELINES["least-cloudy composite"]
    assert composite(row(values, valid, (9, -3, 4), (0.1, 0.2, 0.1)))[0, 0, 0] == pytest.approx(0.3)


def test_mean_fill_is_the_mean_of_what_is_valid_clear_and_a_number():
    problem = made(0)
    problem.image[0, 0, 0] = np.nan
    problem.valid[1] = False
    clear = problem.valid & ~problem.mask & np.isfinite(problem.image).all(axis=0)
    out = BASELINES["mean fill"](problem)
    for band in range(2):
        np.testing.assert_allclose(out[band][problem.mask], problem.image[band][clear].astype(float).mean(), rtol=1e-6)
    assert np.isnan(out[0, 0, 0]), "outside the mask nothing changes, not even what is no number"


def test_what_is_known_of_the_whole_scene_leads():
    image, mask = [0.3, 0.3, 0.9], [0, 0, 1]
    known = {"lines": np.array([[[2.0, 0.1]]]), "level": np.array([0.25])}
    problem = row([[0.1, 0.1, 0.2]], [[1, 1, 1]], (1,), image=image, mask=mask, **known)
    assert BASELINES["nearest date"](problem)[0, 0, 2] == pytest.approx(0.5)
    assert BASELINES["median composite"](problem)[0, 0, 2] == pytest.approx(0.2)
    assert BASELINES["mean fill"](problem)[0, 0, 2] == pytest.approx(0.25)
    nothing_clear = row([[0.1]], [[1]], (1,), level=np.array([np.nan]))
    assert nothing_clear.known_mean is None


def test_pieces_of_a_scene_with_its_lines_give_what_the_whole_gives():
    whole = made(4, seed=9)
    clear = whole.clear
    lines = np.array(
        [
            [(fit.gain, fit.offset) for fit in (fit_band(d[b][clear & v], whole.image[b][clear & v]) for b in range(2))]
            for d, v in zip(whole.references, whole.reference_valid, strict=True)
        ]
    )
    level = whole.image[:, clear].mean(axis=1, dtype=np.float64)
    for name in ("mean fill", *TEMPORAL):
        pieces = []
        for rows in (slice(0, 15), slice(15, 23), slice(23, SIZE)):
            piece = Problem(
                whole.image[:, rows], whole.mask[rows], whole.valid[rows], whole.bands, whole.references[:, :, rows],
                whole.reference_valid[:, rows], whole.days, whole.clouds, lines, level,
            )  # fmt: skip
            pieces.append(BASELINES[name](piece))
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), BASELINES[name](whole), atol=1e-6, err_msg=name)


def test_telea_continues_what_surrounds_a_hole():
    pytest.importorskip("cv2")
    rows, cols = np.mgrid[:SIZE, :SIZE]
    mask = np.zeros((SIZE, SIZE), bool)
    mask[20, 20] = True
    ramp = (0.05 + 0.004 * rows + 0.008 * cols).astype(np.float32)
    image = np.stack([ramp, np.full_like(ramp, 0.25)])
    spoiled = np.where(mask, np.float32(1.5), image)
    out = BASELINES["telea"](made(0, image=spoiled, mask=mask))
    np.testing.assert_allclose(out, image, atol=1e-5)  # the neighbours of a single pixel balance each other
    biharmonic = inpaint_biharmonic(image[0].astype(float), mask)
    np.testing.assert_allclose(out[0], biharmonic, atol=1e-4)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1))
def test_telea_is_a_weighted_mean_and_knows_no_unit(seed, scale):
    pytest.importorskip("cv2")
    problem = made(0, seed)
    out = BASELINES["telea"](problem)
    for band in range(2):
        known = problem.image[band][~problem.mask]
        assert known.min() - 1e-5 <= out[band].min()
        assert out[band].max() <= known.max() + 1e-5
    smaller = BASELINES["telea"](made(0, seed, image=problem.image * np.float32(scale)))
    np.testing.assert_allclose(smaller, out * scale, atol=2e-5)


def test_telea_agrees_with_opencv_on_sixteen_bits():
    cv2 = pytest.importorskip("cv2")
    problem = made(0, 4)
    out = BASELINES["telea"](problem)
    for band in range(2):
        counts = np.rint(problem.image[band] * 50_000).astype(np.uint16)
        painted = cv2.inpaint(counts, problem.mask.astype(np.uint8), baselines.RADIUS, cv2.INPAINT_TELEA)
        np.testing.assert_allclose(out[band][problem.mask], painted[problem.mask] / 50_000, atol=3e-4)


def test_telea_takes_invalid_pixels_for_unknown():
    pytest.importorskip("cv2")
    problem = made(0)
    problem.valid[:, 5:12] = False
    problem.image[:, :, 5:12] = 0  # nodata beside the hole
    problem.image[0, 30, 30] = np.nan
    out = BASELINES["telea"](problem)
    assert out[:, problem.mask].min() > 0.015
    assert np.isnan(out[0, 30, 30])
    assert np.isfinite(out[:, problem.mask]).all()


def test_telea_without_opencv_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(baselines, "find_spec", lambda _: None)
    assert set(unavailable()) == {"telea"}
    assert "declouder[evaluate]" in unavailable()["telea"]
    with pytest.raises(InvalidSettings, match="OpenCV"):
        BASELINES["telea"](made(0))


def test_nothing_clear_leaves_only_other_dates():
    everywhere = np.ones((SIZE, SIZE), bool)
    for changes in (
        {"mask": everywhere},
        {"valid": ~everywhere},
        {"image": np.full((2, SIZE, SIZE), np.nan, np.float32)},
    ):
        problem = made(2, **changes)
        typical = np.array([TYPICAL_LAND[BANDS.index(band)] for band in problem.bands], np.float32)
        for name in ("mean fill", "telea"):
            filled = BASELINES[name](problem)
            assert filled is not None
            np.testing.assert_allclose(filled[:, problem.mask], np.tile(typical[:, None], (1, problem.mask.sum())))
        for name in TEMPORAL:
            out = BASELINES[name](problem)
            values = out[:, problem.mask]
            assert np.isfinite(values).all()
            # What no date shows gets the mean of what the method filled.
            shown = problem.reference_valid.any(axis=0)[problem.mask]
            expected = values[:, shown].astype(np.float64).mean(axis=1)
            np.testing.assert_allclose(values[:, ~shown], np.tile(expected[:, None], (1, (~shown).sum())), rtol=1e-5)


def test_no_date_or_none_that_shows_anything_is_none_and_not_a_fill():
    for problem in (made(0), made(2, reference_valid=np.zeros((2, SIZE, SIZE), bool))):
        assert all(BASELINES[name](problem) is None for name in TEMPORAL)
        assert problem.open_share == 1
        assert BASELINES["mean fill"](problem) is not None


def test_nothing_masked_gives_the_image():
    problem = made(2, mask=np.zeros((SIZE, SIZE), bool))
    assert problem.open_share == 0
    for method in BASELINES.values():
        np.testing.assert_array_equal(method(problem), problem.image)


def test_a_date_that_holds_no_number_is_not_clear_there():
    problem = made(1, reference_valid=np.ones((1, SIZE, SIZE), bool))
    problem.references[0, 1, 12, 15] = np.nan
    problem.references[0, 0, 2, 2] = np.inf  # outside the mask: it must not spoil the fit
    out = BASELINES["nearest date"](problem)
    assert np.isfinite(out).all()
    assert problem.unseen.sum() == 1
    np.testing.assert_allclose(out[:, 12, 15], problem.image[:, problem.clear].mean(axis=1), rtol=1e-5)


def test_too_few_jointly_clear_pixels_leave_a_date_as_it_is():
    valid = np.zeros((1, SIZE, SIZE), bool)
    valid[0, :1, : FEWEST - 20] = True
    valid[0][HOLE] = True
    problem = made(1, reference_valid=valid)
    np.testing.assert_array_equal(
        BASELINES["nearest date"](problem)[:, problem.mask], problem.references[0][:, problem.mask]
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"mask": np.zeros((SIZE, SIZE - 1), bool)},
        {"days": (1.0,)},
        {"clouds": (0.1, 0.1)},
        {"bands": ("B02",)},
        {"bands": ()},
        {"references": np.zeros((3, 1, SIZE, SIZE), np.float32)},
        {"reference_valid": np.zeros((2, SIZE, SIZE), bool)},
        {"image": np.zeros((SIZE, SIZE), np.float32)},
        {"days": (1.0, float("nan"), 2.0)},
        {"clouds": (0.1, 0.1, float("inf"))},
    ],
)
def test_a_problem_that_does_not_fit_together_is_refused(changes):
    with pytest.raises(InvalidSettings, match="must be"):
        made(3, **changes)
