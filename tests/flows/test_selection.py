"""Which scenes a request names, and which other dates each may be restored from."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.errors import InvalidQuery
from catalogs.item import BandAsset, SceneItem
from flows.request import AreaRequest, SceneRequest
from flows.selection import Selection, label, select
from pipeline.settings import DecloudSettings
from pipeline.simulation.simulate import Simulated
from tests.pipeline.made import WHEN


def scene_item(number: int, days: float, tile: str | None) -> SceneItem:
    band = BandAsset("B04", "red", f"/data/{number}.tif")
    return SceneItem(f"scene-{number}", WHEN + timedelta(days=days), {"B04": band}, tile=tile)


scenes = st.lists(st.tuples(st.floats(-60, 60), st.sampled_from(["33UWP", "33TWL", None])), min_size=1, max_size=8).map(
    lambda entries: tuple(scene_item(number, *entry) for number, entry in enumerate(entries))
)


@given(scenes, st.integers(1, 40), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_candidates_are_the_other_dates_of_the_tile_in_the_window(
    found: tuple[SceneItem, ...], window: int, references: int
) -> None:
    chosen = DecloudSettings(window_days=window, references=references)
    for item in found:
        got = Selection(found, found).candidates(item, chosen)
        if references == 0:
            assert got == ()
            continue
        for other in found:
            near = abs((other.datetime - item.datetime).total_seconds()) <= window * 86400
            same = other.tile is None or item.tile is None or other.tile == item.tile
            assert (other in got) == (other.datetime != item.datetime and near and same)
        # What else was found must not matter: the product's key covers the candidates.
        far = scene_item(99, 400, item.tile)
        assert Selection(found, (*found, far)).candidates(item, chosen) == got


def area_request(area: Simulated, dates: str, **settings: object) -> AreaRequest:
    return AreaRequest(
        output=Path("out"), catalog=str(area.catalogue), aoi=area.aoi, dates=dates, settings=DecloudSettings(**settings)
    )


def test_other_dates_come_from_around_the_dates_asked_for(area: Simulated) -> None:
    one = select(area_request(area, "2023-07-13"))
    assert [item.id for item in one.items] == [area.items[1]]
    assert {item.id for item in one.others} == set(area.items)
    near = select(area_request(area, "2023-07-13", window_days=3))
    assert [item.id for item in near.others] == [area.items[1]]
    none = select(area_request(area, "2023-07-13", references=0))
    assert [item.id for item in none.others] == [area.items[1]]
    assert label(one.items[0]) == "33UWP 2023-07-13"


@pytest.mark.parametrize("dates", ["../2023-07-10", "2023-07-10/..", "../.."])
def test_open_ends(dates: str, area: Simulated) -> None:
    assert select(area_request(area, dates)).items


def test_only_some_of_the_scenes_with_all_others_around_them(area: Simulated) -> None:
    request = area_request(area, area.dates).model_copy(update={"only": (area.items[1],)})
    found = select(request)
    assert [item.id for item in found.items] == [area.items[1]]
    assert len(found.others) == 3
    with pytest.raises(InvalidQuery, match="gone: not found any more"):
        select(request.model_copy(update={"only": ("gone",)}))


def test_two_scenes_of_one_name_are_refused(area: Simulated, tmp_path: Path) -> None:
    for copy in ("a", "b"):
        shutil.copytree(area.catalogue.parent, tmp_path / copy)
    items = sorted(str(path) for path in tmp_path.rglob(f"{area.items[1]}.json"))
    assert len(items) == 2
    with pytest.raises(InvalidQuery, match=f"{area.items[1]}: named twice"):
        select(SceneRequest(output=tmp_path / "out", sources=tuple(items)))


def test_scenes_named_serve_each_other(area: Simulated, tmp_path: Path) -> None:
    items = sorted(str(path) for path in area.catalogue.parent.rglob("S2*_L2A.json"))
    found = select(SceneRequest(output=tmp_path, sources=tuple(items)))
    assert len(found.items) == len(items) == 3
    for item in found.items:
        assert len(found.candidates(item, DecloudSettings())) == 2
