"""The flow `build-pairs`, on a real embedded server: the table that the command makes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from catalogs.pairs import PairTable, rejects_path
from flows.pairs_flow import PairsRequest, build_pairs_flow
from pipeline.errors import InvalidSettings
from tests.flows.conftest import Decloud
from tests.flows.served import SERVED, last_run

pytestmark = SERVED


@pytest.fixture
def tree(shared_data: Path, tmp_path: Path) -> Path:
    """A tree of one real pair."""
    pytest.importorskip("s2cloudless")
    for side in ("s2", "s2_cloudy"):
        name = f"ROIs1158_spring_{side}/{side}_39/ROIs1158_spring_{side}_39_p100.tif"
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared_data / "SEN12MSCR" / name, tmp_path / "tree" / name)
    return tmp_path / "tree"


def test_the_flow_makes_the_table_that_the_command_makes(tree: Path, tmp_path: Path, decloud: Decloud) -> None:
    from prefect.artifacts import Artifact

    plain, flowed = tmp_path / "plain.parquet", tmp_path / "flowed.parquet"
    assert decloud("pairs", tree, "--layout", "sen12mscr", "--output", plain, "--quiet").status == 0
    made = build_pairs_flow(PairsRequest(root=str(tree), layout="sen12mscr", output=flowed))
    ours, theirs = PairTable.read(flowed), PairTable.read(plain)
    pd.testing.assert_frame_equal(pd.DataFrame(ours.frame), pd.DataFrame(theirs.frame))
    assert ours.split_hash == theirs.split_hash == made.split_hash
    assert (made.table, made.rows, made.good, made.rejected) == (str(flowed), 1, 1, 0)
    assert rejects_path(flowed).is_file()
    run = last_run()
    assert (run.name, run.state.type.value) == ("build-pairs flowed.parquet", "COMPLETED")
    table: Any = Artifact.get("pairs")
    assert json.loads(table.data) == [{"split": "train", "role": "pair", "ok": 1}]


def test_a_folder_in_the_place_of_the_table_fails_before_anything_is_read(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="is a folder: name a file in it"):
        build_pairs_flow(PairsRequest(root=str(tree), layout="sen12mscr", output=tmp_path))
    assert last_run().state.is_failed()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"layout": "sen12ms"}, "layout"),
        ({"chip": 100}, "chip"),
        ({"max_days": -1}, "max_days"),
        ({"aoi": "1,2,3,4"}, "aoi and dates go with the layout stac; sen12mscr is read whole"),
        ({"roots": "x"}, "roots"),
    ],
)
def test_a_form_that_is_filled_in_wrongly_is_refused(values: dict[str, Any], said: str) -> None:
    given = {"root": "tree", "layout": "sen12mscr", "output": "pairs.parquet"} | values
    with pytest.raises(ValidationError, match=said):
        PairsRequest.model_validate(given)
