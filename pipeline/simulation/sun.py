"""`Sun`: where the sun stands, as metadata state it and as shadows show it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from pipeline.errors import InvalidSettings


@dataclass(frozen=True)
class Sun:
    """Direction to the sun, seen from the ground."""

    azimuth: float
    """Degrees clockwise from north, 0..360."""
    elevation: float
    """Degrees above the horizon, above 0 up to 90."""

    def __post_init__(self) -> None:
        if not 0 <= self.azimuth <= 360 or not 0 < self.elevation <= 90:
            raise InvalidSettings(
                f"sun at azimuth {self.azimuth}, elevation {self.elevation}: must be above the horizon"
            )

    @property
    def azimuth_radians(self) -> float:
        """Radians clockwise from north."""
        return math.radians(self.azimuth)

    @property
    def zenith_radians(self) -> float:
        """Angle from the vertical, radians."""
        return math.radians(90 - self.elevation)

    def shadow(self, height: float) -> tuple[float, float]:
        """Where the shadow of a point `height` metres above flat ground falls: metres (to the south, to the east).

        Postcondition: its length is `height / tan(elevation)` and it points away from the sun.

        >>> [round(way, 6) + 0 for way in Sun(azimuth=180, elevation=45).shadow(100)]
        [-100.0, 0.0]
        """
        reach = height * math.tan(self.zenith_radians)
        return reach * math.cos(self.azimuth_radians), -reach * math.sin(self.azimuth_radians)


def sun_at(when: datetime, longitude: float, latitude: float) -> Sun:
    """The sun over a place (degrees) at a time with a time zone, to about half a degree (Spencer 1971).

    Raises InvalidSettings for a time without a zone, and at night.
    """
    if when.tzinfo is None:
        raise InvalidSettings(f"the sun's place at {when} needs a time zone")
    start = datetime(when.year, 1, 1, tzinfo=when.tzinfo)
    day = (when - start).total_seconds() / 86400
    year = 2 * math.pi * day / 365
    declination = (
        0.006918
        - 0.399912 * math.cos(year)
        + 0.070257 * math.sin(year)
        - 0.006758 * math.cos(2 * year)
        + 0.000907 * math.sin(2 * year)
    )
    equation = 229.18 * (
        0.000075
        + 0.001868 * math.cos(year)
        - 0.032077 * math.sin(year)
        - 0.014615 * math.cos(2 * year)
        - 0.040849 * math.sin(2 * year)
    )  # minutes
    offset = when.utcoffset()
    minutes = (day % 1) * 1440 - (offset.total_seconds() / 60 if offset else 0) + equation + 4 * longitude
    hour = math.radians(minutes / 4 - 180)
    place = math.radians(latitude)
    height = math.sin(place) * math.sin(declination) + math.cos(place) * math.cos(declination) * math.cos(hour)
    towards_south = math.cos(hour) * math.sin(place) - math.tan(declination) * math.cos(place)
    azimuth = (math.degrees(math.atan2(math.sin(hour), towards_south)) + 180) % 360
    return Sun(azimuth=azimuth, elevation=math.degrees(math.asin(height)))
