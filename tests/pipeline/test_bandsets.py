"""Which bands a network is given, and on which cases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.bandsets import BAND_SETS, chosen_sets, possible_sets, protocols_of
from pipeline.errors import InvalidSettings
from tests.pipeline.made_cases import made_case


def test_sets_are_chosen_by_name_the_widest_first() -> None:
    assert list(chosen_sets(None)) == ["13", "12", "4", "3"]
    assert list(chosen_sets(["4", "13"])) == ["13", "4"]
    assert all(len(bands) == int(name) for name, bands in BAND_SETS.items())
    for names in (["7"], [], ["13", "all"]):
        with pytest.raises(InvalidSettings, match=r"--bands .*: 13, 12, 4, 3 are possible"):
            chosen_sets(names)


def test_a_chip_can_take_the_sets_whose_bands_it_has() -> None:
    assert possible_sets(BAND_SETS, BAND_SETS["12"]) == ("12", "4", "3")
    assert possible_sets(BAND_SETS, ("B08", "B02")) == ()


def test_narrow_sets_are_tried_on_real_clouds_and_rgb_in_the_seed_s_protocol() -> None:
    real = replace(made_case(), also=("pair+1 date",))
    sky = replace(made_case(), protocol="synthetic", sky="haze", also=("seed",))
    wide = possible_sets(BAND_SETS, BAND_SETS["13"])
    assert [protocols_of(real, name, wide) for name in wide] == [("pair", "pair+1 date")] * 3 + [()]
    assert [protocols_of(sky, name, wide) for name in wide] == [("synthetic", "seed"), (), (), ("seed",)]
    assert protocols_of(replace(sky, also=()), "3", wide) == ()
    # The widest that there is counts in all.
    assert protocols_of(sky, "4", ("4", "3")) == ("synthetic", "seed")
    assert protocols_of(real, "3", ("3",)) == ("pair", "pair+1 date")
