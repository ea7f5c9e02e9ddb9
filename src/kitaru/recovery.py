"""``kitaru.recover()``: this process adopts what others left behind."""

from __future__ import annotations

from kitaru import app as _app


def recover() -> None:
    """Adopt, until this process exits, abandoned executions of the flows it knows.

    Abandoned are those that are interrupted (their owner died), and those that are
    pending, due or answered without a live process that serves them. Each is owned
    again within 2 s of its owner's death on one host, and on PostgreSQL within the lease,
    a poll and a second. Returns at once; import the modules of the flows first, those
    defined later are served from then on.

    >>> import kitaru
    >>> kitaru.recover()
    """
    app = _app.current()
    app.runner.adopting = _app.known_flows
    app.host.keep_ticking()
