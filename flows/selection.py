"""`Selection`: the scenes of a request, the other dates around them, and what could not be read on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from catalogs.aoi import AreaOfInterest, parse_aoi
from catalogs.dates import parse_dates
from catalogs.errors import CatalogError, InvalidQuery
from catalogs.files import open_sources
from catalogs.hrefs import is_remote, without_credentials
from catalogs.item import SceneItem
from catalogs.query import Query
from catalogs.search import SearchResult, search
from flows.credentials import given
from flows.remarks import date_unknown, missing_files, remote_files, unused_sources
from flows.request import AreaRequest, SceneRequest
from pipeline.candidates import may_serve
from pipeline.settings import DecloudSettings

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True)
class Selection:
    """What a run works on."""

    items: tuple[SceneItem, ...]
    """The scenes, in the order in which they are to be run."""
    others: tuple[SceneItem, ...] = ()
    """Every scene that may serve as another date, `items` among them."""
    problems: tuple[str, ...] = ()
    """What the catalogue or an item names and could not be read, one line each: the run has then failed in part."""
    area: BaseGeometry | None = None
    """EPSG:4326."""
    note: str = ""
    """Why there are no items, where there are none."""
    warnings: tuple[str, ...] = ()
    """What makes the products worse than they could be, one line each."""
    remarks: tuple[str, ...] = ()
    """What is as it should be and good to know, one line each."""

    def candidates(self, item: SceneItem, settings: DecloudSettings) -> tuple[SceneItem, ...]:
        """The dates that `item` may be restored from.

        Only those that can be chosen at all: what else was searched for must not change the product's key.
        """
        if not settings.references:
            return ()
        return tuple(other for other in self.others if may_serve(item, other, settings.window_days))


def label(item: SceneItem) -> str:
    """What a person calls a scene: `33TWL 2023-08-10`."""
    return f"{item.tile or item.id} {item.datetime:%Y-%m-%d}"


def select(request: AreaRequest | SceneRequest) -> Selection:
    """Find the scenes of a request.

    Raises InvalidQuery for an area, dates or names that are wrong, and for an area that no scene of the catalogue
    touches; InvalidItem for files that are no scenes; SourceUnavailable where a catalogue does not answer.
    """
    found = _from_catalogue(request) if isinstance(request, AreaRequest) else _from_sources(request)
    return _with_remarks(_only(request, found), request)


def _only(request: AreaRequest | SceneRequest, found: Selection) -> Selection:
    if not request.only:
        return found
    missing = sorted(set(request.only) - {item.id for item in found.items})
    if missing:
        raise InvalidQuery(f"{', '.join(missing)}: not found any more in {_where(request)}")
    items = tuple(item for item in found.items if item.id in request.only)
    return Selection(items, found.others, found.problems, found.area)


def _with_remarks(found: Selection, request: AreaRequest | SceneRequest) -> Selection:
    """The same with what there is to say of its scenes."""
    settings = request.settings
    problems, warnings = [*found.problems], list[str]()
    for item in found.items:
        problems += missing_files(item, settings)
        warnings += date_unknown(item)
        if isinstance(request, SceneRequest):
            # Whoever names several scenes means them to help each other; a catalogue just holds what it holds.
            warnings += unused_sources(item, found.others, found.candidates(item, settings), settings)
    remarks = tuple(remote_files(found.items, settings))
    return replace(found, problems=tuple(problems), warnings=tuple(warnings), remarks=remarks)


def _from_sources(request: SceneRequest) -> Selection:
    area = parse_aoi(request.aoi) if request.aoi is not None else None
    items = tuple(open_sources([given(source) for source in request.sources], request.bands))
    double = sorted({item.id for item in items if sum(other.id == item.id for other in items) > 1})
    if double:
        raise InvalidQuery(
            f"{', '.join(double)}: named twice; the products would have the same name, so run them apart"
        )
    if area is not None:
        _check_area(area, items, "the scenes named")
    return Selection(items, items, area=area.geometry if area else None)


def _from_catalogue(request: AreaRequest) -> Selection:
    area = parse_aoi(request.aoi)
    start, end = parse_dates(request.dates)
    days = timedelta(days=request.settings.window_days if request.settings.references else 0)
    found = search(Query(area, _earlier(start, days), _later(end, days)), given(request.catalog))
    items = tuple(item for item in found if start <= item.datetime <= end)
    problems = tuple(f"{problem.href}: {problem.reason}" for problem in found.problems)
    note = "" if items else _why_none(request, area, start, end)
    return Selection(items, found.items, problems, area.geometry, note)


def _why_none(request: AreaRequest, area: AreaOfInterest, start: datetime, end: datetime) -> str:
    """One line for a search that found nothing. Raises InvalidQuery where the area lies outside every scene."""
    ahead = ", which lies in the future" if start > datetime.now(UTC) else ""
    line = f"0 scenes between {start:%Y-%m-%d} and {end:%Y-%m-%d}{ahead} in {area.text}: nothing to do"
    try:
        everything = search(Query(), given(request.catalog))
    except CatalogError:
        # An API holds the whole Earth and does not list it.
        return line
    if not everything.items and not everything.problems:
        return f"{_where(request)}: the catalogue holds no items: nothing to do"
    _check_area(area, everything.items, _where(request), request.dates)
    there = [item for item in everything if Query(area).matches(item)]
    if there:
        line += f"; {_where(request)} holds {len(there)} of other dates, {_span(there)}"
    return line


def _check_area(area: AreaOfInterest, items: tuple[SceneItem, ...], where: str, dates: str | None = None) -> None:
    """Raise InvalidQuery where `area` touches none of the scenes."""
    if not items or any(Query(area).matches(item) for item in items):
        return
    bounds = [item.geometry.bounds for item in items if item.geometry is not None]
    west, south = min(b[0] for b in bounds), min(b[1] for b in bounds)
    east, north = max(b[2] for b in bounds), max(b[3] for b in bounds)
    asked = f"{area.text}" + (f" (dates {dates})" if dates else "")
    raise InvalidQuery(
        f"area of interest {asked} lies outside every scene of {where}: it holds {len(items)}, of {_span(items)}, "
        f"all within {west:.2f},{south:.2f},{east:.2f},{north:.2f}"
    )


def _span(items: SearchResult | list[SceneItem] | tuple[SceneItem, ...]) -> str:
    days = sorted(item.datetime for item in items)
    first, last = f"{days[0]:%Y-%m-%d}", f"{days[-1]:%Y-%m-%d}"
    return first if first == last else f"{first} to {last}"


def _earlier(moment: datetime, days: timedelta) -> datetime:
    return moment - days if moment - datetime.min.replace(tzinfo=moment.tzinfo) > days else moment


def _later(moment: datetime, days: timedelta) -> datetime:
    return moment + days if datetime.max.replace(tzinfo=moment.tzinfo) - moment > days else moment


def _where(request: AreaRequest | SceneRequest) -> str:
    """Where a request looks, as it may be shown."""
    places = (request.catalog,) if isinstance(request, AreaRequest) else request.sources
    return ", ".join(without_credentials(place) if is_remote(place) else place for place in places)
