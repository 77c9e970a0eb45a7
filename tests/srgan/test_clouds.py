"""Synthetic clouds: seeded, physical, and shadows on the right side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan.clouds import Layer, Sky, add_clouds, random_sky
from srgan.errors import InvalidSpec
from srgan.spec import BANDS
from tests.srgan.made import ground

torch.set_num_threads(1)

KINDS = ("haze", "broken", "overcast", "cirrus")
CUMULUS = Sky((Layer("low", 0.3, 40.0, height=400),), sun_zenith=45, sun_azimuth=150)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cover(sky: Sky, seed: int = 0, rows: int = 96, cols: int = 96, image=None, valid=None):
    image = ground(rows, cols)[None] if image is None else image
    valid = torch.ones(1, 1, *image.shape[2:]) if valid is None else valid
    return image, add_clouds(image, valid, [sky], [seeded(seed)])


def band(clouded, name: str) -> torch.Tensor:
    return clouded.image[:, BANDS.index(name)]


def same(mine, theirs) -> bool:
    return all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))


def test_the_generator_decides_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = cover(CUMULUS, 5)[1]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same(first, cover(CUMULUS, 5)[1])
    assert not torch.equal(first.image, cover(CUMULUS, 6)[1].image)
    assert random_sky(seeded(3)) == random_sky(seeded(3)) != random_sky(seeded(4))


def test_a_sample_does_not_depend_on_its_place_in_the_batch():
    image = torch.stack([ground(64, 80, seed) for seed in range(3)])
    valid = torch.ones(3, 1, 64, 80)
    skies = [random_sky(seeded(seed), kind) for seed, kind in enumerate(("broken", "cirrus", "haze"))]
    whole = add_clouds(image, valid, skies, [seeded(seed) for seed in (7, 8, 9)])
    order = [2, 0, 1]
    turned = add_clouds(image[order], valid[order], [skies[i] for i in order], [seeded(7 + i) for i in order])
    for place, sample in enumerate(order):
        alone = add_clouds(image[sample : sample + 1], valid[:1], [skies[sample]], [seeded(7 + sample)])
        assert same([part[place] for part in turned], [part[sample] for part in whole])
        assert same([part[0] for part in alone], [part[sample] for part in whole])


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS), rows=st.integers(33, 90), cols=st.integers(33, 90))
@settings(max_examples=15, deadline=None)
def test_any_sky_is_finite_bounded_and_changes_nothing_outside_its_masks(seed, kind, rows, cols):
    valid = torch.ones(1, 1, rows, cols)
    valid[..., :20, :30] = 0
    image = ground(rows, cols)[None]
    image[..., :20, :30] = float("nan")
    _, clouded = cover(random_sky(seeded(seed), kind), seed, image=image, valid=valid)
    inside = valid.expand_as(image) > 0
    assert clouded.image[inside].isfinite().all()
    assert clouded.image[inside].min() >= 0
    assert clouded.image[inside].max() <= 1.6
    assert clouded.image[..., :20, :30].isnan().all()
    for part in clouded[1:]:
        assert not part[..., :20, :30].any()
        assert ((part >= 0) & (part <= 1)).all()
    assert (clouded.thin <= clouded.cloud).all()
    untouched = ((clouded.cloud == 0) & (clouded.shadow == 0) & (valid > 0)).expand_as(image)
    assert torch.equal(clouded.image[untouched], image[untouched])
    assert not clouded.opacity[untouched].any()


def test_no_cover_and_no_haze_change_nothing():
    image, clouded = cover(Sky((Layer("low", 0.0, 20.0),), 45, 150))
    assert torch.equal(clouded.image, image)
    assert not any(part.any() for part in clouded[1:])


@pytest.mark.parametrize("kind", ["low", "mid", "cirrus"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_the_cover_is_what_was_asked_for(kind, share):
    _, clouded = cover(Sky((Layer(kind, share, 20.0),), 45, 150), rows=256, cols=256)
    covered = clouded.opacity[:, BANDS.index("B04")] > 0
    assert covered.float().mean().item() == pytest.approx(share, abs=0.03)


def test_thick_cloud_is_white_bright_and_hides_the_ground():
    image, clouded = cover(Sky((Layer("low", 1.0, 80.0),), 45, 150))
    visible = clouded.image[:, 1:4]
    assert visible.median() > 0.6
    assert clouded.opacity[:, 1:4].median() > 0.9
    ours, theirs = visible[0, 2].flatten().numpy(), image[0, 3].flatten().numpy()
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.4


def test_haze_is_bluish_and_lets_the_ground_through():
    image, clouded = cover(Sky((), 45, 150, haze=1.0))
    added = (clouded.image - image).mean((0, 2, 3))
    assert (added[:4].diff() < 0).all()
    assert added[BANDS.index("B12")] < 0.2 * added[BANDS.index("B02")]
    ours, theirs = clouded.image[0, 3].flatten().numpy(), image[0, 3].flatten().numpy()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.8
    assert clouded.thin.all()
    assert not clouded.shadow.any()


def test_the_cirrus_band_sees_high_cloud_only_and_the_water_vapour_band_by_height():
    low, mid, high = (cover(Sky((Layer(kind, 1.0, 30.0),), 45, 150))[1] for kind in ("low", "mid", "cirrus"))
    assert band(low, "B10").mean() < 0.01 < band(mid, "B10").mean() < 0.5 * band(high, "B10").mean()
    share = [(band(one, "B09") / band(one, "B8A")).median() for one in (low, mid, high)]
    assert share[0] < 0.6 < share[1] < 0.9 < share[2]


def test_a_sky_that_cannot_be_is_refused():
    for bad in (
        lambda: Layer("fog", 0.5, 10),  # type: ignore[arg-type]
        lambda: Layer("low", 1.5, 10),
        lambda: Layer("low", 0.5, 0),
        lambda: Layer("low", float("nan"), 10),
        lambda: Layer("low", 0.5, 10, height=-1),
        lambda: Layer("low", 0.5, 10, form="castle"),  # type: ignore[arg-type]
        lambda: Sky((), 95, 0),
        lambda: Sky((), 45, float("inf")),
        lambda: Sky((), 45, 0, haze=-1),
        lambda: Sky((), 45, 0, resolution=0),
        lambda: random_sky(seeded(), "snow"),
        lambda: add_clouds(torch.zeros(1, 4, 8, 8), torch.ones(1, 1, 8, 8), [CUMULUS], [seeded()]),
        lambda: add_clouds(torch.zeros(2, 13, 8, 8), torch.ones(2, 1, 8, 8), [CUMULUS], [seeded()]),
    ):
        with pytest.raises(InvalidSpec):
            bad()
