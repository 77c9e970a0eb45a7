"""The folder that products go to, checked before anything is done."""

from __future__ import annotations

from pathlib import Path

from pipeline.address import address, is_url, output_path, output_url
from pipeline.errors import InvalidSettings, ReadFailed
from pipeline.hrefs import without_credentials


def output_folder(text: str | Path) -> Path:
    """The folder that `--output` names, which need not be there yet. Raises InvalidSettings where it cannot be one.

    >>> output_folder("out/2023")
    PosixPath('out/2023')
    """
    if not str(text).strip():
        raise InvalidSettings("--output is empty: name a folder")
    if is_url(text):
        raise InvalidSettings(
            f"--output {without_credentials(str(text))}: this goes to a folder of this machine: name one"
        )
    check_folder(Path(text))
    return Path(text)


def products_output(text: str | Path) -> Path:
    """The folder or the bucket (`s3://bucket/prefix`) that `--output` names. Raises InvalidSettings where it can be neither.

    Nothing is asked of the bucket yet.
    """
    return output_path(text) if is_url(text) else output_folder(text)


def check_folder(output: Path, option: str = "--output") -> None:
    """Raise InvalidSettings, naming the option, where `output` is a file, lies below one, or has a name that no folder can have.

    A bucket is asked whether it is there and may be read; ReadFailed where it does not answer.
    """
    if output_url(output) is not None:
        # Its client takes half a second to import.
        from pipeline.storage import storage_of

        try:
            storage_of(output).check()
        except (InvalidSettings, ReadFailed) as error:
            raise type(error)(f"{option} {str(error).replace(str(output), address(output))}") from None
        return
    try:
        existing = next((path for path in (output, *output.absolute().parents) if path.exists()), None)
    except OSError as error:
        shown = str(output) if len(str(output)) <= 80 else f"{str(output)[:77]}..."
        raise InvalidSettings(f"{option} {shown}: {error.strerror}; name another folder") from None
    if existing is not None and not existing.is_dir():
        raise InvalidSettings(f"{option} {output}: {existing} is a file; name a folder")
