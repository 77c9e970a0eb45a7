"""The columns of a pair table: their types, what each may hold, and a frame brought to both or refused."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import geopandas
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]

from catalogs.errors import InvalidItem
from catalogs.places import LAYOUTS, SPLITS

QUALITIES = (
    "ok", "no_cloud", "clear_side_cloudy", "clear_side_hazy", "snow", "misregistered", "nodata", "changed",
)  # fmt: skip
"""Verdicts of the gate. `ok` is trained on; both sides of a pair with `no_cloud` are, as ground for synthetic clouds."""
ROLES = ("pair", "clear")
"""`clear`: ground without a cloudy side, for synthetic clouds."""
Role = Literal["pair", "clear"]

_TEXT, _WHOLE, _NUMBER, _TIME = pa.string(), pa.int64(), pa.float64(), pa.timestamp("us", tz="UTC")
COLUMNS: Mapping[str, pa.DataType] = MappingProxyType(
    {
        "id": _TEXT,
        "place": _TEXT,
        "group": _TEXT,
        "split": _TEXT,
        "role": _TEXT,
        "quality": _TEXT,
        "reason": _TEXT,
        "layout": _TEXT,
        "cloudy_href": _TEXT,
        "clear_href": _TEXT,
        "s1_href": _TEXT,
        "row": _WHOLE,
        "col": _WHOLE,
        "height": _WHOLE,
        "width": _WHOLE,
        "crs": _TEXT,
        "cloudy_date": _TIME,
        "clear_date": _TIME,
        "mask": _TEXT,
        "cloudy_fraction": _NUMBER,
        "clear_fraction": _NUMBER,
        "snow_cloudy": _NUMBER,
        "snow_clear": _NUMBER,
        "cirrus_clear": _NUMBER,
        "joint_difference": _NUMBER,
        "shift": _NUMBER,
    }
)
"""Columns before `geometry` (EPSG:4326), in their order. Where there is nothing text is None, a number NaN, a time NaT."""
_REQUIRED = ("id", "place", "group", "split", "role", "quality", "reason", "layout", "clear_href", "crs")
_ONE_OF = {"split": SPLITS, "role": ROLES, "quality": QUALITIES, "layout": LAYOUTS}
_SHARES = ("cloudy_fraction", "clear_fraction", "snow_cloudy", "snow_clear")
_WINDOW = ("row", "col", "height", "width")


def typed(frame: geopandas.GeoDataFrame, name: str) -> geopandas.GeoDataFrame:
    """The columns of the table alone, in order and ordered by id, in types that do not depend on how `frame` was made.

    Raises InvalidItem, naming the table as `name`: a column is missing, or holds what cannot be of its type.
    """
    missing = [column for column in (*COLUMNS, "geometry") if column not in frame.columns]
    if missing:
        raise InvalidItem(f"{name}: lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    made: dict[str, Any] = {}
    for column, kind in COLUMNS.items():
        try:
            made[column] = _series(list(frame[column]), kind)
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidItem(f"{name}: column {column}: {' '.join(str(error).split())}") from None
    ordered = geopandas.GeoDataFrame(made, geometry=list(frame.geometry), crs="EPSG:4326")
    return ordered.sort_values("id", kind="stable", ignore_index=True)


def check(frame: geopandas.GeoDataFrame, name: str) -> None:
    """Raise InvalidItem with the first row of a typed `frame` that cannot be, and why."""
    for column in _REQUIRED:
        _refuse(frame, frame[column].isna(), name, f"{column} is empty")
    for column, allowed in _ONE_OF.items():
        _refuse(
            frame, ~frame[column].isin(allowed), name, f"{column} {{{column}!r}}: {', '.join(allowed)} are possible"
        )
    _refuse(frame, frame["id"].duplicated(), name, "its id is there twice")
    splits = frame["group"].map(frame.groupby("group")["split"].nunique())
    _refuse(frame, splits > 1, name, "its group {group} is in more than one split")
    groups = frame["place"].map(frame.groupby("place")["group"].nunique())
    _refuse(frame, groups > 1, name, "its place {place} is in more than one group")
    _refuse(frame, (frame["role"] == "pair") & frame["cloudy_href"].isna(), name, "is a pair without cloudy_href")
    without = (frame["reason"] == "") != (frame["quality"] == "ok")
    _refuse(frame, without, name, "quality {quality} with the reason {reason!r}: `ok` has none, all others have one")
    for column in _SHARES:
        share = frame[column]
        _refuse(frame, ~(share.isna() | share.between(0, 1)), name, f"{column} {{{column}}} is no share of 0..1")
    given = frame[list(_WINDOW)].notna().sum(axis=1)
    _refuse(frame, ~given.isin([0, len(_WINDOW)]), name, f"has some of {', '.join(_WINDOW)}: all or none make a window")
    _refuse(frame, frame.geometry.isna() | frame.geometry.is_empty, name, "its geometry is empty")


def _series(values: list[Any], kind: pa.DataType) -> Any:
    """A pandas Series of one column; null is None, NaN, NaT or pd.NA."""
    if kind == _TEXT:
        return pd.Series([None if pd.isna(value) else str(value) for value in values], dtype=object)
    if kind == _WHOLE:
        return pd.Series([pd.NA if pd.isna(value) else _whole(value) for value in values], dtype="Int64")
    if kind == _TIME:
        return pd.Series(pd.to_datetime(pd.Series(values, dtype=object), utc=True)).dt.as_unit("us")
    return pd.Series([float("nan") if pd.isna(value) else float(value) for value in values], dtype="float64")


def _whole(value: Any) -> int:
    if int(value) != value:
        raise ValueError(f"{value} is no whole number")
    return int(value)


def _refuse(frame: geopandas.GeoDataFrame, bad: Any, name: str, what: str) -> None:
    """Raise InvalidItem for the first row where `bad`; `what` may name its columns in braces."""
    if bad.any():
        row = frame.drop(columns="geometry")[bad.to_numpy(dtype=bool)].iloc[0].to_dict()
        raise InvalidItem(f"{name}: row {row['id']!r}: {what.format(**row)}")
