"""`Services` with real processes, and what `make server` refuses before it starts any."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows import serving
from flows.database import check_database, connection_url, shown
from flows.deployments import ROOT
from flows.services import ServiceFailed, Services
from flows.serving import Asked, Serving, main
from pipeline.errors import InvalidSettings

# Ends when it is asked to; or not; and has a child that knows nothing of it.
CHILD = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
POLITE = "import sys, time\nprint('here', flush=True)\ntime.sleep(600)"
DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('here', flush=True)\ntime.sleep(600)"


def started(services: Services, name: str, code: str) -> psutil.Process:
    service = services.start(name, [sys.executable, "-c", code], {"PATH": "/usr/bin"}, ROOT)
    until = time.monotonic() + 120
    while "here" not in service.log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    return psutil.Process(service.process.pid)


def test_all_are_stopped_the_last_first_and_nobody_outlives_them(tmp_path: Path) -> None:
    with Services(tmp_path / "logs", grace=120) as services:
        server = started(services, "server", CHILD + POLITE)
        worker = started(services, "worker", CHILD + POLITE)
        grandchildren = [*server.children(), *worker.children()]
        assert len(grandchildren) == 2
        services.check()
        assert server.pid != worker.pid
        # A session of its own: ctrl-C in our terminal reaches us alone.
        assert len({psutil.Process().pid, server.pid, worker.pid}) == 3
    psutil.wait_procs(grandchildren, timeout=30)
    assert not any(process.is_running() for process in (server, worker, *grandchildren))
    assert (tmp_path / "logs" / "server.log").read_text() == "here\n"


def test_whoever_does_not_leave_is_killed(tmp_path: Path) -> None:
    with Services(tmp_path, grace=0.5) as services:
        process = started(services, "deaf", DEAF)
    assert not process.is_running()
    with Services(tmp_path, hurried=lambda: True, grace=600) as services:
        process = started(services, "deaf", DEAF)
    assert not process.is_running()


@pytest.mark.parametrize("own_session", [False, True])
def test_what_a_dead_one_has_started_is_ended_too(own_session: bool, tmp_path: Path) -> None:
    # As a worker starts its flows, and then is killed.
    code = (
        "import os, subprocess, sys\n"
        "child = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        f"print(subprocess.Popen(child, start_new_session={own_session}).pid, 'here', flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    with Services(tmp_path) as services:
        dead = services.start("worker", [sys.executable, "-c", code], {"PATH": "/usr/bin"}, ROOT)
        other = started(services, "server", POLITE)
        dead.process.wait(timeout=120)
        child = psutil.Process(int(dead.log.read_text().split()[0]))
        with pytest.raises(ServiceFailed, match="worker ended with status -9"):
            services.check()
        assert child.is_running()
        services.running.remove(dead)
        services.stop()
        assert not other.is_running()
        # Another service's are not touched.
        assert child.is_running()
        services.running.append(dead)
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_one_that_ends_by_itself_is_named_with_its_last_words(tmp_path: Path) -> None:
    code = "import sys; sys.stderr.write('no room\\n-----\\n'); sys.exit(3)"
    with Services(tmp_path) as services:
        services.start("server", [sys.executable, "-c", code], {}, ROOT).process.wait()
        with pytest.raises(ServiceFailed) as caught:
            services.check()
    assert str(caught.value) == f"server ended with status 3: no room (more in {tmp_path / 'server.log'})"


def test_a_taken_port_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--state", str(tmp_path)]) == 2
    assert f"--port {port}: cannot listen there" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()
    assert main(["--port", "0", "--state", str(tmp_path)]) == 2
    (tmp_path / "file").write_text("")
    assert main(["--port", "4399", "--state", str(tmp_path / "file")]) == 2
    assert "name a folder that is writable" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:secret@db/x", "postgresql://me:secret@db", "me:secret@db/x", "host=db password=secret dbname=x",
        "postgresql://me:pre#secret@db/x", "postgresql://me:pre?secret@db/x", "postgresql://me:secret?x@db/x",
        "postgresql://me:secret", "postgresql://db?password=secret", "postgresql://db?password=p@secret",
        "mysql://me:p://secret@db/x",
    ],
)  # fmt: skip
def test_another_database_is_refused_without_showing_its_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DECLOUD_DATABASE_URL", url)
    assert main(["--port", "4399", "--state", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "names no PostgreSQL database" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret/x@127.0.0.1:9/x", "postgresql://me:pre/secret@127.0.0.1:9/x", "postgresql://me:12/secret@db/x",
        "postgresql://me:p/secret#y@127.0.0.1:9/x", "postgresql://me:p/secret?y@127.0.0.1:9/x", "postgresql://me:[secret@db/x",
        "postgresql://me:pw@127.0.0.1:secret/x", "postgresql://me:sec\u2100ret@db/x",
    ],
)  # fmt: skip
def test_a_password_that_is_not_escaped_is_not_shown_either(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DECLOUD_DATABASE_URL", url)
    assert main(["--port", "4399", "--state", str(tmp_path)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "cannot be read as a URL" in said
    assert "%2F" in said
    assert "secret" not in said
    assert "ret" not in said


def test_an_option_that_no_database_takes_is_named() -> None:
    with pytest.raises(InvalidSettings, match="`sslmode` parameter must be one of"):
        check_database(connection_url("postgresql://me:secret@127.0.0.1:9/x?sslmode=perhaps"))


def test_a_database_that_does_not_answer_is_named() -> None:
    with pytest.raises(
        InvalidSettings,
        match=r"DECLOUD_DATABASE_URL postgresql\+asyncpg://127.0.0.1:9/prefect: .*(refused|Connect call failed)",
    ) as caught:
        check_database(connection_url("postgresql://me:secret@127.0.0.1:9/prefect"))
    assert "secret" not in str(caught.value)
    assert shown("postgresql://me:secret@db/x?password=secret") == "postgresql://db/x"


def test_the_password_is_in_the_environment_of_the_server_only_as_prefect_reads_it(tmp_path: Path) -> None:
    url = "postgresql://me:pw@db/x"
    made = Serving("0.0.0.0", 4300, tmp_path, url).environment({"DECLOUD_DATABASE_URL": url, "PATH": "/bin"})  # noqa: S104
    assert made["PREFECT_API_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://me:pw@db/x"
    assert made["PREFECT_API_URL"] == "http://127.0.0.1:4300/api"
    assert made["PATH"] == "/bin"
    assert "DECLOUD_DATABASE_URL" not in made
    assert "PREFECT_API_DATABASE_CONNECTION_URL" not in Serving("::1", 4300, tmp_path).environment({})
    assert Serving("::1", 4300, tmp_path).api == "http://[::1]:4300/api"


# Writes down what it was given; the server also says that it is well.
DUMP = """
import http.server, json, os, pathlib, sys, time
kind, folder = sys.argv[1], pathlib.Path(os.environ["DUMPS"])
name = "server" if kind == "server" else sys.argv[sys.argv.index("--pool") + 1]
part = folder / f"{name}.part"  # Both workers write at once: a name of their own each.
part.write_text(json.dumps(dict(os.environ)))
part.rename(folder / f"{name}.json")
class Well(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
if kind == "server":
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Well).serve_forever()
time.sleep(600)
"""


class Until(Asked):
    """Asked to stop as soon as server and workers have written down their environments."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.until = folder, time.monotonic() + 120

    @property
    def times(self) -> int:
        return int(len(list(self.folder.glob("*.json"))) == 3 or time.monotonic() > self.until)


def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str, **environ: str) -> dict[str, dict[str, str]]:
    """What server and workers find in their environments."""
    (tmp_path / "dumps").mkdir()
    for name, value in {"DUMPS": str(tmp_path / "dumps"), **environ}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(serving, "_prefect", lambda *words: [sys.executable, "-c", DUMP, *words])
    # There is no database, and what answers makes no pools.
    monkeypatch.setattr(serving, "check_database", lambda _: None)
    monkeypatch.setattr(serving, "_make_pools", lambda _: None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving.serve(Serving("127.0.0.1", port, tmp_path / "state", database), Until(tmp_path / "dumps"))
    return {path.stem: json.loads(path.read_text()) for path in (tmp_path / "dumps").glob("*.json")}


def test_only_the_server_is_given_the_databases_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://me:secret@db/x"
    environ = {"DECLOUD_DATABASE_URL": url, "PREFECT_SERVER_DATABASE_PASSWORD": "secret", "KEPT": "kept"}
    found = served(tmp_path, monkeypatch, url, **environ)
    assert set(found) == {"server", "cpu", "gpu"}
    assert found["server"]["PREFECT_API_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://me:secret@db/x"
    for pool in ("cpu", "gpu"):
        assert "secret" not in str(found[pool])
        assert found[pool]["KEPT"] == "kept"
        assert found[pool]["PREFECT_API_URL"] == found["server"]["PREFECT_API_URL"]
    said = capsys.readouterr().out
    assert "server starts: postgresql+asyncpg://db/x\n" in said
    assert "secret" not in said


def test_the_database_that_is_named_is_the_one_that_the_server_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(tmp_path / "elsewhere")
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    for number, (environ, expected) in enumerate(
        (
            ({}, f"SQLite in {tmp_path / '0' / 'state' / 'prefect'}"),
            ({"PREFECT_HOME": home}, f"SQLite in {home}"),
            ({"PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://me:secret@h/y"}, "postgresql+asyncpg://h/y"),
        )
    ):
        (tmp_path / str(number)).mkdir()
        found = served(tmp_path / str(number), monkeypatch, "", **environ)
        said = capsys.readouterr().out
        assert f"server starts: {expected}\n" in said
        assert "secret" not in said + str(found["cpu"])


def test_ctrl_c_is_counted_and_given_back() -> None:
    import signal

    before = signal.getsignal(signal.SIGINT)
    with Asked() as asked:
        assert asked.times == 0
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert asked.times == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_the_state_has_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert serving.state_folder() == tmp_path / "declouder"
