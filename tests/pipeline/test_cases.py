"""Cases of chips: what is asked, what is known, and that the same chip always makes the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from catalogs.pairs import PairTable
from catalogs.splits import Splits
from pipeline.cases import COVERS, KINDS, Case, cases_of
from pipeline.chips import ChipArrays, read_chip
from pipeline.heldout import HeldOut, HeldOutPlace, LeftOut
from pipeline.images import CLEAR, CLOUD
from tests.pipeline.made_cases import detector, made_series, made_table
from tests.pipeline.made_chips import NAMES

PROTOCOLS = {"pair": "pair", "pair+1 date": "pair", "pair+dates": "pair", "synthetic": "sky", "synthetic+dates": "sky"}


def read(table: PairTable) -> dict[str, tuple[HeldOutPlace, ChipArrays]]:
    with detector():
        held = HeldOut.of([table], "test")
        return {place.id: (place, read_chip(place.rows, table=place.table)) for place in held.places}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[HeldOutPlace, ChipArrays]]:
    return read(made_table(tmp_path_factory.mktemp("pairs")))


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> tuple[HeldOutPlace, ChipArrays]:
    return read(made_series(tmp_path_factory.mktemp("series")))["ROIs2017_146_patch_0"]


def made(place: HeldOutPlace, chip: ChipArrays) -> list[Case]:
    return [case for case in cases_of(place, chip) if isinstance(case, Case)]


def test_a_pair_is_asked_as_it_was_observed(pairs: dict[str, tuple[HeldOutPlace, ChipArrays]]) -> None:
    place, chip = pairs["ROIs1158_spring_1_p1"]
    (case,) = (case for case in made(place, chip) if case.protocol == "pair")
    assert (case.row, case.group, case.bands, case.sky) == (place.rows["id"].iloc[0], place.group, NAMES, "")
    np.testing.assert_array_equal(case.problem.image, chip.images[1] / np.float32(1e4))
    np.testing.assert_array_equal(case.target, chip.images[0] / np.float32(1e4))
    # Grown by 100 m: ten pixels, by the distance transform as an oracle.
    grown = distance_transform_edt(chip.masks[1] == CLEAR) <= 10
    np.testing.assert_array_equal(case.problem.mask, grown)
    assert case.cover == grown.mean()
    assert case.cover_class == "30-70 %"
    assert case.known.all()
    assert case.problem.days == ()


def test_made_clouds_are_over_each_clear_date_and_change_nothing_else(
    pairs: dict[str, tuple[HeldOutPlace, ChipArrays]],
) -> None:
    place, chip = pairs["ROIs1158_spring_1_p1"]
    cases = [case for case in made(place, chip) if case.sky]
    assert [case.sky for case in cases] == list(KINDS)
    for case in cases:
        np.testing.assert_array_equal(case.target, chip.images[0] / np.float32(1e4))
        outside = ~case.problem.mask
        np.testing.assert_array_equal(case.problem.image[:, outside], case.target[:, outside])
        assert (case.problem.image != case.target)[:, case.problem.mask].any()
        stored = case.problem.image * 1e4
        np.testing.assert_allclose(stored, np.rint(stored), atol=2e-3)
        assert case.problem.image.max() <= 1
        assert case.cover_class in COVERS
        assert not case.row
    haze, overcast = cases[0], cases[2]
    assert haze.problem.mask.all()
    assert overcast.problem.image[1].mean() > haze.target[1].mean() + 0.1


def test_both_sides_of_a_pair_without_cloud_are_ground(pairs: dict[str, tuple[HeldOutPlace, ChipArrays]]) -> None:
    place, chip = pairs["ROIs1158_spring_1_p2"]
    cases = made(place, chip)
    assert Counter(case.protocol for case in cases) == {"synthetic": 2 * len(KINDS)}
    # When SEN12MS-CR took its images is not known: no references.
    assert len({case.target.tobytes() for case in cases}) == 2


def test_a_date_is_held_out_and_others_are_references(series: tuple[HeldOutPlace, ChipArrays]) -> None:
    place, chip = series
    cases = made(place, chip)
    real = [case for case in cases if not case.sky]
    assert {case.protocol for case in real} == {"pair", "pair+1 date", "pair+dates"}
    rows = place.rows.set_index("id")
    for case in real:
        row = rows.loc[case.row]
        date, held_out = (chip.hrefs.index(row[side]) for side in ("cloudy_href", "clear_href"))
        np.testing.assert_array_equal(case.target, chip.images[held_out] / np.float32(1e4))
        others = sorted((0, 2, 4), key=lambda other: abs(chip.days[other] - chip.days[date]))
        others.remove(held_out)
        count = {"pair": 0, "pair+1 date": 1, "pair+dates": 2}[case.protocol]
        assert len(case.problem.days) == count
        used = [date + 0 for date in others[:count]]
        distances = sorted(abs(chip.days[other] - chip.days[date]) for other in used)
        assert sorted(map(abs, case.problem.days)) == distances
        for days, reference in zip(case.problem.days, case.problem.references, strict=True):
            other = chip.days.index(chip.days[date] + int(days))
            assert other not in (date, held_out)
            np.testing.assert_array_equal(reference, chip.images[other] / np.float32(1e4))
        assert case.problem.reference_valid.all()


def test_references_of_made_clouds_are_real_dates(series: tuple[HeldOutPlace, ChipArrays]) -> None:
    cases = [case for case in made(*series) if case.sky]
    assert Counter(case.protocol for case in cases) == {"synthetic": 12, "synthetic+dates": 12}
    by_id = {case.id: case for case in cases}
    for case in cases:
        if case.protocol == "synthetic+dates":
            alone = by_id[case.id.removesuffix("-dates")]
            np.testing.assert_array_equal(alone.problem.image, case.problem.image)
            assert len(case.problem.days) == 2
            assert not case.also


def test_ids_are_unique_and_the_same_chip_makes_the_same_cases(series: tuple[HeldOutPlace, ChipArrays]) -> None:
    first, again = made(*series), made(*series)
    assert len({case.id for case in first}) == len(first)
    for one, other in zip(first, again, strict=True):
        assert one.id == other.id
        assert one.also == other.also
        np.testing.assert_array_equal(one.problem.image, other.problem.image)
        np.testing.assert_array_equal(one.problem.mask, other.problem.mask)


def test_truth_that_nobody_knows_is_told(pairs: dict[str, tuple[HeldOutPlace, ChipArrays]]) -> None:
    place, chip = pairs["ROIs1158_spring_1_p1"]
    masks = chip.masks.copy()
    masks[0] = CLOUD
    blind = ChipArrays(chip.id, chip.kind, chip.images, masks, chip.days, chip.bands, chip.hrefs, chip.metres)
    found = list(cases_of(place, blind))
    assert all(isinstance(entry, LeftOut) for entry in found)
    told = {entry.id: entry.reason for entry in found if isinstance(entry, LeftOut)}
    assert told.pop(place.rows["id"].iloc[0]) == "its clear date shows 0 pixels below its clouds, fewer than 64"
    assert set(told) == {f"{chip.id}.d0.{kind}" for kind in KINDS}
    assert all("of clear ground in 16 skies" in reason for reason in told.values())


def test_fewer_bands_are_the_same_case(series: tuple[HeldOutPlace, ChipArrays]) -> None:
    case = next(case for case in made(*series) if case.protocol == "pair+dates")
    part = case.of_bands(("B08", "B02"), "two")
    assert part.id == f"{case.id}.two"
    assert part.bands == part.problem.bands == ("B08", "B02")
    np.testing.assert_array_equal(part.problem.image, case.problem.image[[7, 1]])
    np.testing.assert_array_equal(part.problem.references, case.problem.references[:, [7, 1]])
    np.testing.assert_array_equal(part.target, case.target[[7, 1]])
    assert case.of_bands(NAMES) is case


def test_real_pairs(shared_data: Path) -> None:
    """A real chip of 256 x 256: its mask leaves the truth of a made cloud known, and one sky stands for the seed's protocol."""
    from catalogs.places import find_places
    from pipeline.pairs import build_pairs

    found = find_places(
        str(shared_data / "SEN12MSCR"), "sen12mscr", splits=Splits("one", {"ROIs1868_summer_102": "test"})
    )
    places = tuple(place for place in found.places if place.id == "ROIs1868_summer_102_p500")
    table, _ = build_pairs(type(found)(places, (), 0, found.root, found.layout))
    (place,) = HeldOut.of([table], "test").places
    chip = read_chip(place.rows)
    cases = made(place, chip)
    assert [case.protocol for case in cases] == ["pair"] + ["synthetic"] * 4
    assert sum(case.also == ("seed",) for case in cases) == 1
    assert {PROTOCOLS[case.protocol] for case in cases} == {"pair", "sky"}
    assert cases[0].cover_class == "thin"
    for case in cases:
        assert case.cloudy.sum() > 1000
        assert np.bincount(case.ground[case.known], minlength=5)[0] == 0
