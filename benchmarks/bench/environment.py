"""`Environment`: the contenders' own virtual environment, made from `benchmarks/contenders.txt`; the product's is never touched.

The file is one of requirements, in groups: `# [name] words` begins one. The group `shared` is installed first; then each other one,
so that one that cannot be installed here costs its own contender only. `# without dependencies` behind a line keeps pip from
installing what the package asks for.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "contenders.txt"
CONSTRAINTS = FILE.parents[1] / "constraints.txt"
SHARED = "shared"
ALONE = "# without dependencies"
_GROUP = re.compile(r"# \[([\w-]+)\]")


@dataclass(frozen=True)
class Group:
    """Packages that belong together."""

    name: str
    needs: tuple[str, ...] = ()
    """Requirements, installed with what they depend on."""
    alone: tuple[str, ...] = ()
    """Requirements, installed without."""


def read_groups(text: str) -> dict[str, Group]:
    """The groups of a file, by name. Raises ValueError for a requirement before the first group or one without an exact version."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    current = ""
    for line in map(str.strip, text.splitlines()):
        if match := _GROUP.match(line):
            current = match[1]
            found.setdefault(current, ([], []))
        elif line and not line.startswith("#"):
            if not current or "==" not in line:
                raise ValueError(f"contenders.txt: {line!r} needs a group above it and an exact version")
            found[current][line.endswith(ALONE)].append(line.partition("#")[0].strip())
    return {name: Group(name, tuple(needs), tuple(alone)) for name, (needs, alone) in found.items()}


@dataclass
class Environment:
    """The contenders' interpreter, and why one of them has none."""

    folder: Path
    tell: Callable[[str], None] = print
    own: str = sys.executable
    """The product's interpreter."""
    _missing: dict[str, str] = field(default_factory=dict)
    """Group -> why it could not be installed."""

    def python(self, group: str) -> tuple[str, str]:
        """(interpreter, why there is none) for the packages of a group; the product's own for the empty name."""
        if not group:
            return self.own, ""
        reason = self._missing.get(SHARED) or self._missing.get(group, "")
        return str(self.folder / "bin" / "python"), reason

    def make(self, groups: Sequence[Group]) -> None:
        """Install what is not installed yet; a group that cannot be is remembered with its reason."""
        if not groups:
            return
        if not (self.folder / "bin" / "python").exists():
            self.tell(f"making the contenders' environment in {self.folder}")
            if reason := _failed([self.own, "-m", "venv", str(self.folder)]):
                shutil.rmtree(self.folder, ignore_errors=True)
                self._missing[SHARED] = f"no environment: {reason}"
                return
        for group in groups:
            stamp = self.folder / f".installed-{group.name}"
            wanted = hashlib.sha256("\n".join([*group.needs, "--", *group.alone]).encode()).hexdigest()
            if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
                continue
            self.tell(f"installing {group.name}: {', '.join((*group.needs, *group.alone))}")
            if reason := self._install(group):
                self._missing[group.name] = f"not installed: {reason}"
            else:
                stamp.write_text(wanted, encoding="utf-8")

    def _install(self, group: Group) -> str:
        pip = [str(self.folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        reason = ""
        if group.needs:
            reason = _failed([*pip, "--constraint", str(CONSTRAINTS), *group.needs])
        if group.alone and not reason:
            reason = _failed([*pip, "--no-deps", *group.alone])
        return reason


def _failed(command: list[str]) -> str:
    """Run a command; its last line of complaint where it fails, else nothing."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or [f"status {done.returncode}"])[-1][:300]
