"""Real clouds put over other ground."""

from __future__ import annotations

import pytest
import torch

from srgan.errors import InvalidSpec
from srgan.optics import ASYMMETRY, coalbedo, over, two_stream
from srgan.spec import BANDS
from srgan.transplant import estimate, paste
from tests.srgan.chips import chip
from tests.srgan.made import ground

torch.set_num_threads(1)


def bright(cloudy: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
    """A cloud mask (1, H, W) good enough for pairs of low cloud over forest."""
    return ((cloudy[1:4] - clear[1:4]).mean(0) > 0.04).float()[None]


def made_pair(edge: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cloudy and clear side, mask and optical thickness of a round water cloud that is known exactly."""
    clear = ground(edge, edge)
    rows = torch.arange(edge)
    away = torch.hypot(*torch.meshgrid(rows - edge / 2, rows - edge / 2, indexing="ij"))
    tau = 20 * (1 - away / 20).clamp_min(0)
    cloudy = torch.empty_like(clear)
    for band in range(13):
        reflected, through = two_stream(tau, ASYMMETRY["water"], coalbedo(band, "water"))
        vapour = 0.002 if BANDS[band] == "B10" else 1.0  # else it would pass for ice
        cloudy[band] = over(clear[band], reflected, through**2, vapour)
    return cloudy, clear, (tau > 0).float()[None], tau


def test_a_known_cloud_is_found_again():
    cloudy, clear, cloud, tau = made_pair()
    found = estimate(cloudy, clear, cloud)
    for name in ("B02", "B08", "B12"):
        band = BANDS.index(name)
        through = two_stream(tau, ASYMMETRY["water"], coalbedo(band, "water"))[1]
        core = tau > 2
        assert (found.passed[band] - through**2)[core].abs().mean() < 0.03
    assert (paste([found], clear[None], torch.ones(1, 1, 64, 64)).image[0] - cloudy).abs().mean() < 0.003


def test_the_ground_below_thick_cloud_does_not_show_through_and_that_below_thin_cloud_does():
    cloudy, clear, cloud, tau = made_pair()
    found = estimate(cloudy, clear, cloud)
    valid = torch.ones(1, 1, 64, 64)
    dark, light = (paste([found], torch.full((1, 13, 64, 64), level), valid).image[0, 3] for level in (0.05, 0.35))
    added = light - dark
    assert added[tau > 15].mean() < 0.2
    assert added[(tau > 0) & (tau < 2)].mean() > 0.2


@pytest.mark.parametrize("patch", ["39_p100", "39_p500", "39_p838"])
def test_back_on_its_own_ground_a_real_cloud_is_what_it_was(shared_data, patch):
    cloudy, clear = (chip(shared_data, "1158_spring", patch, cloudy=side) for side in (True, False))
    cloud = bright(cloudy, clear)
    assert 0.05 < cloud.mean() < 0.9
    again = paste([estimate(cloudy, clear, cloud)], clear[None], torch.ones(1, 1, 256, 256))
    error = (again.image[0] - cloudy).abs()
    opaque = again.opacity[0, 1:4].mean(0) > 0.6
    assert opaque.sum() > 1000
    assert error[:, opaque].mean() < 0.01
    # Through thin cloud the two dates' ground is seen, which is not the same.
    assert error[:, cloud[0] > 0].mean() < 0.02
    untouched = again.cloud[0, 0] == 0
    assert torch.equal(again.image[0][:, untouched], clear[:, untouched])


def test_on_other_ground_it_is_bounded_keeps_nodata_and_stays_where_it_was(shared_data):
    sides = [
        [chip(shared_data, season, patch, cloudy=side) for side in (True, False)]
        for season, patch in (("1158_spring", "39_p838"), ("1970_fall", "136_p840"))
    ]
    clouds = [estimate(cloudy, clear, bright(cloudy, clear)) for cloudy, clear in sides]
    image = torch.stack([sides[1][1], sides[0][1]])
    valid = torch.ones(2, 1, 256, 256)
    valid[:, :, :50] = 0
    image[:, :, :50] = float("nan")
    pasted = paste(clouds, image, valid)
    assert pasted.image[:, :, :50].isnan().all()
    inside = pasted.image[:, :, 50:]
    assert inside.min() >= 0
    assert inside.max() <= 1.6
    for part in pasted[1:]:
        assert not part[:, :, :50].any()
        assert ((part >= 0) & (part <= 1)).all()
    assert (pasted.thin <= pasted.cloud).all()
    assert not pasted.shadow.any()
    for number, (cloudy, clear) in enumerate(sides):
        far = torch.nn.functional.max_pool2d(bright(cloudy, clear), 25, 1, 12)[0, 50:] == 0
        assert torch.equal(pasted.image[number, :, 50:][:, far], image[number, :, 50:][:, far])
    # The tropical cloud is low: water vapour has taken most of B09, and all of B10.
    thick = pasted.opacity[0, 3] > 0.8
    assert pasted.image[0, BANDS.index("B09")][thick].mean() < 0.4 * pasted.image[0, BANDS.index("B8A")][thick].mean()
    alone = paste(clouds[1:], image[1:], valid[1:])
    torch.testing.assert_close(alone.image[0], pasted.image[1], equal_nan=True, rtol=0, atol=0)


def test_what_does_not_fit_is_refused():
    cloudy, clear, cloud, _ = made_pair()
    found, valid = estimate(cloudy, clear, cloud), torch.ones(1, 1, 64, 64)
    for bad in (
        lambda: estimate(cloudy[:4], clear, cloud),
        lambda: estimate(cloudy, clear[..., :32], cloud),
        lambda: estimate(cloudy, clear, cloud[0]),
        lambda: estimate(cloudy, clear, torch.zeros_like(cloud)),
        lambda: paste([found, found], clear[None], valid),
        lambda: paste([found], clear[None], valid[..., :32]),
        lambda: paste([found], clear[None, ..., :32], valid[..., :32]),
    ):
        with pytest.raises(InvalidSpec):
            bad()
