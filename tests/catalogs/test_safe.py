"""SAFE folders made here: the layout and the metadata of baselines 02.09 and 05.09, with tiny JPEG 2000 files."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path

import pystac.validation
import pytest

from catalogs.bands import BANDS
from catalogs.errors import InvalidItem
from catalogs.files import open_sources
from catalogs.item import SceneItem
from tests.catalogs.conftest import make_raster

TILE = "T33TWL_20230810T094549"
# Band -> pixel sizes at which a product holds it.
L1C = {name: (band.gsd,) for name, band in BANDS.items()}
L2A = {name: tuple(gsd for gsd in (10, 20, 60) if gsd >= band.gsd) for name, band in BANDS.items() if name != "B10"}
L2A |= {"B01": (20, 60), "B08": (10,), "SCL": (20, 60)}


def make_safe(
    folder: Path, level: str, baseline: str, offsets: str | None = None, bands: dict[str, tuple[int, ...]] | None = None
) -> Path:
    """A SAFE folder; `offsets` replaces the list of offsets in the metadata."""
    tag, quantification = (
        ("RADIO_ADD_OFFSET", "QUANTIFICATION_VALUE")
        if level == "L1C"
        else ("BOA_ADD_OFFSET", "BOA_QUANTIFICATION_VALUE")
    )
    name = f"S2B_MSI{level}_20230810T094549_N{baseline.replace('.', '')}_R079_T33TWL_20230810T130104.SAFE"
    granule = f"{level}_T33TWL_A033567_20230810T095651"
    images = folder / name / "GRANULE" / granule / "IMG_DATA"
    listed = []
    for band, sizes in (bands or (L1C if level == "L1C" else L2A)).items():
        for gsd in sizes:
            place = (
                images / f"{TILE}_{band}.jp2" if level == "L1C" else images / f"R{gsd}m" / f"{TILE}_{band}_{gsd}m.jp2"
            )
            side = 360 // gsd
            make_raster(
                place, shape=(side, side), pixel=gsd, driver="JP2OpenJPEG", dtype="uint8" if band == "SCL" else "uint16"
            )
            listed.append(f"<IMAGE_FILE>{place.relative_to(folder / name).with_suffix('')}</IMAGE_FILE>")
    if offsets is None:
        numbers = range(13) if baseline >= "04.00" else ()
        offsets = "".join(f'<{tag} band_id="{number}">-1000</{tag}>' for number in numbers)
    version = "psd-14" if baseline >= "04.00" else "psd-13"
    (folder / name / f"MTD_MSI{level}.xml").write_text(f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:User_Product xmlns:n1="https://{version}.sentinel2.eo.esa.int/PSD/User_Product_{level}.xsd">
 <n1:General_Info><Product_Info>
  <PRODUCT_START_TIME>2023-08-10T09:45:49.024Z</PRODUCT_START_TIME><PRODUCT_URI>{name}</PRODUCT_URI>
  <PROCESSING_LEVEL>Level-{level[1:]}</PROCESSING_LEVEL><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
  <GENERATION_TIME>2023-08-10T13:01:04.000000Z</GENERATION_TIME>
  <Datatake datatakeIdentifier="GS2B_20230810T094549_033567_N{baseline}"><SPACECRAFT_NAME>Sentinel-2B</SPACECRAFT_NAME></Datatake>
  <Product_Organisation><Granule_List><Granule>{"".join(listed)}</Granule></Granule_List></Product_Organisation>
 </Product_Info><Product_Image_Characteristics>
  <Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
  <Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>
  <{quantification} unit="none">10000</{quantification}><Offset_List>{offsets}</Offset_List>
 </Product_Image_Characteristics></n1:General_Info>
 <n1:Quality_Indicators_Info><Cloud_Coverage_Assessment>69.286209</Cloud_Coverage_Assessment></n1:Quality_Indicators_Info>
</n1:User_Product>""")
    (images.parent / "MTD_TL.xml").write_text(f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:Tile_ID xmlns:n1="https://{version}.sentinel2.eo.esa.int/PSD/S2_PDI_Tile_Metadata.xsd"><n1:General_Info>
  <TILE_ID metadataLevel="Brief">S2B_OPER_MSI_{level}_TL_2BPS_20230810T130104_A033567_T33TWL_N{baseline}</TILE_ID>
  <SENSING_TIME metadataLevel="Standard">2023-08-10T09:58:11.590461Z</SENSING_TIME></n1:General_Info>
 <n1:Geometric_Info><Tile_Angles>
  <Sun_Angles_Grid><Zenith><VALUES>1 2</VALUES></Zenith></Sun_Angles_Grid>
  <Mean_Sun_Angle><ZENITH_ANGLE unit="deg">32.8920</ZENITH_ANGLE><AZIMUTH_ANGLE unit="deg">150.5241</AZIMUTH_ANGLE></Mean_Sun_Angle>
  <Mean_Viewing_Incidence_Angle><ZENITH_ANGLE unit="deg">8</ZENITH_ANGLE></Mean_Viewing_Incidence_Angle>
 </Tile_Angles></n1:Geometric_Info></n1:Tile_ID>""")
    return folder / name


def opened(path: Path, bands: list[str] | None = None) -> SceneItem:
    [scene] = open_sources([str(path)], bands)
    pystac.validation.validate_dict(dict(scene.stac))
    assert pickle.loads(pickle.dumps(scene)) == scene  # noqa: S301
    return scene


@pytest.mark.parametrize("baseline", ["02.09", "05.09"])
def test_l2a(tmp_path: Path, baseline: str) -> None:
    folder = make_safe(tmp_path, "L2A", baseline)
    scene = opened(folder)
    assert list(scene.bands) == [band for band in BANDS if band != "B10"]
    # Each band at its native pixel size, even where the product holds a finer, resampled one.
    assert all(asset.href.endswith(f"_{band}_{BANDS[band].gsd}m.jp2") for band, asset in scene.bands.items())
    offset = -0.1 if baseline == "05.09" else 0.0
    assert all((asset.scale, asset.offset, asset.nodata) == (1e-4, offset, 0) for asset in scene.bands.values())
    assert scene.scl is not None
    assert scene.scl.href.endswith("_SCL_20m.jp2")
    assert (scene.id, scene.level, scene.tile, scene.baseline) == (folder.stem, "L2A", "33TWL", baseline)
    assert scene.datetime == datetime(2023, 8, 10, 9, 58, 11, 590461, tzinfo=UTC)
    assert (scene.sun_elevation, scene.sun_azimuth, scene.cloud_cover) == (pytest.approx(57.108), 150.5241, 69.286209)
    assert scene.stac["properties"]["s2:datatake_id"] == f"GS2B_20230810T094549_033567_N{baseline}"
    assert scene.geometry is not None
    assert scene.geometry.bounds == pytest.approx((15.0, 46.0499, 15.0047, 46.0532), abs=1e-3)
    assert list(opened(folder, ["nir", "B02"]).bands) == ["B02", "B08"]


@pytest.mark.parametrize("baseline", ["02.09", "05.09"])
def test_l1c(tmp_path: Path, baseline: str) -> None:
    scene = opened(make_safe(tmp_path, "L1C", baseline))
    assert list(scene.bands) == list(BANDS)
    assert {asset.offset for asset in scene.bands.values()} == {-0.1 if baseline == "05.09" else 0.0}
    assert (scene.level, scene.scl, scene.left_out) == ("L1C", None, {})


def test_offsets_are_read_band_by_band(tmp_path: Path) -> None:
    offsets = "".join(
        f'<RADIO_ADD_OFFSET band_id="{number}">{-100 * number}</RADIO_ADD_OFFSET>' for number in range(13)
    )
    scene = opened(make_safe(tmp_path, "L1C", "05.09", offsets))
    assert [asset.offset for asset in scene.bands.values()] == pytest.approx([-0.01 * number for number in range(13)])


@pytest.mark.parametrize(
    ("offsets", "reason"),
    [
        ("", "must state RADIO_ADD_OFFSET"),
        ('<RADIO_ADD_OFFSET band_id="1">-1000</RADIO_ADD_OFFSET>', "states no RADIO_ADD_OFFSET for B01, B03"),
        ('<RADIO_ADD_OFFSET band_id="1">many</RADIO_ADD_OFFSET>', "'many' is no number"),
    ],
)
def test_metadata_that_do_not_state_the_offset(tmp_path: Path, offsets: str, reason: str) -> None:
    with pytest.raises(InvalidItem, match=reason):
        opened(make_safe(tmp_path, "L1C", "05.09", offsets, {"B02": (10,)}))


def test_the_ways_to_name_a_safe_folder(tmp_path: Path) -> None:
    folder = make_safe(tmp_path, "L2A", "05.09", bands={"B02": (10, 20), "B11": (20,), "SCL": (20,)})
    scene = opened(folder)
    assert list(scene.bands) == ["B02", "B11"]
    for path in (tmp_path, folder / "MTD_MSIL2A.xml"):
        assert opened(path) == scene
    # Files named one by one have the metadata of their folder too: without them the offset would be wrong.
    assert opened(Path(scene.bands["B02"].href)).bands == {"B02": scene.bands["B02"]}
    with pytest.raises(InvalidItem, match=r"give the folder .* and --bands"):
        opened(Path(scene.bands["B02"].href.replace("10m", "20m")))


def test_files_that_the_metadata_list_and_the_folder_does_not_hold(tmp_path: Path) -> None:
    folder = make_safe(tmp_path, "L1C", "02.09", bands={"B02": (10,), "B03": (10,)})
    [path] = folder.rglob("*_B03.jp2")
    path.unlink()
    scene = opened(folder)
    assert scene.left_out == {"B03": f"file not found: {TILE}_B03.jp2"}
    with pytest.raises(InvalidItem, match=r"no band B03: file not found: .*_B03\.jp2"):
        opened(folder, ["B02", "B03"])
    next(folder.rglob("*_B02.jp2")).unlink()
    with pytest.raises(InvalidItem, match="no band found"):
        opened(folder)


def test_broken_safe_folders(tmp_path: Path) -> None:
    folder = make_safe(tmp_path, "L1C", "02.09", bands={"B02": (10,)})
    product, [granule], [image] = (
        folder / "MTD_MSIL1C.xml",
        list(folder.rglob("MTD_TL.xml")),
        list(folder.rglob("*.jp2")),
    )
    texts = {path: path.read_bytes() for path in (product, granule, image)}

    def refuses(reason: str) -> None:
        with pytest.raises(InvalidItem, match=reason) as error:
            opened(folder)
        assert "\n" not in str(error.value)
        for path, text in texts.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text)

    product.write_bytes(texts[product][:300])
    refuses("cannot be read as XML")
    product.write_text('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>')
    refuses(r"MTD_MSIL1C\.xml: declares entities, which no SAFE product does: fetch it again$")
    granule.unlink()
    refuses("MTD_TL.xml: no such file")
    granule.write_bytes(texts[granule].replace(b"2023-08-10T09:58:11.590461Z", b"noon"))
    refuses("sensing time 'noon' is no time")
    product.write_bytes(texts[product].replace(b">10000<", b">0<"))
    refuses("QUANTIFICATION_VALUE 0.0 is no number of DN per reflectance")
    image.write_bytes(texts[image][:60])
    refuses("cannot be read as a raster")
    (folder / "GRANULE" / "second" / "IMG_DATA").mkdir(parents=True)
    refuses("holds 2 granules")
    (folder / "GRANULE" / "second" / "IMG_DATA").rmdir()
    product.unlink()
    refuses("is no SAFE folder")
    assert opened(folder).bands


def test_the_first_l2a_products_name_their_quantification_otherwise(tmp_path: Path) -> None:
    folder = make_safe(tmp_path, "L2A", "02.07")
    product = folder / "MTD_MSIL2A.xml"
    text = product.read_text()
    product.write_text(text.replace("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"))
    assert opened(folder).bands["B02"].scale == 1e-4
    product.write_text(text.replace("BOA_QUANTIFICATION_VALUE", "OTHER"))
    with pytest.raises(InvalidItem, match="states no BOA_QUANTIFICATION_VALUE"):
        opened(folder)


def test_a_link_out_of_a_safe_folder_is_followed_only_where_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_safe(tmp_path, "L1C", "05.09", bands={"B02": (10,), "B03": (10,)})
    band = next(folder.rglob("*_B02.jp2"))
    inside, outside = next(folder.rglob("*_B03.jp2")), tmp_path / "elsewhere_B02.jp2"
    band.rename(outside)
    band.symlink_to(outside)
    with pytest.raises(InvalidItem, match="a link that leads out of the catalogue's folder"):
        opened(folder)
    monkeypatch.setenv("DECLOUD_FOLLOW_LINKS", "1")
    assert opened(folder).bands["B02"].href == str(band)
    monkeypatch.delenv("DECLOUD_FOLLOW_LINKS")
    band.unlink()
    band.symlink_to(inside)
    assert set(opened(folder).bands) == {"B02", "B03"}
    # The folder itself may be a link: whoever names it means it.
    (tmp_path / "link.SAFE").symlink_to(folder)
    assert set(opened(tmp_path / "link.SAFE").bands) == {"B02", "B03"}
