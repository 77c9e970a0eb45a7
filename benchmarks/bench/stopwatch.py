"""Runs one command and measures it: `python -I -S stopwatch.py SPEC.json`, the standard library only.

A process of its own, and a small one, because Linux counts what the parent held at the fork into the child's ru_maxrss.
Prints one line of JSON: `started` and `ended` (monotonic seconds), `status` (as of a shell), `user`, `system` (seconds, children that
were waited for included), `peak` (ru_maxrss of the largest process, bytes), `tree_peak` (most resident bytes of the process and all
below it together, sampled ten times a second; shared pages count in each), `timed_out`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

EVERY = 0.1
_PAGE = os.sysconf("SC_PAGE_SIZE")


def family(root: int) -> list[int]:
    """Ids of a process and of all below it."""
    found, waiting = [], [root]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                waiting += map(int, children.read_text().split())
            except OSError:
                continue  # that thread has just ended
    return found


def resident(root: int) -> int:
    """Resident bytes of a process and of all below it."""
    total = 0
    for one in family(root):
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            continue  # it has just ended
    return total


def measure(
    command: list[str], log: Path, environment: dict[str, str], timeout: float, folder: str
) -> dict[str, object]:
    """Run `command` in `folder` with its output in `log`; the keys are described above."""
    ended, late = threading.Event(), threading.Event()
    peak = 0

    def watch(pid: int) -> None:
        nonlocal peak
        while not ended.wait(EVERY):
            peak = max(peak, resident(pid))

    def give_up(pid: int) -> None:
        late.set()
        os.killpg(pid, signal.SIGKILL)

    with log.open("wb") as sink:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
        watcher = threading.Thread(target=watch, args=(process.pid,))
        alarm = threading.Timer(timeout, give_up, (process.pid,))
        watcher.start()
        alarm.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            done = time.monotonic()
            alarm.cancel()
            ended.set()
            watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
    code = process.returncode
    return {
        "started": started,
        "ended": done,
        "status": code if code >= 0 else 128 - code,
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,
        "tree_peak": max(peak, usage.ru_maxrss * 1024),
        "timed_out": late.is_set(),
    }


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    # ctrl-C at the terminal ends the run as well, which has left the terminal's group.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(json.dumps(measure(spec["command"], Path(spec["log"]), spec["environment"], spec["timeout"], spec["folder"])))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
