"""The preview: true means, one stretch, independent of how the scene was cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import block_reduce

from pipeline.errors import InvalidSettings, WriteFailed
from pipeline.preview import Preview


def scene(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 4000, (3, rows, cols), dtype=np.uint16)


def test_means_are_those_of_block_reduce():
    before, after = scene(60, 90, 1), scene(60, 90, 2)
    preview = Preview((60, 90), max_size=30)
    preview.add(0, before, after)
    assert preview.factor == 3
    means, there = preview.means()
    for found, image in zip(means, (before, after), strict=True):
        np.testing.assert_allclose(found, block_reduce(image.astype(float), (1, 3, 3), np.mean))
    assert there.all()


@settings(deadline=None, max_examples=30)
@given(
    heights=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    cols=st.integers(1, 40),
    size=st.integers(1, 50),
    seed=st.integers(0, 9),
)
def test_stripes_do_not_show(heights, cols, size, seed):
    rows = sum(heights)
    before, after = scene(rows, cols, seed), scene(rows, cols, seed + 1)
    before[:, ::3] = 0
    whole, cut = (Preview((rows, cols), size, nodata=0) for _ in range(2))
    whole.add(0, before, after)
    row = 0
    for height in heights:
        cut.add(row, before[:, row : row + height], after[:, row : row + height])
        row += height
    np.testing.assert_array_equal(whole.render(), cut.render())
    assert max(whole.render().shape[0], (whole.render().shape[1] - 4) // 2) <= size


def test_nodata_is_left_out_of_means_and_stays_black():
    image = np.full((3, 4, 4), 1000, np.uint16)
    image[:, :2, :2] = 0
    image[:, 2, 2] = 0
    image[0, 3, 3] = 0
    preview = Preview((4, 4), max_size=2, nodata=0)
    preview.add(0, image, image)
    means, there = preview.means()
    np.testing.assert_array_equal(there[0], [[False, True], [True, True]])
    assert means[0, 1, 1, 1] == 1000
    # One channel that happens to be 0 is a dark pixel, not nodata.
    assert means[0, 0, 1, 1] == pytest.approx(2000 / 3)
    assert (preview.render()[0, 0] == 0).all()


def test_both_sides_have_the_stretch_of_what_was_clear():
    """Clouds are white before and do not decide the stretch; unchanged pixels look the same on both sides."""
    after = scene(64, 64)
    before = after.copy()
    before[:, :, :32] = 9000
    after[:, 0, 0] = 20000
    preview = Preview((64, 64))
    preview.add(0, before, after)
    picture = preview.render()
    assert picture.shape == (64, 132, 3)
    left, line, right = picture[:, :64], picture[:, 64:68], picture[:, 68:]
    assert (left[:, :32] == 255).all()
    assert (line == 255).all()
    np.testing.assert_array_equal(left[:, 32:], right[:, 32:])
    assert 60 < np.median(right) < 200
    assert (
        np.diff(right[after[0] < 20000][np.argsort(after[0][after[0] < 20000], kind="stable"), 0].astype(int)) >= 0
    ).all()


def test_a_scene_that_is_all_nodata_or_flat_is_drawn():
    empty = Preview((5, 5), nodata=7)
    empty.add(0, np.full((3, 5, 5), 7, np.uint16), np.full((3, 5, 5), 7, np.uint16))
    assert set(np.unique(empty.render())) == {0, 255}
    flat = Preview((5, 5))
    flat.add(0, np.full((3, 5, 5), 500, np.uint16), np.full((3, 5, 5), 500, np.uint16))
    assert flat.render().shape == (5, 14, 3)


def test_the_largest_values_do_not_overflow():
    preview = Preview((600, 600), max_size=1)
    image = np.full((3, 600, 600), 65535, np.uint16)
    preview.add(0, image, image)
    assert (preview.means()[0] == 65535).all()


def test_files_are_pictures_of_the_right_size_and_always_the_same(tmp_path):
    preview = Preview((900, 600), max_size=450)
    image = scene(900, 600)
    preview.add(0, image, image)
    preview.save(tmp_path)
    with Image.open(tmp_path / "preview.png") as picture:
        assert (picture.size, picture.mode, picture.format) == ((604, 450), "RGB", "PNG")
        np.testing.assert_array_equal(np.asarray(picture), preview.render())
    with Image.open(tmp_path / "thumbnail.png") as thumbnail:
        assert thumbnail.size == (256, 191)
    first = (tmp_path / "preview.png").read_bytes()
    preview.save(tmp_path)
    assert (tmp_path / "preview.png").read_bytes() == first


def test_a_single_pixel_has_a_picture(tmp_path):
    preview = Preview((1, 1))
    preview.add(0, np.full((3, 1, 1), 900, np.uint16), np.full((3, 1, 1), 100, np.uint16))
    preview.save(tmp_path)
    with Image.open(tmp_path / "thumbnail.png") as thumbnail:
        assert thumbnail.size == (6, 1)


def test_bad_calls_are_refused(tmp_path):
    with pytest.raises(InvalidSettings, match="must be positive"):
        Preview((0, 5))
    preview = Preview((5, 5))
    for shape in ((3, 5, 4), (2, 5, 5), (5, 5)):
        with pytest.raises(InvalidSettings, match="expected"):
            preview.add(0, np.zeros(shape, np.uint16), np.zeros(shape, np.uint16))
    with pytest.raises(WriteFailed, match=r"preview\.png: cannot be written"):
        preview.save(tmp_path / "nowhere")
