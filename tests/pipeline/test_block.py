"""Blocks: the same pixels however the scene is cut, clear pixels untouched, unusable answers refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.block import SceneJob, block_edges, compute_block
from pipeline.composite import Provenance, coarsen_max, refine
from pipeline.errors import InvalidSettings
from pipeline.inference import Identity

from .fakes import ArrayScene, Smoother, made_job

sizes = st.integers(1, 12).map(lambda n: 6 * n)


def whole(job: SceneJob, edge: int, network) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All blocks of a scene put together."""
    bands = {band.name: np.zeros(band.geobox.shape, np.uint16) for band in job.scene.bands}
    provenance = np.zeros(job.scene.shape, np.uint8)
    for rows in block_edges(job.scene.shape[0], edge, job.cell):
        for cols in block_edges(job.scene.shape[1], edge, job.cell):
            result = compute_block(job, rows, cols, network)
            provenance[rows, cols] = result.provenance
            for band in job.scene.bands:
                f = band.factor
                bands[band.name][rows.start // f : rows.stop // f, cols.start // f : cols.stop // f] = result.bands[
                    band.name
                ]
    return bands, provenance


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), sizes, sizes, st.integers(0, 8), st.integers(0, 4), st.sampled_from([6, 12, 30, 66]))
def test_the_product_does_not_depend_on_how_it_is_cut(seed, rows, cols, overlap, feather, edge):
    job = made_job(seed, rows, cols, overlap=overlap, feather=feather)
    one, provenance_one = whole(job, 120, Smoother())
    many, provenance_many = whole(job, edge, Smoother())
    assert np.array_equal(provenance_one, provenance_many)
    for name, pixels in one.items():
        assert np.array_equal(pixels, many[name])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), sizes, sizes, st.sampled_from([None, np.nan, np.inf, -np.inf]))
def test_what_provenance_calls_observed_is_the_source(seed, rows, cols, poison):
    job = made_job(seed, rows, cols)
    bands, provenance = whole(job, 30, Smoother(poison=poison))
    for band in job.scene.bands:
        source = job.scene.arrays[band.name][1]
        same = refine(bands[band.name] == source, band.factor)
        untouched = np.isin(provenance, [Provenance.OBSERVED, Provenance.REFUSED])
        assert same[untouched].all()
        assert np.array_equal(bands[band.name] == 0, source == 0)
        # Outside the mask, widened to whole pixels of this band, nothing changes whatever provenance says.
        clear = ~refine(coarsen_max(job.target, band.factor), band.factor)
        assert same[clear].all()
    changed = np.isin(provenance, [Provenance.BLENDED, Provenance.RESTORED, Provenance.GENERATED])
    assert not changed[~refine(coarsen_max(job.target, 6), 6)].any()
    if poison is None:
        assert not (provenance == Provenance.REFUSED).any()


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_network_that_returns_no_number_is_refused_not_written(poison):
    class Broken(Smoother):
        def restore(self, tiles):
            for tile in tiles:
                yield np.full(tile.cloudy.shape, poison, np.float32)

    job = made_job(5, 60, 60)
    bands, provenance = whole(job, 30, Broken())
    for band in job.scene.bands:
        assert np.array_equal(bands[band.name], job.scene.arrays[band.name][1])
    complete = provenance != Provenance.NODATA
    assert (provenance[job.target & complete] == Provenance.REFUSED).all()
    assert (provenance[~refine(coarsen_max(job.target, 6), 6) & complete] == Provenance.OBSERVED).all()


def test_identity_changes_no_value_but_marks_what_it_claims():
    job = made_job(3, 60, 84)
    # The network sees nothing of a pixel that lacks any band: here every pixel has all of them.
    for scene in (job.scene, job.references[0].scene):
        for _, pixels, _ in scene.arrays.values():
            pixels[pixels == 0] = 1
    bands, provenance = whole(job, 42, Identity())
    for band in job.scene.bands:
        if band.factor == 1:
            assert np.abs(bands[band.name].astype(int) - job.scene.arrays[band.name][1]).max() <= 1
    clear = job.references[0].clear
    assert clear[provenance == Provenance.RESTORED].all()
    assert not clear[provenance == Provenance.GENERATED].any()


def test_a_block_without_clouds_runs_no_network():
    job = made_job(3, 60, 60)
    target = np.zeros_like(job.target)
    clear = replace(
        job, target=target, plan=type(job.plan)(job.plan.vertical, job.plan.horizontal, job.plan.needed & False)
    )
    network = Smoother()
    whole(clear, 30, network)
    assert network.calls == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 20), (16, 5)])
def test_scenes_smaller_than_a_tile_are_padded_by_mirroring(shape):
    pixels = np.arange(1, 1 + shape[0] * shape[1], dtype=np.uint16).reshape(shape)
    job = made_job(0, 60, 60)
    from pipeline.tiling import plan_tiles

    target = np.ones(shape, bool)
    small = SceneJob(
        ArrayScene({"B02": (1, pixels, None)}), target, target.astype(np.uint8) * 3, (), plan_tiles(target, 16, 4), 2
    )

    class Watching(Smoother):
        def restore(self, tiles):
            for tile in tiles:
                assert tile.cloudy.shape == (1, 16, 16)
                assert tile.references.shape == (0, 1, 16, 16)
                assert np.isin(tile.cloudy, pixels * np.float32(1e-4)).all()
                yield tile.cloudy + np.float32(0.01)

    result = compute_block(small, slice(0, shape[0]), slice(0, shape[1]), Watching())
    assert np.array_equal(result.bands["B02"], pixels + 100)
    assert (result.provenance == Provenance.GENERATED).all()
    assert job.cell == 6


def test_offset_and_harmonisation_reach_the_network():
    pixels = np.full((16, 16), 3000, np.uint16)
    seen = {}

    class Watching(Smoother):
        def restore(self, tiles):
            for tile in tiles:
                seen["cloudy"], seen["reference"], seen["days"] = (
                    tile.cloudy[0, 0, 0],
                    tile.references[0, 0, 0, 0],
                    tile.days,
                )
                yield tile.references[0]

    from pipeline.tiling import plan_tiles

    from .fakes import ArrayReference

    other = ArrayScene({"B02": (1, np.full((16, 16), 2000, np.uint16), 0)})
    reference = ArrayReference(other, np.ones((16, 16), bool), -3.0, {"B02": 1.5}, {"B02": 0.05})
    target = np.ones((16, 16), bool)
    scene = ArrayScene({"B02": (1, pixels, 0)}, offset=-0.1)
    job = SceneJob(scene, target, target.astype(np.uint8) * 3, (reference,), plan_tiles(target, 16, 4), 0)
    result = compute_block(job, slice(0, 16), slice(0, 16), Watching())
    assert seen["cloudy"] == pytest.approx(0.2)
    assert seen["reference"] == pytest.approx(1.5 * 0.2 + 0.05)
    assert seen["days"] == (-3.0,)
    # 0.35 reflectance in the scene's own encoding, whose offset of -0.1 is still to be added.
    assert (result.bands["B02"] == 4500).all()
    assert (result.provenance == Provenance.RESTORED).all()


def test_an_edge_that_cuts_a_coarse_pixel_is_refused():
    with pytest.raises(InvalidSettings, match="block edge 256 must be a multiple of 6"):
        block_edges(1000, 256, 6)


def test_a_refused_tile_does_not_darken_the_coarse_pixel_at_its_border():
    job = made_job(11, 60, 60, feather=0)
    for band in job.scene.bands:
        job.scene.arrays[band.name][1][:] = 5000
    classes = np.full((60, 60), 1, np.uint8)
    classes[26:28, 5:55] = 3
    target = classes == 3
    from pipeline.tiling import plan_tiles

    constant = replace(job, target=target, classes=classes, references=(), plan=plan_tiles(target, 16, 4, 6))

    class OneBad(Smoother):
        def restore(self, tiles):
            for tile in tiles:
                self.calls += 1
                yield np.full(tile.cloudy.shape, np.nan if self.calls == 3 else 0.5, np.float32)

    bands, provenance = whole(constant, 60, OneBad())
    assert (provenance == Provenance.REFUSED).any()
    assert all((pixels == 5000).all() for pixels in bands.values())


def test_a_reference_that_lacks_a_band_supports_nothing_there():
    job = made_job(4, 60, 60)
    reference = job.references[0]
    reference.clear[:] = True
    reference.scene.arrays["B02"][1][:] = 900
    reference.scene.arrays["B05"][1][:] = 900
    reference.scene.arrays["B09"][1][:] = 900
    reference.scene.arrays["B02"][1][:, 30:] = 0
    _, provenance = whole(job, 60, Smoother())
    assert (provenance[:, :30] == Provenance.RESTORED).any()
    assert not (provenance[:, :30] == Provenance.GENERATED).any()
    assert (provenance[:, 30:] == Provenance.GENERATED).any()
    assert not (provenance[:, 30:] == Provenance.RESTORED).any()


def test_a_cloud_over_a_pixel_that_lacks_one_band_goes_from_the_others():
    job = made_job(8, 60, 60)
    job.scene.arrays["B02"][1][:, :20] = 0
    for name in ("B05", "B09"):
        pixels = job.scene.arrays[name][1]
        pixels[pixels == 0] = 1
    bands, provenance = whole(job, 30, Smoother())
    assert (bands["B02"][:, :20] == 0).all()
    assert not (provenance[job.target] == Provenance.OBSERVED).any()
    changed = refine(bands["B05"] != job.scene.arrays["B05"][1], 2)
    assert changed[:, :20][job.target[:, :20]].mean() > 0.9
