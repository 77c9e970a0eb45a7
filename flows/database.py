"""The database of the Prefect server: SQLite in its folder, or PostgreSQL where DECLOUD_DATABASE_URL names one."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit, urlunsplit

from pipeline.errors import InvalidSettings

VARIABLE = "DECLOUD_DATABASE_URL"
_EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
_PATIENCE = 10.0
"""Seconds in which the database has to answer."""


def connection_url(text: str) -> str:
    """The URL as Prefect wants it, with the driver that it brings along. Raises InvalidSettings for another database.

    >>> connection_url("postgres://me:pw@db/prefect")
    'postgresql+asyncpg://me:pw@db/prefect'
    """
    parts = urlsplit(text)
    if parts.scheme not in ("postgresql", "postgres", "postgresql+asyncpg") or not parts.path.strip("/"):
        raise InvalidSettings(
            f"{VARIABLE} {shown(text)}: names no PostgreSQL database; write {_EXAMPLE}, or unset it for SQLite"
        )
    return urlunsplit(("postgresql+asyncpg", *parts[1:]))


def shown(text: str) -> str:
    """A database's URL without user, password and options.

    >>> shown("postgresql://me:pw@db:5432/prefect?ssl=on")
    'postgresql://db:5432/prefect'
    """
    parts = urlsplit(text)
    if not parts.netloc:
        # No URL, but somebody's password may be in it all the same.
        return text.rpartition("@")[2]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def check_database(url: str) -> None:
    """Connect once. Raises InvalidSettings, one line, where it does not answer or does not let us in."""
    asyncio.run(_connect(url))


async def _connect(url: str) -> None:
    import asyncpg

    try:
        connection = await asyncpg.connect(url.replace("+asyncpg", "", 1), timeout=_PATIENCE)
    except (asyncpg.PostgresError, OSError, ValueError, TimeoutError) as error:
        said = " ".join(str(error).split()) or f"no answer within {_PATIENCE:.0f} s"
        raise InvalidSettings(f"{VARIABLE} {shown(url)}: {said}") from None
    await connection.close()
