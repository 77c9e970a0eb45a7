"""Pairs: each place is a row or a reject, dates find the nearest clear one, and neither order nor threads change the table."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from catalogs.pairs import PairTable
from catalogs.places import Found, Reject, Window
from pipeline import pairs as module
from pipeline.errors import InvalidSettings, ReadFailed
from pipeline.gate import GateLimits
from pipeline.images import ImageReader
from pipeline.pairs import build_pairs
from tests.pipeline.made_chips import SIZE, clouded, found, land, place, simple_detector, write_item, write_patch

__all__ = ["simple_detector"]
pytestmark = pytest.mark.usefixtures("simple_detector")


def row(table: PairTable, name: str) -> dict:
    return table.frame.set_index("id").loc[name].to_dict()


def series(folder: Path, covers: dict[str, int]):
    """A place of dates with so many cloudy rows of 64 each; -1: under cirrus."""
    dated = {}
    for number, (day, rows) in enumerate(covers.items()):
        image = clouded(land(number), slice(0, max(rows, 0)))
        if rows < 0:
            image[10] = 200
        dated[day] = write_patch(folder / f"{day}.tif", image)
    return place("ROIs2017_146_patch_0", dated)


def test_a_given_pair_becomes_a_row(tmp_path):
    clear = write_patch(tmp_path / "clear.tif", land(1))
    cloudy = write_patch(tmp_path / "cloudy.tif", clouded(land(2), slice(0, 16)))
    table, rejects = build_pairs(
        found(place("ROIs1158_spring_39_p1", {"clear": clear, "cloudy": cloudy}, "sen12mscr", split="test"))
    )
    assert rejects == ()
    made = row(table, "ROIs1158_spring_39_p1")
    assert (made["group"], made["split"], made["role"], made["quality"], made["reason"]) == (
        "ROIs1158_spring_39", "test", "pair", "ok", "",
    )  # fmt: skip
    assert (made["clear_href"], made["cloudy_href"], made["mask"]) == (clear, cloudy, "s2cloudless + comparison")
    assert made["cloudy_fraction"] == pytest.approx(17 / 64, abs=0.002)  # the comparison sees the cloud's edge as well
    assert made["clear_fraction"] == 0
    assert made["cirrus_clear"] == pytest.approx(0.002, abs=2e-4)
    assert made["shift"] < 0.3
    assert made["joint_difference"] < 0.01
    assert (table.layout, table.root) == ("sen12mscr", "/root")


def test_bad_images_are_rejects_and_stop_nothing(tmp_path):
    good = write_patch(tmp_path / "good.tif", land())
    truncated = Path(write_patch(tmp_path / "truncated.tif", land()))
    truncated.write_bytes(truncated.read_bytes()[:-30_000])
    black = write_patch(tmp_path / "black.tif", np.zeros((13, SIZE, SIZE), np.uint16))
    foreign = tmp_path / "foreign.tif"
    foreign.write_bytes(b"no image")
    places = [
        place(f"ROIs1158_spring_1_p{number}", {"clear": good, "cloudy": str(bad)}, "sen12mscr")
        for number, bad in enumerate((truncated, black, foreign, tmp_path / "gone.tif"))
    ]
    cloudy = write_patch(tmp_path / "cloudy.tif", clouded(land(2), slice(0, 16)))
    places.append(place("ROIs1158_spring_1_p9", {"clear": good, "cloudy": cloudy}, "sen12mscr"))
    before = Reject("/tree/x", "foreign file")
    table, rejects = build_pairs(Found(tuple(places), (before,), 0, "/root", "sen12mscr"))
    assert list(table.frame["id"]) == ["ROIs1158_spring_1_p9"]
    reasons = {Path(reject.path).name: reject.reason for reject in rejects}
    assert set(reasons) == {"x", "truncated.tif", "black.tif", "foreign.tif", "gone.tif"}
    assert reasons["truncated.tif"].startswith("truncated file")
    assert reasons["black.tif"].startswith("holds nothing but zeros")
    assert "cannot be opened" in reasons["foreign.tif"]
    assert "no such file" in reasons["gone.tif"]
    assert [reject.path for reject in rejects] == sorted(reject.path for reject in rejects)


def test_a_cloudy_date_is_paired_with_the_nearest_clear_one(tmp_path):
    covers = {
        "2018-01-01": 0, "2018-01-11": 30, "2018-01-20": 2, "2018-02-01": -1, "2018-02-03": 40, "2018-04-20": 50,
        "2018-07-01": 0,
    }  # fmt: skip
    table, rejects = build_pairs(found(series(tmp_path, covers)))
    name = "ROIs2017_146_patch_0_"
    assert {key.removeprefix(name) for key in table.frame["id"]} == {
        "20180111", "20180120", "20180203", "20180201_clear", "20180701_clear",
    }  # fmt: skip
    pairs = {key: Path(row(table, name + key)["clear_href"]).stem for key in ("20180111", "20180120", "20180203")}
    # 3 % cloud is clear enough to serve, and cloudy enough to be a pair of its own; cirrus serves nobody.
    assert pairs == {"20180111": "2018-01-20", "20180120": "2018-01-01", "20180203": "2018-01-20"}
    hazy = row(table, name + "20180201_clear")
    assert (hazy["quality"], hazy["role"], hazy["cloudy_href"]) == ("clear_side_hazy", "clear", None)
    assert row(table, name + "20180701_clear")["quality"] == "ok"
    [reject] = rejects
    assert Path(reject.path).stem == "2018-04-20"
    assert reject.reason == "78% cloud and shadow, and no clear date within 30 days at ROIs2017_146_patch_0"
    dated = row(table, name + "20180111")
    assert (str(dated["cloudy_date"])[:10], str(dated["clear_date"])[:10]) == ("2018-01-11", "2018-01-20")


def test_max_days_bounds_the_pairs(tmp_path):
    one = series(tmp_path, {"2018-01-01": 0, "2018-01-11": 30})
    assert set(build_pairs(found(one), max_days=10)[0].frame["role"]) == {"pair"}
    table, rejects = build_pairs(found(one), max_days=9)
    assert list(table.frame["role"]) == ["clear"]
    assert len(rejects) == 1


def test_one_date_is_ground_where_it_is_clear(tmp_path):
    clear = place("ROIs2017_146_patch_1", {"2018-01-01": write_patch(tmp_path / "a.tif", land())})
    cloudy = place(
        "ROIs2017_146_patch_2", {"2018-01-01": write_patch(tmp_path / "b.tif", clouded(land(), slice(0, 9)))}
    )
    table, rejects = build_pairs(found(clear, cloudy))
    assert list(table.frame["id"]) == ["ROIs2017_146_patch_1_20180101_clear"]
    assert [Path(reject.path).name for reject in rejects] == ["b.tif"]


def test_a_faulty_pair_leaves_its_clear_date_as_ground(tmp_path):
    dated = {
        "2018-01-01": write_patch(tmp_path / "a.tif", land(1, 96)[:, :SIZE, :SIZE]),
        "2018-01-06": write_patch(tmp_path / "b.tif", clouded(land(2, 96)[:, 4 : SIZE + 4, :SIZE], slice(0, 16))),
    }
    table, _ = build_pairs(found(place("ROIs2017_146_patch_0", dated)))
    quality = dict(zip(table.frame["id"], table.frame["quality"], strict=True))
    assert quality == {"ROIs2017_146_patch_0_20180106": "misregistered", "ROIs2017_146_patch_0_20180101_clear": "ok"}
    assert row(table, "ROIs2017_146_patch_0_20180106")["shift"] == pytest.approx(4, abs=0.2)
    loose, _ = build_pairs(found(place("ROIs2017_146_patch_0", dated)), limits=GateLimits(shift=5))
    assert list(loose.frame["quality"]) == ["ok"]


def test_two_images_of_one_day_keep_their_names_apart(tmp_path):
    path = write_patch(tmp_path / "a.tif", land())
    times = ["2018-01-01T09:00", "2018-01-01T09:30", "2018-01-01T09:30", "2018-01-02T09:00"]
    table, _ = build_pairs(found(place("ROIs2017_146_patch_0", [(time, path) for time in times])))
    names = [name.removeprefix("ROIs2017_146_patch_0_") for name in table.frame["id"]]
    assert names == ["20180101T090000_clear", "20180101T093000-1_clear", "20180101T093000-2_clear", "20180102_clear"]


def test_windows_of_items_are_places_of_their_own(tmp_path):
    bands = {name: land(1, 80)[index] for index, name in ((1, "B02"), (2, "B03"), (3, "B04"), (7, "B08"))}
    bands["B02"] //= 2  # as at the surface
    scl = np.full((80, 80), 4, np.uint8)
    clear = write_item(tmp_path / "clear", bands, scl, day="2023-08-10")
    covered = scl.copy()
    covered[:16, :] = 9
    covered[16:24] = 3
    empty = {name: np.where(np.arange(80) < 40, values, 0).astype(np.uint16) for name, values in bands.items()}
    cloudy = write_item(tmp_path / "cloudy", empty, covered, day="2023-08-15")
    made = [
        place(
            f"33TWL_{col}", {"2023-08-10": clear, "2023-08-15": cloudy}, "stac", Window(0, col, 40, 40), group="33TWL"
        )
        for col in (0, 40)
    ]
    table, rejects = build_pairs(found(*made))
    pair = row(table, "33TWL_0_20230815")
    assert (pair["quality"], pair["mask"], pair["row"], pair["col"], pair["width"]) == ("ok", "scl", 0, 0, 40)
    assert pair["cloudy_fraction"] == pytest.approx(16 / 40)
    assert np.isnan(pair["cirrus_clear"])
    assert row(table, "33TWL_40_20230810_clear")["quality"] == "ok"
    assert [reject.reason for reject in rejects] == ["has no data at 33TWL_40"]


def test_neither_order_nor_workers_change_the_table(tmp_path):
    places = [
        place(
            f"ROIs2017_146_patch_{number}",
            {
                "2018-01-01": write_patch(tmp_path / f"{number}a.tif", land(number)),
                "2018-01-11": write_patch(
                    tmp_path / f"{number}b.tif", clouded(land(number + 50), slice(0, 5 + number))
                ),
            },
        )
        for number in range(7)
    ]
    seen: list[tuple[str, int, int]] = []
    table, _ = build_pairs(found(*places), workers=1, progress=lambda *step: seen.append(step))
    other, _ = build_pairs(found(*places[::-1]), workers=3)
    assert seen == [("places", number, 7) for number in range(1, 8)]
    table.write(tmp_path / "one.parquet")
    other.write(tmp_path / "other.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()


def test_stopping_early_ends_the_work(tmp_path):
    places = [
        place(f"ROIs2017_146_patch_{n}", {"2018-01-01": write_patch(tmp_path / f"{n}.tif", land(n, 16))})
        for n in range(9)
    ]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_pairs(found(*places), progress=stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_signatures_do_not_get_into_the_rejects(monkeypatch):
    def broken(*_: object) -> None:
        raise ReadFailed(
            "https://host/B02.tif?sig=secret: cannot be opened, perhaps only now: 503 from https://host/x?sig=secret"
        )

    monkeypatch.setattr(ImageReader, "read", broken)
    _, rejects = build_pairs(found(place("33TWL_0", {"2018-01-01": "https://host/item.json"}, "stac")))
    assert [reject.reason for reject in rejects] == [
        "https://host/B02.tif cannot be opened, perhaps only now: 503 from https://host/x"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_days": -1}, "max_days -1"),
        ({"workers": 0}, "workers 0"),
        ({"mask": "clouds.tif"}, "'clouds.tif' is none of"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InvalidSettings, match=message):
        build_pairs(found(place("a_p1", {"2018-01-01": "a.tif"})), **options)


def test_without_s2cloudless_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InvalidSettings, match=r"pip install 'declouder\[s2cloudless\]'"):
        build_pairs(found(place("a_p1", {"2018-01-01": "a.tif"})))
