"""What must be on the disk before a product is told of: a power cut keeps what was flushed, and nothing else for certain.

No test can pull the plug; the order of the system's calls can be read. Each file of a product is flushed before its item gets its name.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.simulation.simulate import Simulated
from tests.faults.conftest import words
from tests.faults.forked import Nursery


@pytest.mark.parametrize("kind", ["cog", "zarr"])
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "replaced"])
def test_all_of_a_product_is_flushed_before_its_item_is_there(
    kind: str, overwrite: bool, nursery: Nursery, tiny: Simulated, tmp_path: Path
) -> None:
    output, trace = tmp_path / "out", tmp_path / "trace"
    command = words(tiny, output, "--references", "1", "--format", kind)
    if overwrite:
        assert nursery.run(*command, output=output).status == 0
        command += ("--overwrite",)
    assert nursery.run(*command, output=output, trace=str(trace)).status == 0
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    (product,) = (path for path in output.glob("S2B*") if path.is_dir())
    named = [
        number
        for number, (event, *told) in enumerate(events)
        if event == "os.rename" and told[1].endswith(f"/{product.name}.json")
    ]
    assert len(named) == 1
    flushed = {told[0] for event, *told in events[: named[0]] if event == "fsync"}
    files = [path for path in product.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path.name for path in files if path.stat().st_ino not in flushed] == []
    folders = [product, *(path for path in product.rglob("*") if path.is_dir())]
    assert [path.name for path in folders if path.stat().st_ino not in flushed] == []
    # And the folder that names it.
    assert output.stat().st_ino in {told[0] for event, *told in events if event == "fsync"}
    # What the journal says is flushed before the next step.
    written = [
        number
        for number, (event, *told) in enumerate(events)
        if event == "open" and told[0].endswith(".jsonl") and str(told[1])[:1] == "a"
    ]
    assert len(written) > 2
    assert all(any(each[0] == "fsync" for each in events[number + 1 : number + 3]) for number in written)
