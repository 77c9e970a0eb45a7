"""A contender for tests: copies its bands, or goes wrong as its job's option `do` says. Run by `python -m`."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from benchmarks.bench.job import Job


def main(job: Job) -> None:
    do = job.options["do"]
    if do == "raise":
        raise RuntimeError("no such luck")
    if do == "hang":
        time.sleep(600)
    if do == "say nothing":
        return
    with job.timed() as facts:
        Path(job.output).mkdir(parents=True)
        facts["files"] = {}
        for name, path in job.bands.items():
            facts["files"][name] = str(shutil.copy(path, Path(job.output) / f"{name}.tif"))
        if do == "lose one":
            facts["files"].popitem()
        if do == "hold memory":
            held = bytes(b"x" * 200_000_000)
            time.sleep(0.4)
            facts["held"] = len(held)


if __name__ == "__main__":
    main(Job.load(sys.argv[1]))
