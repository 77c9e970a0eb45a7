from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.errors import InvalidItem
from catalogs.radiometry import Radiometry, baseline_of, baseline_offset, radiometry_of
from catalogs.sources import known_sources
from catalogs.stac import resolve_item
from tests.catalogs.conftest import make_item

STATED = {"raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": 0}]}


@pytest.mark.parametrize(
    ("asset", "properties", "rule", "offset"),
    [
        # Earth Search: the flag wins over what the asset states, and over the baseline.
        (STATED, {"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.09"}, "metadata", 0.0),
        (STATED, {"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.09"}, "metadata", -0.1),
        (STATED, {}, "metadata", -0.1),
        ({}, {"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.09"}, "metadata", -0.1),
        ({}, {"s2:processing_baseline": "04.00"}, "metadata", -0.1),
        ({}, {"s2:processing_baseline": "03.01"}, "metadata", 0.0),
        ({"raster:bands": [{"offset": 0}]}, {"s2:processing_baseline": "05.09"}, "metadata", 0.0),
        # Planetary Computer: as ESA made them, and their assets do not say.
        ({"raster:bands": [{"offset": 0}]}, {"s2:processing_baseline": "05.09"}, "baseline", -0.1),
        ({}, {"s2:processing_baseline": "02.12"}, "baseline", 0.0),
        # Nothing known.
        ({}, {}, "metadata", 0.0),
        ({}, {"sentinel:product_id": "S2A_MSIL2A_20220714T115221_N0400_R123_T28QCH_20220714T191310"}, "metadata", -0.1),
    ],
)
def test_offset_rules(asset: dict[str, Any], properties: dict[str, Any], rule: Any, offset: float) -> None:
    assert radiometry_of(asset, 1, properties, rule, "x").offset == offset


@pytest.mark.parametrize("year", ["2015", "2021", "2022", "2030"])
@pytest.mark.parametrize("baseline", ["02.04", "03.01", "04.00", "05.10"])
def test_the_date_never_matters(year: str, baseline: str) -> None:
    properties = {"datetime": f"{year}-08-10T00:00:00Z", "s2:processing_baseline": baseline}
    item = resolve_item(make_item(properties=properties), "https://e.com/i.json", known_sources()["planetary-computer"])
    assert item.bands["B02"].offset == (-0.1 if baseline >= "04.00" else 0.0)


def test_raster_bands_and_stac_1_1_are_read_alike() -> None:
    expected = Radiometry(0.0002, -0.05, 7)
    values = {"scale": 0.0002, "offset": -0.05, "nodata": 7}
    prefixed = {"raster:scale": 0.0002, "raster:offset": -0.05, "nodata": 7}
    for asset in ({"raster:bands": [values]}, {"bands": [prefixed]}, prefixed, {"raster:bands": [{}, values]}):
        index = 2 if asset.get("raster:bands", [1])[0] == {} else 1
        assert radiometry_of(asset, index, {}, "metadata", "x") == expected


@pytest.mark.parametrize("nodata", ["nan", None, float("nan"), 0.5, "0"])
def test_nodata_that_is_no_dn_is_silence(nodata: object) -> None:
    assert radiometry_of({"nodata": nodata}, 1, {}, "metadata", "x").nodata is None


@pytest.mark.parametrize(
    "values", [{"offset": -1000}, {"scale": 10000}, {"scale": 0}, {"scale": -1}, {"offset": "x"}, {"scale": True}]
)
def test_values_that_are_no_reflectance_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidItem, match=r"^here: (scale|offset) "):
        radiometry_of({"raster:bands": [values]}, 1, {}, "metadata", "here")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 98), st.integers(0, 99))
def test_baselines_are_read_and_compared_as_numbers(major: int, minor: int) -> None:
    baseline = f"{major:02d}.{minor:02d}"
    assert baseline_of({"s2:processing_baseline": baseline}) == baseline
    assert baseline_of({"processing:version": f"N{major:02d}{minor:02d}"}) == baseline
    assert baseline_offset(baseline) == (-0.1 if (major, minor) >= (4, 0) else 0.0)


@pytest.mark.parametrize("text", ["1.2.3", "5.9", "", None, "latest"])
def test_other_versions_are_no_baseline(text: str | None) -> None:
    assert baseline_of({"processing:version": text}) is None


def test_known_sources_are_complete() -> None:
    sources = known_sources()
    assert set(sources) == {"earth-search", "planetary-computer", "cdse"}
    for rules in sources.values():
        assert rules.url
        assert rules.url.startswith("https://")
        assert rules.collections["L2A"] == "sentinel-2-l2a"
        assert len(set(rules.assets.values())) >= 12
        assert rules.offset in ("metadata", "baseline")
