"""See `tests.hostile.rasters`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.conftest import Decloud, decloud  # noqa: F401 - a fixture
from tests.hostile.case import Case
from tests.hostile.checking import check
from tests.hostile.rasters import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_hostile(case: Case, tmp_path: Path, decloud: Decloud, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    check(case, tmp_path, decloud)
