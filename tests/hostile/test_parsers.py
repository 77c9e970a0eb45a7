"""Parsers, offered anything: what they return is right, what they refuse is refused by an error of ours in one line, and nothing else happens."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalogs.aoi import parse_aoi
from catalogs.dates import parse_dates
from catalogs.documents import parse_object
from catalogs.errors import CatalogError
from catalogs.geotiff import read_header
from catalogs.hrefs import without_credentials
from catalogs.names import band_in, common_id, date_in, tile_in
from catalogs.pairs import PairTable
from catalogs.safe import open_safe
from catalogs.splits import SPLITS, Splits
from catalogs.stac import resolve_item
from flows.lookback import absolute_dates
from pipeline.errors import PipelineError
from pipeline.settings import parse_bytes
from srgan.card import card_spec, read_card
from srgan.checkpoint import PACKAGED
from srgan.errors import ModelError
from srgan.settings import TrainSettings, load_settings, parse_overrides
from tests.catalogs.test_pairs import FULL, table
from tests.hostile.case import item
from tests.hostile.metadata import safe

OURS = (CatalogError, PipelineError, ModelError)
FUZZ = settings(
    deadline=None,
    max_examples=int(os.environ.get("DECLOUD_FUZZ", "100")),
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(
    ["../x", "file:///etc/passwd", "/vsizip/x", "\x00", "\ud800", "2023-08-10T10:00:31Z", "1e999", -1, 2**70, float("nan")]
)  # fmt: skip
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.text(max_size=60) | st.from_regex(
    r"(S2[ABC]|T)?_?(MSIL[12][AC])?_?(\d{8}(T\d{6})?)?_?(T?\d{2}[A-Z]{3})?_?(B\d{1,2}A?)?.*", fullmatch=True
)


def refused(work: Callable[[], Any]) -> Any:
    """What `work` returns; None where it is refused in order."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()
    except OURS as error:
        said = str(error)
    assert said
    assert "\n" not in said
    assert len(said) < 2000
    return None


def mutated(document: Any, draw: st.DataObject) -> Any:
    """`document` with something in it replaced, removed or added."""
    changed = deepcopy(document)
    place: Any = changed
    for _ in range(draw.draw(st.integers(0, 4))):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = draw.draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw.draw(st.booleans()):
            place = place[key]
            continue
        if isinstance(place, dict) and draw.draw(st.integers(0, 3)) == 0:
            del place[key]
        else:
            place[key] = draw.draw(JSON)
    return changed


def dented(content: bytes, draw: st.DataObject) -> bytes:
    """`content` with some bytes changed, and perhaps its end lost."""
    changed = bytearray(content)
    for _ in range(draw.draw(st.integers(1, 6))):
        changed[draw.draw(st.integers(0, len(changed) - 1))] = draw.draw(st.integers(0, 255))
    return bytes(changed[: draw.draw(st.integers(0, len(changed)))] if draw.draw(st.booleans()) else changed)


@FUZZ
@given(NAMES)
def test_names_of_files(text: str) -> None:
    assert band_in(text) is None or re.fullmatch(r"B\d\d|B8A|SCL", str(band_in(text)))
    assert tile_in(text) is None or re.fullmatch(r"\d{2}[C-X][A-Z]{2}", str(tile_in(text)))
    found = date_in(text)
    assert found is None or (found.tzinfo == UTC and f"{found:%Y}" in text)
    # An id names a folder, a file and a log line.
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", common_id([text, text[:3]], text))


@FUZZ
@given(st.text(max_size=40) | st.from_regex(r"[\d./:TZ+-]{0,40}", fullmatch=True))
def test_spans_of_time(text: str) -> None:
    span = refused(lambda: parse_dates(text))
    assert span is None or (span[0] <= span[1] and span[0].tzinfo is not None)
    refused(lambda: absolute_dates(text, datetime(2023, 8, 10, tzinfo=UTC)))


@FUZZ
@given(st.from_regex(r"(P|last )\d{0,30}( ?)(D|W|days|weeks)?", fullmatch=True))
def test_windows_that_look_back(text: str) -> None:
    found = refused(lambda: absolute_dates(text, datetime(2023, 8, 10, tzinfo=UTC)))
    if found is not None and found != text:
        assert found.endswith("/2023-08-10")


@FUZZ
@given(st.text(max_size=40) | st.from_regex(r"[-\d.,eE+ nainf~/]{0,40}|~[a-z]{1,8}/.*", fullmatch=True))
def test_areas(text: str) -> None:
    area = refused(lambda: parse_aoi(text))
    assert area is None or area.geometry.is_valid


@FUZZ
@given(st.data())
def test_area_files(tmp_path: Path, data: st.DataObject) -> None:
    ring = [[15.0, 45.9], [15.1, 45.9], [15.1, 46.0], [15.0, 45.9]]
    feature = {"type": "Feature", "properties": {"a": 1}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    document = mutated({"type": "FeatureCollection", "features": [feature]}, data)
    path = tmp_path / "area.geojson"
    path.write_bytes(json.dumps(document).encode("utf-8", "surrogatepass"))
    area = refused(lambda: parse_aoi(path))
    assert area is None or area.geometry.is_valid


@FUZZ
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | JSON.map(lambda value: json.dumps(value).encode())
)
def test_documents(content: bytes) -> None:
    try:
        document = parse_object(content.decode("utf-8", "replace"))
    except ValueError as error:
        said = str(error)
    else:
        said = ""
        assert isinstance(document, dict)
    assert len(said) < 500


@FUZZ
@given(st.data())
def test_items(tmp_path: Path, data: st.DataObject) -> None:
    good = _once(tmp_path / "item", item)
    scene = refused(lambda: resolve_item(mutated(good, data), str(tmp_path / "item" / "item.json")))
    if scene is not None:
        assert set(scene.bands) <= {"B02", "B03", "B04", "B08"}
        # Whatever an item says, only files of its own folder are read.
        assert all(
            asset.href.startswith((f"{tmp_path}/item/", "http", "s3://", "gs://")) for asset in scene.bands.values()
        )


@FUZZ
@given(st.data())
def test_metadata_of_safe_folders(tmp_path: Path, data: st.DataObject) -> None:
    _once(tmp_path / "safe", safe())
    folder = next((tmp_path / "safe").glob("*.SAFE"))
    for path in (folder / "MTD_MSIL1C.xml", next(folder.glob("GRANULE/*/MTD_TL.xml"))):
        kept = path.with_suffix(".kept")
        content = kept.read_bytes() if kept.exists() else path.read_bytes()
        kept.write_bytes(content)
        path.write_bytes(dented(content, data))
    scene = refused(lambda: open_safe(folder))
    if scene is not None:
        assert all(0 < asset.scale <= 1 and -1 <= asset.offset <= 1 for asset in scene.bands.values())


@FUZZ
@given(st.data())
def test_headers_of_rasters(tmp_path: Path, data: st.DataObject) -> None:
    _once(tmp_path / "item", item)
    content = next((tmp_path / "item").glob("*B02.tif")).read_bytes()
    path = tmp_path / "B02.tif"
    # The header is what is parsed; noise in the pixels is noise.
    path.write_bytes(dented(content[:600], data) + content[600:])
    header = refused(lambda: read_header(str(path)))
    assert header is None or header.shape[0] * header.shape[1] > 0


@FUZZ
@given(st.data())
def test_pair_tables(tmp_path: Path, data: st.DataObject) -> None:
    _once(tmp_path / "table", lambda folder: table(*FULL).write(folder / "pairs.parquet"))
    content = (tmp_path / "table" / "pairs.parquet").read_bytes()
    path = tmp_path / "pairs.parquet"
    path.write_bytes(dented(content, data))
    found = refused(lambda: PairTable.read(path))
    assert found is None or found.frame["split"].isin(SPLITS).all()


@FUZZ
@given(st.data())
def test_columns_of_pair_tables(tmp_path: Path, data: st.DataObject) -> None:
    """A whole Parquet file, in which a column holds anything."""
    _once(tmp_path / "table", lambda folder: table(*FULL).write(folder / "pairs.parquet"))
    arrow = pq.read_table(tmp_path / "table" / "pairs.parquet")
    name = data.draw(st.sampled_from(arrow.column_names))
    kinds = st.text(max_size=10), st.integers(-(2**40), 2**40), st.floats(), st.binary(max_size=30)
    values = data.draw(st.one_of([st.lists(kind | st.none(), min_size=3, max_size=3) for kind in kinds]))
    try:
        column = pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError):
        return
    changed = arrow.set_column(arrow.column_names.index(name), name, column).replace_schema_metadata(
        arrow.schema.metadata
    )
    pq.write_table(changed, tmp_path / "pairs.parquet")
    found = refused(lambda: PairTable.read(tmp_path / "pairs.parquet"))
    assert found is None or found.frame["split"].isin(SPLITS).all()


@FUZZ
@given(
    st.text(max_size=80)
    | JSON.map(json.dumps)
    | st.from_regex(r"[a-zA-Z_*]{1,10}: (train|val|test|other|x|\[1\])", fullmatch=True)
)
def test_splits(tmp_path: Path, text: str) -> None:
    (tmp_path / "splits.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    splits = refused(lambda: Splits.read(tmp_path / "splits.yaml"))
    assert splits is None or splits.of("ROIs1158_spring_1") in SPLITS


@FUZZ
@given(st.dictionaries(st.sampled_from(sorted(TrainSettings.model_fields)) | st.text(max_size=8), JSON, max_size=3))
def test_presets(tmp_path: Path, values: dict[str, Any]) -> None:
    (tmp_path / "preset.yaml").write_bytes(json.dumps(values).encode("utf-8", "surrogatepass"))
    found = refused(lambda: load_settings(tmp_path / "preset.yaml"))
    assert found is None or isinstance(found, TrainSettings)


@FUZZ
@given(
    st.lists(
        st.text(max_size=40) | st.from_regex(r"[a-z.]{1,12}=[\[\]{}&*!a-z0-9:, ]{0,20}", fullmatch=True), max_size=3
    )
)
def test_settings_on_the_command_line(pairs: list[str]) -> None:
    found = refused(lambda: parse_overrides(pairs))
    if found:
        refused(lambda: load_settings("tiny", found))


@FUZZ
@given(st.text(max_size=20) | st.from_regex(r"[-\d.eE]{1,12} ?[KMGT]?i?B?", fullmatch=True))
def test_sizes_of_memory(text: str) -> None:
    found = refused(lambda: parse_bytes(text))
    assert found is None or found >= 0


@FUZZ
@given(st.data())
def test_cards(tmp_path: Path, data: st.DataObject) -> None:
    card = mutated(json.loads((PACKAGED / "default.json").read_text()), data)
    (tmp_path / "net.json").write_bytes(json.dumps(card).encode("utf-8", "surrogatepass"))
    file = tmp_path / "net.safetensors"
    spec = refused(lambda: card_spec(read_card(file), file))
    assert spec is None or spec.margin >= 0


SECRET = st.text(alphabet="abcXYZ019/?#@:%&=+", min_size=6, max_size=20).map(lambda text: f"s3cr3t{text}")


@FUZZ
@given(SECRET)
def test_no_password_of_a_url_is_ever_shown(secret: str) -> None:
    for url in (f"https://me:{secret}@host/a.tif", f"https://host/a.tif?sig={secret}", f"https://host/a.tif#{secret}"):
        assert "s3cr3t" not in without_credentials(url)


def _once(folder: Path, make: Callable[[Path], Any]) -> Any:
    """`make(folder)`, the first time; what it returned, later."""
    if not folder.exists():
        folder.mkdir()
        _made[folder] = make(folder)
    return _made[folder]


_made: dict[Path, Any] = {}


@pytest.fixture(autouse=True)
def _forget() -> Any:
    yield
    _made.clear()
