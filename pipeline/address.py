"""Where an output is, as a person writes it and as the code holds it.

A person writes a folder or `s3://bucket/prefix`. The code holds a `Path`: the folder itself, or for a bucket the local folder
of work that stands for it, in which blocks, files in the making, remembered checksums and the journal lie while the products
go to the bucket. That folder's name is the URL, quoted, so each of the two can be told from the other without asking anyone.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from pipeline.errors import InvalidSettings
from pipeline.hrefs import without_credentials

_QUOTED = "s3%3A%2F%2F"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_LONGEST = 255
"""Bytes in the name of a folder."""


def scratch() -> Path:
    """Folder of the folders of work: `DECLOUD_SCRATCH`, or one of this user's in the machine's temporary folder."""
    named = os.environ.get("DECLOUD_SCRATCH", "").strip()
    return Path(named).absolute() if named else Path(tempfile.gettempdir()) / f"declouder-{os.getuid()}"


def is_url(text: str | Path) -> bool:
    """Whether an output is written as a URL."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(text)) is not None


def output_path(text: str | Path) -> Path:
    """The path that the code holds for an output; touches no disk and no network.

    Raises InvalidSettings for a URL that names no place in a bucket, or that holds credentials.

    >>> output_path("out/2023"), output_path("s3://bucket/a/b/").name
    (PosixPath('out/2023'), 's3%3A%2F%2Fbucket%2Fa%2Fb')
    """
    if isinstance(text, Path):
        # `Path("s3://bucket/a")` has lost a slash.
        text = re.sub(r"^s3:/(?=[^/])", "s3://", str(text))
    if not is_url(text):
        return Path(text)
    name = quote(_checked(str(text)), safe="")
    if len(name) > _LONGEST:
        raise InvalidSettings(f"--output {without_credentials(str(text))[:80]}...: the prefix is too long; shorten it")
    return scratch() / name


def output_url(output: Path) -> str | None:
    """The URL for which a folder of work stands; None for a plain folder."""
    return unquote(output.name) if output.name.startswith(_QUOTED) else None


def address(path: Path) -> str:
    """A path at or below an output as a person would name it: below a folder of work it is a URL.

    >>> address(output_path("s3://bucket/a") / "S2_A" / "S2_A.json"), address(Path("out/S2_A"))
    ('s3://bucket/a/S2_A/S2_A.json', 'out/S2_A')
    """
    for depth, part in enumerate(path.parts):
        if part.startswith(_QUOTED):
            return "/".join((unquote(part), *path.parts[depth + 1 :]))
    return str(path)


def _checked(url: str) -> str:
    """`s3://bucket/prefix` without a slash at its end."""
    try:
        parts, shown = urlsplit(url), without_credentials(url)
    except ValueError as error:
        raise InvalidSettings(f"--output: {error}; name a folder, or s3://bucket/prefix") from None
    if parts.scheme != "s3":
        raise InvalidSettings(f"--output {shown}: products are written to a folder or to s3://bucket/prefix")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidSettings(
            f"--output {shown}: give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or by AWS_PROFILE, not in the URL"
        )
    if not parts.netloc:
        raise InvalidSettings(f"--output {url}: no bucket is named; write s3://bucket/prefix")
    if not _BUCKET.fullmatch(parts.netloc):
        raise InvalidSettings(f"--output {shown}: {parts.netloc!r} cannot be the name of a bucket")
    prefix = parts.path.strip("/")
    odd = any(part in ("", ".", "..") for part in prefix.split("/")) if prefix else False
    if odd or any(ord(letter) < 32 for letter in url) or "\\" in prefix:
        raise InvalidSettings(f"--output {shown!r}: the prefix has empty parts, `.`, `..` or odd characters")
    return f"s3://{PurePosixPath(parts.netloc, prefix)}"
