"""One product on its way out: its layers, its sink, its preview, and at the end its item and its place in the catalogue."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from odc.geo.geobox import GeoBox

from catalogs.item import SceneItem
from pipeline.checkpoints import IDENTITY, checkpoint_digest
from pipeline.folders import CACHE
from pipeline.hrefs import without_credentials
from pipeline.layers import Layer, cloudmask_layer, confidence_layer, provenance_layer
from pipeline.precision import recorded
from pipeline.preview import Preview
from pipeline.product import ModelRecord, Product, ProductRecord, ReferenceRecord
from pipeline.progress import Progress, silent
from pipeline.publish import is_published, publish, read_item, see_linked
from pipeline.publish import products_of as products_of
from pipeline.stac_item import build_item

if TYPE_CHECKING:
    from pipeline.assembly import Statistics
    from pipeline.clock import Clock
    from pipeline.inference import Restorer
    from pipeline.prepare import Prepared
    from pipeline.runkey import RunKey
    from pipeline.settings import DecloudSettings, Resources
    from pipeline.sink import Sink
    from pipeline.tiling import TilePlan

_GDAL_CACHE = 64 << 20
_SCL_ROWS = 1024


def product_id(item: SceneItem, key: RunKey) -> str:
    """Id of the product of a scene under a run key: the source's id and the key's first digits."""
    return f"{item.id}_{key.short}"


def find_product(output: Path, name: str) -> Product | None:
    """The published product called `name`, or None where there is none or one of its files is not what it was."""
    if not is_published(output, name, cache=output / CACHE):
        return None
    # A run that ended between the item and the catalogue has left it without a link.
    see_linked(output, name)
    item = read_item(output, name)
    return None if item is None else Product(name, output / name, item, unchanged=True)


class Output:
    """Takes a scene's stripes, and publishes them."""

    def __init__(
        self,
        output: Path,
        name: str,
        build: Path,
        prepared: Prepared,
        settings: DecloudSettings,
        key: RunKey,
        restorer: Restorer,
        resources: Resources,
    ) -> None:
        """Start the files of the product `name` in the folder `build`, on the disk of `output`.

        Raises WriteFailed where that cannot be written to.
        """
        self._output, self._name, self._build = output, name, build
        self._prepared, self._settings, self._key, self._restorer = prepared, settings, key, restorer
        scene = prepared.scene
        self._layers = (
            *(Layer(band.name, band.key, band.geobox, "uint16", band.nodata) for band in scene.bands),
            *_scl_layer(prepared),
            provenance_layer(scene.geobox),
            *([confidence_layer(scene.geobox)] if restorer.groups else []),
            cloudmask_layer(scene.geobox),
        )
        self.sink = self._open_sink(resources)
        self.preview = Preview(scene.shape, nodata=scene.bands[0].nodata)

    def finish(self, progress: Progress = silent) -> None:
        """Complete and check every file. Raises WriteFailed where one is not right."""
        self._copy_scl()
        with ThreadPoolExecutor(1, thread_name_prefix="preview") as beside:
            picture = beside.submit(self.preview.save, self._build)
            self.sink.close(progress)
            picture.result()

    def abort(self) -> None:
        """Remove what was written."""
        self.sink.abort()

    def publish(self, statistics: Statistics, plan: TilePlan, clock: Clock, *, overwrite: bool) -> Product:
        """Describe the product and put it into the catalogue. Raises WriteFailed."""
        scene, settings = self._prepared.scene, self._settings
        earlier = [name for name in products_of(self._output, scene.id) if name != self._name]
        record = ProductRecord(
            id=self._name,
            source=scene.item,
            layers=self._layers,
            format=settings.format,
            key=self._key.digest,
            recipe=self._key.recipe,
            settings={
                **settings.model_dump(mode="json", exclude={"bands", "checkpoint", "mask"}),
                "bands": [band.name for band in scene.bands],
                "overlap": plan.vertical.overlap,
                "tiles": plan.total,
                "tiles_restored": plan.count,
            },
            model=ModelRecord(
                self._restorer.name,
                checkpoint_digest(settings.checkpoint),
                "" if settings.checkpoint == IDENTITY else "SRG-GAN generator",
                {"margin": self._restorer.margin, "grid": self._restorer.grid},
            ),
            mask_method=self._prepared.mask.method,
            clouds=self._prepared.mask.fractions,
            provenance=statistics.provenance,
            left_cloudy=self._prepared.left_cloudy,
            seam_score=statistics.seam_score,
            confidence=statistics.confidence,
            references=tuple(
                ReferenceRecord(
                    reference.id,
                    without_credentials(reference.scene.item.origin),
                    reference.days,
                    reference.share,
                    tuple(name for name, fitted in reference.harmonised.items() if not fitted),
                )
                for reference in self._prepared.references
            ),
            skipped=self._prepared.skipped,
            precision=recorded(self._restorer),
            seconds={**clock.seconds, "total": clock.wall},
            limit=clock.limit,
            predecessor=earlier[-1] if earlier else None,
            created=datetime.now(UTC),
        )
        folder = publish(self._build, self._output, build_item(record), overwrite=overwrite, cache=self._output / CACHE)
        return Product(self._name, folder, read_item(self._output, self._name) or {})

    def _open_sink(self, resources: Resources) -> Sink:
        if self._settings.format == "zarr":
            from pipeline.zarr_store import ZarrSink

            return ZarrSink(self._build, self._name, self._layers, threads=resources.threads)
        from pipeline.cog import CogSink

        return CogSink(self._build, self._layers, threads=resources.threads, memory=_GDAL_CACHE)

    def _copy_scl(self) -> None:
        """The source's own classification goes along untouched: whoever loads it beside the bands still can."""
        for layer in _scl_layer(self._prepared):
            scl = self._prepared.scene.item.scl
            assert scl is not None  # noqa: S101 (there is a layer for it)
            rows, cols = layer.shape
            for row in range(0, rows, _SCL_ROWS):
                window = slice(row, min(row + _SCL_ROWS, rows))
                self.sink.write(
                    layer.name, row, self._prepared.scene.reader.read(scl.href, scl.index, window, slice(0, cols))
                )


def _scl_layer(prepared: Prepared) -> list[Layer]:
    """The layer of the source's SCL, where there is a readable one of type uint8."""
    scl = prepared.scene.item.scl
    if scl is None:
        return []
    header = prepared.scene.reader.header(scl.href)
    if header.crs is None or header.dtypes[scl.index - 1] != "uint8":
        return []
    nodata = header.nodata[scl.index - 1]
    grid = GeoBox(header.shape, header.transform, header.crs)
    return [Layer("SCL", scl.key, grid, "uint8", None if nodata is None else int(nodata))]
