"""Band sets: what bands a network is given in an evaluation, and which cases each set is tried on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from catalogs.bands import BANDS
from pipeline.cases import Case
from pipeline.errors import InvalidSettings

RGB = "3"
BAND_SETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "13": tuple(BANDS),
        "12": tuple(name for name in BANDS if name != "B10"),
        "4": ("B02", "B03", "B04", "B08"),
        RGB: ("B02", "B03", "B04"),
    }
)
"""Number of bands -> ESA's names: L1C, L2A (which has no B10), the 10 m bands, and what the seed's protocol used."""


def chosen_sets(names: Sequence[str] | None) -> Mapping[str, tuple[str, ...]]:
    """The sets called `names`, the widest first; all for None. Raises InvalidSettings for a name that is none, and for no name."""
    wanted = BAND_SETS if names is None else names
    unknown = sorted(set(wanted) - set(BAND_SETS))
    if unknown or not wanted:
        raise InvalidSettings(f"--bands {', '.join(unknown) or 'without a value'}: {', '.join(BAND_SETS)} are possible")
    return {name: bands for name, bands in BAND_SETS.items() if name in wanted}


def possible_sets(sets: Mapping[str, tuple[str, ...]], bands: Sequence[str]) -> tuple[str, ...]:
    """Names of the sets whose bands are all among `bands`, the widest first.

    >>> possible_sets(BAND_SETS, ("B02", "B03", "B04", "B08", "B11"))
    ('4', '3')
    """
    return tuple(name for name, members in sets.items() if set(members) <= set(bands))


def protocols_of(case: Case, name: str, possible: Sequence[str]) -> tuple[str, ...]:
    """The protocols in which a case counts with the band set `name`; none where it is not tried with it.

    In the widest set of its chip a case counts in all of its protocols. Narrower sets are tried on real clouds, where the sets are so compared on
    the same images; RGB is tried in the seed's protocol, which used it. A network's run costs as much for one band as for all.
    """
    every = (case.protocol, *case.also)
    if name == possible[0]:
        return every
    if name == RGB:
        return tuple(protocol for protocol in every if protocol == "seed")
    return () if case.sky else every
