"""The run key covers what decides the pixels, and nothing that does not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InvalidScene, InvalidSettings
from pipeline.runkey import run_key
from pipeline.settings import DecloudSettings

from .made import WHEN, made_item

BASE = DecloudSettings(checkpoint="identity")


@pytest.fixture
def scene(tmp_path):
    return made_item(tmp_path / "s", {"B02": np.full((8, 8), 900, np.uint16)}, scl=np.full((8, 8), 4, np.uint8))


def test_the_same_inputs_give_the_same_key_wherever_they_lie(scene, tmp_path):
    key = run_key(scene, BASE)
    assert key.digest == run_key(scene, BASE, cache=tmp_path / "cache").digest
    moved = Path(shutil.copytree(tmp_path / "s", tmp_path / "elsewhere"))
    asset = replace(scene.bands["B02"], href=str(moved / "B02.tif"))
    assert scene.scl is not None
    other = replace(scene, bands={"B02": asset}, scl=replace(scene.scl, href=str(moved / "SCL.tif")), origin=str(moved))
    assert run_key(other, BASE).digest == key.digest
    assert str(tmp_path) not in json.dumps(dict(key.parts))
    assert key.digest.startswith(key.short)


@pytest.mark.parametrize(
    "change",
    [
        {"grow": 50.0}, {"feather": 10.0}, {"references": 1}, {"window_days": 10}, {"tile": 512}, {"overlap": 64},
        {"format": "zarr"}, {"mask": "scl"}, {"max_generated": 0.9}, {"checkpoint": "default"}, {"clip": True},
    ],
)  # fmt: skip
def test_every_parameter_is_in_the_key(scene, change):
    assert run_key(scene, BASE.model_copy(update=change)).digest != run_key(scene, BASE).digest


def test_pixels_metadata_area_and_other_dates_are_in_the_key(scene, tmp_path):
    keys = {run_key(scene, BASE).digest, run_key(scene, BASE, area="POLYGON EMPTY").digest}
    keys.add(run_key(replace(scene, baseline="05.10"), BASE).digest)
    keys.add(run_key(replace(scene, bands={"B02": replace(scene.bands["B02"], offset=-0.1)}), BASE).digest)
    other = made_item(tmp_path / "o", {"B02": np.full((8, 8), 800, np.uint16)}, when=WHEN.replace(day=20))
    keys.add(run_key(scene, BASE, [other]).digest)
    assert run_key(scene, BASE.model_copy(update={"references": 0}), [other]).digest not in keys
    assert run_key(scene, BASE, [scene]).digest in keys
    later = made_item(tmp_path / "o", {"B02": np.full((8, 8), 801, np.uint16)}, when=WHEN.replace(day=20))
    keys.add(run_key(scene, BASE, [later]).digest)
    path = Path(scene.bands["B02"].href)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    keys.add(run_key(scene, BASE).digest)
    assert len(keys) == 7


def test_a_signature_in_a_url_is_neither_kept_nor_part_of_the_key(scene):
    def at(query: str):
        asset = replace(scene.bands["B02"], href=f"https://user:word@host/a/B02.tif?{query}")
        return run_key(replace(scene, bands={"B02": asset}, scl=None), BASE)

    assert at("sig=secret&se=1").digest == at("sig=other&se=2").digest
    assert "secret" not in json.dumps(dict(at("sig=secret").parts))
    assert "word" not in json.dumps(dict(at("sig=secret").parts))


def test_missing_files_are_named(scene, tmp_path):
    gone = replace(scene, bands={"B02": replace(scene.bands["B02"], href=str(tmp_path / "gone.tif"))})
    with pytest.raises(InvalidScene, match=r"gone\.tif: cannot be read: .*check the path of B02"):
        run_key(gone, BASE)
    with pytest.raises(InvalidSettings, match=r"--mask .*nowhere\.tif: cannot be read"):
        run_key(scene, BASE.model_copy(update={"mask": str(tmp_path / "nowhere.tif")}))
    with pytest.raises(InvalidSettings, match=r"--checkpoint nowhere.safetensors: .*cannot be read"):
        run_key(scene, BASE.model_copy(update={"checkpoint": "nowhere.safetensors"}))


def test_bands_that_only_the_mask_reads_and_the_level_are_in_the_key(tmp_path):
    bands = {name: np.full((8, 8), 900, np.uint16) for name in ("B02", "B04")}
    item = made_item(tmp_path / "s", bands)
    settings = BASE.model_copy(update={"bands": ("B02",), "mask": "csmask"})
    key = run_key(item, settings).digest
    assert run_key(replace(item, level="L1C"), settings).digest != key
    made_item(tmp_path / "s", bands | {"B04": np.full((8, 8), 901, np.uint16)})
    assert run_key(item, settings).digest != key


def test_naming_all_bands_is_the_same_as_naming_none(scene):
    assert run_key(scene, BASE.model_copy(update={"bands": ("B02",)})).digest == run_key(scene, BASE).digest


def test_two_urls_that_differ_by_more_than_their_signature_are_two_files(scene):
    def at(query: str) -> str:
        asset = replace(scene.bands["B02"], href=f"https://host/get?{query}")
        return run_key(replace(scene, bands={"B02": asset}, scl=None), BASE).digest

    assert at("file=B02&sig=1") == at("file=B02&sig=2")
    assert at("file=B02&sig=1") != at("file=B03&sig=1")
