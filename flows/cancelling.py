"""A flow run that is cancelled ends as one that is stopped by ctrl-C: within a block, with everything that is finished kept.

A worker cancels by SIGTERM, for which Prefect has a handler of its own that raises `TerminationSignal` in the main thread, and which it
must find in place to call the run cancelled and not crashed. So no handler is put over it. But an exception that comes during an import
or in a destructor is swallowed there, and threads hear nothing of it: so the signal is also read from the wake-up descriptor, to which
the interpreter writes each signal's number, and remembered as ctrl-C is.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.exceptions import TerminationSignal

from flows import interrupts

GRACE = 15.0
"""Seconds that blocks in flight have to be finished: a worker kills after 30."""


@contextmanager
def cancellable() -> Iterator[None]:
    """Around the work of a flow. In another thread than the main one, or where an event loop listens for signals, as without it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003 - its own signature
    before = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before)
        ours.close()
        theirs.close()
        yield
        return
    terminated = threading.Event()
    listener = threading.Thread(target=_listen, args=(theirs, terminated), name="cancelling", daemon=True)
    listener.start()
    try:
        yield
    except KeyboardInterrupt as error:
        if terminated.is_set():
            # The one that Prefect's handler raised was swallowed somewhere; this is its echo from `interrupts.check`.
            raise TerminationSignal(signal.SIGTERM) from error
        raise
    finally:
        signal.set_wakeup_fd(-1)
        ours.close()
        listener.join()
        theirs.close()


def _listen(channel: socket.socket, terminated: threading.Event) -> None:
    while numbers := channel.recv(64):
        if signal.SIGTERM in numbers:
            interrupts.ask(GRACE)
            terminated.set()
