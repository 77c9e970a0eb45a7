"""A catalogue or a store of pixels that fails in the midst of a whole command line: one clear line, a true exit status, and once it is well
again the same command ends like one that never met it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.simulation.simulate import Simulated
from tests.faults.conftest import KILLS, Tell, words
from tests.faults.forked import Ended, Nursery
from tests.faults.outputs import listed, pixels, stray, whole_products
from tests.faults.sick_server import SickServer, sick_server

pytestmark = pytest.mark.timeout(600)
ITEM = r"S2B_33UWP_20230713_0_L2A\.json$"
ILLNESSES = ("status 500", "status 503", "close", "truncate", "silent", "trickle", "html")

# Every second one holds both illnesses of both dates.
PIXELS = [
    ("20230713", 1, "status 500"), ("20230713", 1, "close"), ("20230713", 3, "close"), ("20230713", 3, "status 500"),
    ("20230708", 0, "close"), ("20230708", 0, "status 500"), ("20230708", 2, "status 500"), ("20230708", 2, "close"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tiny: Simulated) -> Iterator[SickServer]:
    with sick_server(tiny.catalogue.parent) as made:
        yield made


@pytest.fixture(autouse=True)
def healed(server: SickServer) -> Iterator[None]:
    yield
    server.well()


def command(area: Simulated, server: SickServer, output: Path) -> tuple[object, ...]:
    remote = replace(area, catalogue=f"{server.url}/catalog.json")  # type: ignore[arg-type]
    return words(remote, output, "--references", "1")


@pytest.fixture(scope="module")
def calm(nursery: Nursery, tiny: Simulated, server: SickServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("calm") / "out"
    ended = nursery.run(*command(tiny, server, output), output=output)
    assert ended.status == 0, ended.err + ended.out
    return output


def recovers(nursery: Nursery, area: Simulated, server: SickServer, output: Path, calm: Path) -> None:
    server.well()
    again = nursery.run(*command(area, server, output), output=output)
    assert again.status == 0, again.err + again.out
    assert pixels(whole_products(output)) == pixels(whole_products(calm))
    assert stray(output, listed(calm)) == set()
    assert nursery.run("status", output, output=output).status == 0


@pytest.mark.parametrize("illness", ILLNESSES)
def test_a_catalogue_that_fails(
    illness: str, nursery: Nursery, tiny: Simulated, server: SickServer, tmp_path: Path, tell: Tell
) -> None:
    output = tmp_path / "out"
    server.ill(illness, r"catalog\.json$")
    ended = nursery.run(*command(tiny, server, output), output=output)
    assert ended.status == (2 if illness == "html" else 1), ended.err
    assert ended.error.startswith(f"error: {server.url}/catalog.json: ")
    assert len(ended.err.splitlines()) == 1
    assert not output.exists(), "nothing was begun"
    status = nursery.run("status", output, output=output)
    assert status.status == 2
    tell(f"catalogue, {illness}: exit status {ended.status}: {ended.error.removeprefix('error: ')[len(server.url) :]}")


@pytest.mark.parametrize("illness", ["status 500", "close", "truncate"])
def test_an_item_that_cannot_be_had(
    illness: str, nursery: Nursery, tiny: Simulated, server: SickServer, calm: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    server.ill(illness, ITEM)
    ended: Ended = nursery.run(*command(tiny, server, output), output=output)
    assert ended.status == 1, ended.err + ended.out
    assert "S2B_33UWP_20230713_0_L2A.json" in ended.err + ended.out
    assert whole_products(output) == {}
    recovers(nursery, tiny, server, output, calm)


@pytest.mark.parametrize("illness", ["status 503", "close", "truncate"])
def test_a_catalogue_that_is_well_again_after_two_tries(
    illness: str, nursery: Nursery, tiny: Simulated, server: SickServer, calm: Path, tmp_path: Path, tell: Tell
) -> None:
    output = tmp_path / "out"
    server.ill(illness, r"\.json$", times=2)
    ended = nursery.run(*command(tiny, server, output), output=output)
    assert ended.status == 0, ended.err
    assert pixels(whole_products(output)) == pixels(whole_products(calm))
    tell(f"catalogue, {illness} twice and then well: exit status 0, the same product")


@pytest.mark.parametrize(("who", "after", "illness"), PIXELS[:: 1 if KILLS >= 200 else 2])
def test_pixels_that_cannot_be_had(
    who: str, after: int, illness: str, nursery: Nursery, tiny: Simulated, server: SickServer, calm: Path, tmp_path: Path, tell: Tell
) -> None:  # fmt: skip
    """Of the scene or of the other date: the same command must not give one product today and another one tomorrow."""
    output = tmp_path / "out"
    server.ill(illness, rf"{who}\S+/B04\.tif$", after=after)
    ended = nursery.run(*command(tiny, server, output), output=output)
    there = whole_products(output)
    assert pixels(there) in ({}, pixels(whole_products(calm)))
    assert ended.status == (0 if there else 1), ended.err
    if not there:
        assert "B04.tif" in ended.out
        assert "failed" in ended.out
        assert nursery.run("status", output, output=output).status == 1
    recovers(nursery, tiny, server, output, calm)
    which = "the scene" if who == "20230713" else "the other date"
    tell(f"pixels of {which}, {illness} from request {after + 1} on: exit status {ended.status}, no half product")
