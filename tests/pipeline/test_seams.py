"""The seam score sees a step at tile borders, and not how stripes are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.composite import Provenance
from pipeline.seams import SeamScore
from pipeline.tiling import plan_tiles


def score(image: np.ndarray, provenance: np.ndarray, stripe: int) -> float | None:
    seams = SeamScore(plan_tiles(np.ones(image.shape, bool), 32, 8))
    for row in range(0, image.shape[0], stripe):
        seams.add(row, image[row : row + stripe], provenance[row : row + stripe])
    return seams.value


def test_a_step_at_every_tile_start_stands_out():
    rng = np.random.default_rng(0)
    image = rng.integers(1000, 1040, (120, 120)).astype(np.uint16)
    restored = np.full(image.shape, Provenance.RESTORED, np.uint8)
    assert score(image, restored, 120) == pytest.approx(1.0, abs=0.1)
    image[:, 24:48] += 400
    image[:, 72:88] += 400
    assert score(image, restored, 120) > 3


def test_observed_pixels_do_not_count():
    image = np.zeros((64, 64), np.uint16)
    image[:, 24:] = 9000
    assert score(image, np.full(image.shape, Provenance.OBSERVED, np.uint8), 64) is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70))
def test_stripes_do_not_matter(seed, stripe):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 65536, (70, 50)).astype(np.uint16)
    provenance = rng.integers(0, 6, image.shape).astype(np.uint8)
    assert score(image, provenance, stripe) == score(image, provenance, 70)


def test_the_score_is_the_ratio_by_hand():
    image = np.zeros((1, 40), np.uint16)
    image[0] = np.arange(40) * 10
    image[0, 24:] += 30
    plan = plan_tiles(np.ones((1, 40), bool), 32, 8)
    assert plan.horizontal.starts == (0, 8)
    seams = SeamScore(plan)
    seams.add(0, image, np.full((1, 40), Provenance.GENERATED, np.uint8))
    # Borders at 8 (a tile begins) and 32 (a tile ends): two steps of 10; of the other 37 one is 40.
    assert seams.value == pytest.approx(10 / ((36 * 10 + 40) / 37))
