"""Two command lines on one output at once: nothing is damaged, both products are there, and who has to stand back is told so."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.simulation.simulate import Simulated
from tests.faults.conftest import Tell, examples, words
from tests.faults.forked import Ended, Nursery
from tests.faults.outputs import listed, pixels, stray, whole_products

pytestmark = pytest.mark.timeout(1200)
FIRST, SECOND, BOTH = "2023-07-08/2023-07-08", "2023-07-13/2023-07-13", "2023-07-08/2023-07-13"
ROUNDS = examples(6)


def command(area: Simulated, output: Path, dates: str, *more: object, command: str = "run") -> tuple[object, ...]:
    return words(area, output, "--references", "1", *more, dates=dates, command=command)


@pytest.fixture(scope="module")
def calm(nursery: Nursery, tiny: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What they leave one after the other."""
    output = tmp_path_factory.mktemp("calm") / "out"
    for dates in (FIRST, SECOND):
        assert nursery.run(*command(tiny, output, dates), output=output).status == 0
    return output


def whole(nursery: Nursery, output: Path, calm: Path, scenes: int) -> None:
    """As many products as expected, byte for byte, and nothing else."""
    made, expected = pixels(whole_products(output)), pixels(whole_products(calm))
    assert made.items() <= expected.items() if scenes == 1 else made == expected
    assert len(made) == scenes
    if scenes == 2:
        assert {name for name in stray(output, listed(calm)) if not name.startswith("backfills")} == set()
    status = nursery.run("status", output, output=output)
    assert status.status == 0, status.out


def stood_back(ended: Ended) -> bool:
    """Whether it was told that another run is at its scene; else it did what it was asked for."""
    if ended.status == 0:
        return False
    assert ended.status == 1, ended.err
    said = " ".join(ended.out.split())
    assert "another run is working on it; wait for it, or choose another --output" in said, said
    return True


@pytest.mark.parametrize("more", [(), ("--overwrite",)], ids=["new", "overwriting"])
def test_the_same_scene_while_the_first_run_is_in_its_midst(
    more: tuple[str, ...], nursery: Nursery, tiny: Simulated, calm: Path, tmp_path: Path, tell: Tell
) -> None:
    """Who overwrites stands back too, and is not told that what was there before is what was to be made anew."""
    output = tmp_path / "out"
    if more:
        assert nursery.run(*command(tiny, output, SECOND), output=output).status == 0
    begun = nursery.begin(*command(tiny, output, SECOND, *more), output=output, at=r"^open \S+/product/")
    assert begun.paused()
    assert stood_back(nursery.run(*command(tiny, output, SECOND, *more), output=output))
    status = nursery.run("status", output, output=output)
    assert status.status == 1
    begun.resume()
    assert begun.end().status == 0
    whole(nursery, output, calm, 1)
    assert nursery.run(*command(tiny, output, SECOND), output=output).status == 0
    whole(nursery, output, calm, 1)
    tell(
        f"two runs, the same scene{' and --overwrite' * bool(more)}: the second ends with one line that says what to do, the first is not disturbed"
    )


@pytest.mark.parametrize(
    ("name", "one", "other", "scenes"),
    [
        ("the same scene", (SECOND,), (SECOND,), 1),
        ("the same scene, overwriting it", (SECOND, "--overwrite"), (SECOND, "--overwrite"), 1),
        ("different scenes", (FIRST,), (SECOND,), 2),
        ("a run and a backfill", (SECOND,), (BOTH, "--step", "5d"), 2),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_started_at_once(
    name: str, one: tuple[str, ...], other: tuple[str, ...], scenes: int, nursery: Nursery, tiny: Simulated, calm: Path, tmp_path: Path,
    tell: Tell,
) -> None:  # fmt: skip
    waited = 0
    for number in range(ROUNDS):
        output = tmp_path / str(number)
        kinds = ["backfill" if "--step" in each else "run" for each in (one, other)]
        both = [
            nursery.begin(*command(tiny, output, *each, command=kind), output=output)
            for each, kind in zip((one, other), kinds, strict=True)
        ]
        ended = [begun.end() for begun in both]
        back = [stood_back(each) for each in ended]
        waited += sum(back)
        assert not all(back)
        assert name != "different scenes" or not any(back)
        # Who stands back does not have the last word on what the other one has made.
        status = nursery.run("status", output, output=output)
        assert status.status == 0 or (any(back) and {"--step", "--overwrite"} & {*other}), status.out
        if any(back):
            again = (one, other)[back.index(True)]
            assert (
                nursery.run(*command(tiny, output, *again, command=kinds[back.index(True)]), output=output).status == 0
            )
        whole(nursery, output, calm, scenes)
    tell(f"two at once, {name}: {ROUNDS} times, {waited} stood back with one line, nothing damaged")
