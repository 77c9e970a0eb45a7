"""What a checkpoint makes of a case is what a product would hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.answers import answer, harmonised
from pipeline.harmonise import fit_band, trust_in
from pipeline.inference import TileInput, TorchRestorer
from srgan.checkpoint import Checkpoint
from srgan.errors import InvalidSpec
from tests.pipeline.made_cases import made_case, smallest
from tests.pipeline.made_chips import NAMES


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return smallest()


def dn(image: np.ndarray) -> np.ndarray:
    return np.rint(image.astype(np.float64) * 1e4)


def test_clear_pixels_are_the_input_bit_for_bit(checkpoint: Checkpoint) -> None:
    case = made_case(dates=2)
    given = answer(checkpoint, case, harmonised(case))
    outside = ~case.problem.mask
    for image in (given.restored, given.guess):
        np.testing.assert_array_equal(image[:, outside], case.problem.image[:, outside])
        assert (image != case.problem.image)[:, case.problem.mask].any()
    assert given.uncertainty.shape == given.structure.shape == (4, 64, 64)
    assert (given.uncertainty > 0).all()
    assert given.opacity.min() >= 0
    assert given.opacity.max() <= 1


def test_the_network_says_what_the_engine_s_restorer_says(checkpoint: Checkpoint) -> None:
    case = made_case(dates=2)
    problem, references = case.problem, harmonised(case)
    tile = TileInput(
        cloudy=np.where(problem.valid, problem.image, np.float32(0)),
        mask=problem.mask.astype(np.float32),
        valid=problem.valid,
        references=references,
        reference_valid=problem.reference_valid,
        days=problem.days,
    )
    restorer = TorchRestorer(checkpoint, NAMES)
    (restored,) = restorer.restore([tile])
    restorer.close()
    given = answer(checkpoint, case, references)
    np.testing.assert_array_equal(given.network, restored[: len(NAMES)])
    # Deep inside the mask the product is the network, in whole DN.
    inner = np.zeros_like(problem.mask)
    inner[24:40, 16:48] = True
    np.testing.assert_allclose(dn(given.restored)[:, inner], dn(np.clip(given.network, 0, None))[:, inner], atol=0.51)


def test_the_rim_is_a_mixture(checkpoint: Checkpoint) -> None:
    """One pixel inside the mask a sixth of the way: five pixels of feathering at 10 m."""
    case = made_case()
    given = answer(checkpoint, case, harmonised(case))
    row, col = 12, 32
    assert case.problem.mask[row, col]
    assert not case.problem.mask[row - 1, col]
    before, after = case.problem.image[:, row, col], np.clip(given.network[:, row, col], 0, None)
    np.testing.assert_allclose(given.restored[:, row, col], before + (after - before) / 6, atol=1.01e-4)


def test_references_are_harmonised_by_what_is_clear_in_both() -> None:
    case = made_case(dates=1)
    problem = case.problem
    hidden = np.zeros((1, 64, 64), bool)
    hidden[0, :, 40:] = True
    case = replace(case, problem=replace(problem, reference_valid=~hidden))
    found = harmonised(case)
    assert (found[:, :, hidden[0]] == 0).all()
    joint = ~hidden[0] & problem.valid & ~problem.mask
    fit = fit_band(problem.references[0, 3][joint], problem.image[3][joint])
    # Fewer than 2000 jointly clear pixels: the bands' own lines alone.
    assert joint.sum() < 2000
    other = problem.references[0, 3][~hidden[0]]
    brighter = max(
        np.median((problem.image - problem.references[0])[band][joint]) for band in range(len(problem.image))
    )
    trust = trust_in(float(brighter), float(problem.clear.sum() / problem.valid.sum()), problem.days[0])
    expected = other + trust * (fit.gain * other + fit.offset - other)
    np.testing.assert_allclose(found[0, 3][~hidden[0]], expected, rtol=0, atol=1e-6)


def test_of_more_references_than_it_takes_it_gets_the_nearest() -> None:
    case = made_case(dates=2)
    one = smallest(max_references=1)
    nearest = replace(
        case,
        problem=replace(
            case.problem,
            references=case.problem.references[:1],
            reference_valid=case.problem.reference_valid[:1],
            days=case.problem.days[:1],
            clouds=case.problem.clouds[:1],
        ),
    )
    both = answer(one, case, harmonised(case))
    np.testing.assert_array_equal(both.restored, answer(one, nearest, harmonised(nearest)).restored)
    none = answer(smallest(max_references=0), case, harmonised(case))
    assert (none.restored != both.restored).any()


@pytest.mark.parametrize("size", [64, 48, 40])
def test_any_size(checkpoint: Checkpoint, size: int) -> None:
    """Sides that are no multiple of the network's are filled up by mirroring and cut again."""
    whole = made_case(dates=1)
    problem = whole.problem
    cut = (slice(0, size), slice(0, size))
    case = replace(
        whole,
        problem=replace(
            problem,
            image=problem.image[(slice(None), *cut)],
            mask=problem.mask[cut],
            valid=problem.valid[cut],
            references=problem.references[(slice(None), slice(None), *cut)],
            reference_valid=problem.reference_valid[(slice(None), *cut)],
        ),
        target=whole.target[(slice(None), *cut)],
        known=whole.known[cut],
        shadow=whole.shadow[cut],
        ground=whole.ground[cut],
    )
    given = answer(checkpoint, case, harmonised(case))
    assert given.restored.shape == (13, size, size)
    assert np.isfinite(given.restored).all()


def test_what_the_network_cannot_say_is_no_number_and_nothing_else_changes() -> None:
    checkpoint, case = smallest(), made_case()
    with torch.no_grad():
        checkpoint.generator.correction.bias.fill_(float("nan"))
    given = answer(checkpoint, case, harmonised(case))
    assert np.isnan(given.restored[:, case.problem.mask]).all()
    outside = ~case.problem.mask
    np.testing.assert_array_equal(given.restored[:, outside], case.problem.image[:, outside])


def test_absent_bands_are_not_looked_at(checkpoint: Checkpoint) -> None:
    case = made_case(dates=1)
    part = case.of_bands(("B02", "B03", "B04", "B08"), "4")
    given = answer(checkpoint, part, harmonised(part))
    assert given.restored.shape == (4, 64, 64)
    spoilt = case.problem.image.copy()
    spoilt[[0, 11]] = 0.9
    other = replace(case, problem=replace(case.problem, image=spoilt)).of_bands(part.bands, "4")
    np.testing.assert_array_equal(given.restored, answer(checkpoint, other, harmonised(other)).restored)
    with pytest.raises(InvalidSpec, match="does not know B77"):
        answer(checkpoint, replace(part, bands=("B02", "B03", "B04", "B77")), harmonised(part))
