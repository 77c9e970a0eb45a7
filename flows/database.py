"""The database of the Prefect server: SQLite in its folder, or PostgreSQL where DECLOUD_DATABASE_URL names one."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit, urlunsplit

from pipeline.errors import InvalidSettings

VARIABLE = "DECLOUD_DATABASE_URL"
_EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
_ESCAPED = "/ # ? @ in the password are written %2F %23 %3F %40"
_NO_URL = f"cannot be read as a URL: a port is a number, and {_ESCAPED}"
_SHOWABLE = re.compile(r"(\[[^\]]*\]|[^:/]*)(:\d*)?(/.*)?")
"""Host, port and path; what has another colon may be a user and his password."""
_PATIENCE = 10.0
"""Seconds in which the database has to answer."""


def connection_url(text: str) -> str:
    """The URL as Prefect wants it, with the driver that it brings along. Raises InvalidSettings for another database.

    >>> connection_url("postgres://me:pw@db/prefect")
    'postgresql+asyncpg://me:pw@db/prefect'
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        # What it says may hold a part of the password.
        raise InvalidSettings(f"{VARIABLE} {shown(text)}: {_NO_URL}") from None
    if parts.scheme not in ("postgresql", "postgres", "postgresql+asyncpg") or not parts.path.strip("/"):
        raise InvalidSettings(
            f"{VARIABLE} {shown(text)}: names no PostgreSQL database; write {_EXAMPLE} ({_ESCAPED}), or unset it for "
            "SQLite"
        )
    if "@" in "".join(parts[2:]):
        raise InvalidSettings(f"{VARIABLE} {shown(text)}: {_NO_URL}")
    return urlunsplit(("postgresql+asyncpg", *parts[1:]))


def shown(text: str) -> str:
    """A database's URL without user, password and options, also where the password was not escaped.

    >>> shown("postgresql://me:pw@db:5432/prefect?ssl=on"), shown("postgresql://me:p/w#@db/prefect")
    ('postgresql://db:5432/prefect', 'postgresql://db/prefect')
    """
    found = re.match(r"[a-zA-Z][\w+.-]*://", text)
    if found is None:
        # No URL, but somebody's password may be in it all the same.
        return "(no URL)"
    rest, _, options = text[found.end() :].partition("?")
    place = rest.rpartition("@")[2].partition("#")[0]
    # An @ in the options: the end of a password with a question mark, or of another password.
    hidden = "@" in options or not _SHOWABLE.fullmatch(place)
    return f"{found[0]}{'...' if hidden else place}"


def check_database(url: str) -> None:
    """Connect once. Raises InvalidSettings, one line, where it does not answer or does not let us in."""
    asyncio.run(_connect(url))


async def _connect(url: str) -> None:
    import asyncpg

    try:
        connection = await asyncpg.connect(url.replace("+asyncpg", "", 1), timeout=_PATIENCE)
    except asyncpg.InterfaceError as error:
        # An option that asyncpg does not take; it is ValueError too, but names the option and its values only.
        raise InvalidSettings(f"{VARIABLE} {shown(url)}: {' '.join(str(error).split())}") from None
    except ValueError:
        raise InvalidSettings(f"{VARIABLE} {shown(url)}: {_NO_URL}") from None
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        said = " ".join(str(error).split()) or f"no answer within {_PATIENCE:.0f} s"
        raise InvalidSettings(f"{VARIABLE} {shown(url)}: {said}") from None
    await connection.close()
