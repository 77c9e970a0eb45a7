"""SAFE folders with metadata that attack their parser, or that cannot be true."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.case import Case, run
from tests.pipeline.made import write_raster

LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + number)} "{f"&{chr(97 + number)};" * 10}">' for number in range(12))
    + "]>"
)
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'

PRODUCT = """<?xml version="1.0"?>{doctype}<Level-1C_User_Product><General_Info><Product_Info>
<PRODUCT_START_TIME>2023-08-10T10:00:31Z</PRODUCT_START_TIME><PRODUCT_URI>S2B_MSIL1C_20230810T100031.SAFE</PRODUCT_URI>
<PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>{extra}</Product_Info>
<Product_Image_Characteristics><QUANTIFICATION_VALUE>{quantification}</QUANTIFICATION_VALUE>
<Radiometric_Offset_List>{offsets}</Radiometric_Offset_List></Product_Image_Characteristics></General_Info></Level-1C_User_Product>"""
GRANULE = "<?xml version='1.0'?><T><TILE_ID>L1C_T33TWL_x</TILE_ID><SENSING_TIME>{time}</SENSING_TIME></T>"


def safe(
    *, doctype: str = "", extra: str = "", baseline: str = "05.09", quantification: str = "10000", offset: str = "-1000",
    time: str = "2023-08-10T10:00:31Z", change: Callable[[Path], Any] = lambda _: None,
) -> Callable[[Path], Sequence[object]]:  # fmt: skip
    """A SAFE folder of four bands, changed at last by `change`."""

    def build(folder: Path) -> Sequence[object]:
        place = folder / "S2B_MSIL1C_20230810T100031_N0509_R122_T33TWL_20230810T120000.SAFE"
        images = place / "GRANULE" / "L1C_T33TWL_A033000_20230810T100031" / "IMG_DATA"
        images.mkdir(parents=True)
        offsets = "".join(f'<RADIO_ADD_OFFSET band_id="{number}">{offset}</RADIO_ADD_OFFSET>' for number in range(13))
        (place / "MTD_MSIL1C.xml").write_text(
            PRODUCT.format(
                doctype=doctype, extra=extra, baseline=baseline, quantification=quantification, offsets=offsets
            )
        )
        (images.parent / "MTD_TL.xml").write_text(GRANULE.format(time=time))
        pixels = np.random.default_rng(0).integers(1300, 3000, (96, 96)).astype(np.uint16)
        for band in ("B02", "B03", "B04", "B08"):
            write_raster(images / f"T33TWL_20230810T100031_{band}.jp2", pixels, driver="JP2OpenJPEG")
        mask = np.zeros((96, 96), np.uint8)
        mask[30:60, 30:60] = 1
        write_raster(folder / "mask.tif", mask, nodata=None)
        change(place)
        return run(folder, place, "--mask", folder / "mask.tif")

    return build


def metadata(content: bytes) -> Callable[[Path], Any]:
    """The product's metadata are these bytes."""
    return lambda place: (place / "MTD_MSIL1C.xml").write_bytes(content)


def large(place: Path) -> None:
    with (place / "MTD_MSIL1C.xml").open("r+b") as file:
        file.truncate(500 * 2**20)


def pipe(place: Path) -> None:
    path = next(place.glob("GRANULE/*/MTD_TL.xml"))
    path.unlink()
    os.mkfifo(path)


def more(place: Path) -> None:
    (place / "GRANULE" / "other" / "IMG_DATA").mkdir(parents=True)


def gone(place: Path) -> None:
    for path in place.rglob("*.jp2"):
        path.unlink()


def reference(place: Path) -> None:
    path = place / "MTD_MSIL1C.xml"
    path.write_text(re.sub("<QUANT", "<X>&a;</X><QUANT", path.read_text(), count=1))


CASES = (
    Case("XML entities that grow tenfold twelve times", safe(doctype=LAUGHS, extra="<X>&m;</X>"), "declares entities"),
    Case("an XML entity that reads /etc/passwd", safe(doctype=OUTSIDE, change=reference), "declares entities"),
    Case("XML of 500 MB", safe(change=large), "has more than 256 MiB"),
    Case("XML nested 100,000 deep", safe(change=metadata(b"<a>" * 100_000 + b"</a>" * 100_000)), "states no QUANTIFICATION_VALUE"),
    Case("XML that is a pipe", safe(change=pipe), "is a pipe"),
    Case("XML of 0 bytes", safe(change=metadata(b"")), "cannot be read as XML"),
    Case("XML that ends amid a tag", safe(change=metadata(b"<?xml version='1.0'?><a><b")), "cannot be read as XML"),
    Case("metadata without a single value", safe(change=metadata(b"<a/>")), "states no QUANTIFICATION_VALUE"),
    Case("a quantification of 0", safe(quantification="0"), "no number of DN"),
    Case("a quantification of nan", safe(quantification="nan"), "no number of DN"),
    Case("offsets of 1e308", safe(offset="1e308"), "beyond a reflectance of 1"),
    Case("offsets of words", safe(offset="a thousand"), "is no number"),
    Case("a time that is none", safe(time="noon"), "is no time"),
    Case("two granules", safe(change=more), "exactly one"),
    Case("no image", safe(change=gone), "no band"),
)  # fmt: skip
