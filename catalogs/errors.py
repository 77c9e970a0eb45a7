"""The exceptions of `catalogs`: one base, one line a subclass, every message names the thing, the place and the way out."""

from __future__ import annotations


class CatalogError(Exception):
    """Base of every error that `catalogs` raises on purpose."""

    transient: bool = False
    """Whether doing the same again may help."""


class InvalidQuery(CatalogError):
    """The area, the dates or a name in the query is wrong: another call is needed, a retry will not help."""


class InvalidItem(CatalogError):
    """An item, a file or a folder is not what it claims to be: a retry will not help."""


class SourceUnavailable(CatalogError):
    """A catalogue did not answer, or not in time: a retry may help."""

    transient = True
