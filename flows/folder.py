"""The folder that products go to, checked before anything is done."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import InvalidSettings


def output_folder(text: str | Path) -> Path:
    """The folder that `--output` names, which need not be there yet. Raises InvalidSettings where it cannot be one.

    >>> output_folder("out/2023")
    PosixPath('out/2023')
    """
    if not str(text).strip():
        raise InvalidSettings("--output is empty: name a folder")
    check_folder(Path(text))
    return Path(text)


def check_folder(output: Path, option: str = "--output") -> None:
    """Raise InvalidSettings, naming the option, where `output` is a file, lies below one, or has a name that no folder can have."""
    try:
        existing = next((path for path in (output, *output.absolute().parents) if path.exists()), None)
    except OSError as error:
        shown = str(output) if len(str(output)) <= 80 else f"{str(output)[:77]}..."
        raise InvalidSettings(f"{option} {shown}: {error.strerror}; name another folder") from None
    if existing is not None and not existing.is_dir():
        raise InvalidSettings(f"{option} {output}: {existing} is a file; name a folder")
