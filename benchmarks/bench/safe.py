"""`make_safe`: a SAFE folder of L2A around the bands of a made scene: JPEG 2000, lossless, tiles of 1024 as ESA writes them."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil

from benchmarks.bench.scenes import MadeScene, write_raster
from catalogs.bands import BANDS

NAME = "S2A_MSIL2A_20230818T100031_N0509_R122_T33TWL_20230818T150000.SAFE"
GRANULE = "L2A_T33TWL_A042571_20230818T100559"
JP2 = {
    "driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO", "BLOCKXSIZE": "1024", "BLOCKYSIZE": "1024",
    "CODEBLOCK_WIDTH": "64", "CODEBLOCK_HEIGHT": "64", "RESOLUTIONS": "6", "PROGRESSION": "LRCP",
}  # fmt: skip
_VEGETATION = 4
_PSD = "https://psd-14.sentinel2.eo.esa.int/PSD"
_PRODUCT = """<?xml version="1.0" encoding="UTF-8"?>
<n1:User_Product xmlns:n1="{psd}/User_Product_Level-2A.xsd"><n1:General_Info>
<Product_Info><PRODUCT_START_TIME>2023-08-18T10:00:31.024Z</PRODUCT_START_TIME><PRODUCT_URI>{name}</PRODUCT_URI>
<PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL><PROCESSING_BASELINE>05.09</PROCESSING_BASELINE>
<GENERATION_TIME>2023-08-18T15:00:00.000000Z</GENERATION_TIME>
<Datatake><SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME></Datatake>
<Product_Organisation><Granule_List><Granule>{files}</Granule></Granule_List></Product_Organisation></Product_Info>
<Product_Image_Characteristics>
<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE><Offset_List>{offsets}</Offset_List>
</Product_Image_Characteristics></n1:General_Info></n1:User_Product>
"""
_TILE = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Tile_ID xmlns:n1="{psd}/S2_PDI_Level-2A_Tile_Metadata.xsd"><n1:General_Info>
<TILE_ID>S2A_OPER_MSI_L2A_TL_2APS_20230818T150000_A042571_T33TWL_N05.09</TILE_ID>
<SENSING_TIME>2023-08-18T10:05:59.590461Z</SENSING_TIME></n1:General_Info>
<n1:Geometric_Info><Tile_Angles><Mean_Sun_Angle><ZENITH_ANGLE unit="deg">34.9</ZENITH_ANGLE>
<AZIMUTH_ANGLE unit="deg">152.1</AZIMUTH_ANGLE></Mean_Sun_Angle></Tile_Angles></n1:Geometric_Info></n1:Tile_ID>
"""


def make_safe(scene: MadeScene, work: Path, threads: int) -> Path:
    """The SAFE folder, written once below `work`; encoding takes a while, a band in each of `threads`."""
    folder = work / "l2a" / scene.folder.name / NAME
    files = jp2_files(folder, scene.bands)
    metadata = folder / "MTD_MSIL2A.xml"
    if not metadata.is_file():
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(_encode, scene.files.values(), files.values()))
        _classification(
            scene, folder / "GRANULE" / GRANULE / "IMG_DATA" / "R20m" / "T33TWL_20230818T100031_SCL_20m.jp2"
        )
        listed = (path.relative_to(folder).with_suffix("") for path in files.values())
        offsets = (f'<BOA_ADD_OFFSET band_id="{number}">-1000</BOA_ADD_OFFSET>' for number in range(len(BANDS)))
        granule = folder / "GRANULE" / GRANULE / "MTD_TL.xml"
        granule.write_text(_TILE.format(psd=_PSD), encoding="utf-8")
        names = _joined(f"<IMAGE_FILE>{name}</IMAGE_FILE>" for name in listed)
        # Last: it marks the folder as complete.
        product = _PRODUCT.format(psd=_PSD, name=NAME, files=names, offsets=_joined(offsets))
        metadata.write_text(product, encoding="utf-8")
    return folder


def jp2_files(folder: Path, bands: Iterable[str]) -> dict[str, Path]:
    """Band -> file in the SAFE folder."""
    images = folder / "GRANULE" / GRANULE / "IMG_DATA"
    sizes = {name: BANDS[name].gsd for name in bands}
    return {name: images / f"R{gsd}m" / f"T33TWL_20230818T100031_{name}_{gsd}m.jp2" for name, gsd in sizes.items()}


def _encode(source: str, target: Path) -> None:
    with rasterio.Env(GDAL_NUM_THREADS="1"):
        rasterio.shutil.copy(source, str(target), **JP2)


def _classification(scene: MadeScene, target: Path) -> None:
    """The SCL that every L2A holds: vegetation everywhere, for the scene has data everywhere; its clouds are the cover's."""
    target.parent.mkdir(parents=True, exist_ok=True)
    plain, size = target.with_suffix(".tif"), scene.size // 2
    write_raster(plain, lambda _, rows: np.full((rows, size), _VEGETATION, np.uint8), size, 20, "uint8", 0)
    _encode(str(plain), target)
    plain.unlink()


def _joined(parts: Iterable[str]) -> str:
    return "".join(parts)
