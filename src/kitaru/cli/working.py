"""``kitaru worker`` at work: imports the flows, serves them, says what happens, and leaves."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from kitaru import app as _app
from kitaru import settings, working
from kitaru._core.names import check_name
from kitaru._engine.events import Event
from kitaru._engine.execution import FlowSpec
from kitaru._engine.serving import Serving
from kitaru.cli import style
from kitaru.cli.output import Session
from kitaru.cli.stops import Stops
from kitaru.importing import import_named
from kitaru.target import is_file, stand_for_script


class Asked(NamedTuple):
    """What was said on the command line."""

    modules: tuple[str, ...]
    flows: tuple[str, ...]
    concurrency: int | None
    queues: tuple[str, ...]
    name: str | None
    drain_seconds: float
    port: int | None
    host: str


def work(session: Session, asked: Asked) -> int:
    """Serve until a signal says stop; ends the process itself, so that nothing is waited for."""
    stops = Stops(_hint("ended at once: what ran here is taken over by the other workers\n"))
    name = check_name("worker", asked.name or f"{socket.gethostname()}-{os.getpid()}")
    queues = tuple(check_name("queue", queue) for queue in asked.queues)
    session.keep_stdout_for_result()
    flows = working.choose_flows(asked.flows, _imported(session, asked.modules))
    concurrency = _concurrency(asked.concurrency)
    app = _app.current()
    app.services.asker.enabled = False  # a worker asks nobody: answers come from elsewhere
    diary = Diary(session)
    app.services.events.listen(diary.heard)

    def ready(serving: Serving) -> None:
        diary.serving = serving
        place = str(app.store.info()["location"])
        diary.began(serving, flows.values(), place, _health(serving, asked))

    working.begin(flows, name=name, queues=queues, concurrency=concurrency, ready=ready)
    stops.wait()
    working.stop_claiming()
    diary.draining(stops, app.runner.busy, asked.drain_seconds)
    left = working.leave(asked.drain_seconds)
    diary.ended(left)
    _exit(0)


def _health(serving: Serving, asked: Asked) -> str | None:
    """Where it answers, if it was told to."""
    if asked.port is None:
        return None
    from kitaru.cli.health import Health

    port = Health(serving, host=asked.host, port=asked.port).port
    host = f"[{asked.host}]" if ":" in asked.host else asked.host
    return f"http://{host}:{port}"


def _imported(session: Session, modules: Iterable[str]) -> dict[str, FlowSpec]:
    cwd = settings.current_folder()
    for number, where in enumerate(modules):
        if is_file(where) and not number:
            stand_for_script(where, cwd=cwd)
        import_named(where, cwd=cwd)
    session.insist_on_store()
    return _app.known_flows()


def _concurrency(asked: int | None) -> int:
    """As said; and as many threads for flows, but no fewer than usual for their bodies."""
    usual = settings.resolve().max_concurrency
    if asked is not None and asked > usual:
        settings.say("--concurrency", {"max_concurrency": asked})
    return asked or usual


def _exit(status: int) -> NoReturn:
    """Go without waiting for anything that still runs: it is fenced."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)


def _hint(text: str) -> str:
    return f"{style.start_of_line()}kitaru: {text}"


# --- what it says ------------------------------------------------------------------------

_WORDS = {
    "execution.started": ("running", "started"),
    "execution.claimed": ("running", "taken"),
    "execution.taken_over": ("interrupted", "taken over"),
    "execution.waiting": ("waiting", "waits"),
    "execution.retrying": ("retrying", "tried again"),
    "execution.handed_back": ("stopped", "handed back"),
    "execution.lost": ("interrupted", "lost"),
    "execution.cancelling": ("cancelling", "told to stop"),
    "execution.cancelled": ("cancelled", "cancelled"),
    "execution.completed": ("completed", "completed"),
    "execution.failed": ("failed", "failed"),
}
"""Event -> how it looks, and the word for it."""

_WORD_COLUMNS = max(len(word) for _, word in _WORDS.values())


class Diary:
    """One line for each execution that begins or ends here: on stderr, or JSON Lines on stdout."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.serving: Serving | None = None
        self._colour = style.is_colourful(sys.stderr)
        self._unicode = style.speaks_unicode(sys.stderr)

    def began(
        self, serving: Serving, flows: Iterable[FlowSpec], store: str, health: str | None
    ) -> None:
        wanted = serving.wanted
        names = sorted({spec.name for spec in flows})
        if self._session.as_json:
            item = {
                "name": wanted.name,
                "pid": os.getpid(),
                "flows": names,
                "queues": list(wanted.queues),
                "concurrency": wanted.concurrency,
                "store": store,
                "health": health,
            }
            self._session.event("serving", item)
            return
        queues = f"queues {', '.join(wanted.queues)}" if wanted.queues else "all queues"
        head = self._painted(f"worker {wanted.name}", style.HEADING)
        self._say(f"{head} serves {', '.join(names)}")
        self._say(
            self._painted(
                f"{wanted.concurrency} at once, {queues}, store {store}; Ctrl-C or SIGTERM drains",
                style.DIM,
            )
        )
        if health is not None:
            self._say(self._painted(f"health and metrics: {health}/metrics", style.DIM))

    def heard(self, event: Event) -> None:
        if event.name not in _WORDS:
            return
        if self.serving is not None:
            self.serving.tally.events[event.name] += 1
        if self._session.as_json:
            said = {key: value for key, value in event._asdict().items() if value is not None}
            self._session.event(said.pop("name"), said)
            return
        look, word = _WORDS[event.name]
        mark = style.symbol_of(look, unicode=self._unicode)
        shown = self._painted(f"{mark} {word:<{_WORD_COLUMNS}}", style.look_of(look).style)
        reason = f"  {event.reason}" if event.reason else ""
        self._say(f"{shown}  {event.exec_id}  {event.flow}{reason}")

    def draining(self, stops: Stops, busy: int, seconds: float) -> None:
        signal_name = stops.first.name if stops.first is not None else "a signal"
        if self._session.as_json:
            item = {"signal": signal_name, "running": busy, "drain_seconds": seconds}
            self._session.event("draining", item)
            return
        within = f"bodies get {seconds:g} s to finish and record" if busy else "nothing runs here"
        self._say(f"{signal_name}: nothing new starts; {within} (again: ends at once)")

    def ended(self, left: working.Left) -> None:
        if self._session.as_json:
            item = {
                "handed_back": list(left.handed_back),
                "unfinished_bodies": left.unfinished_bodies,
            }
            self._session.event("ended", item)
            return
        if not left.handed_back:
            self._say("ended: nothing was left running")
            return
        ids = ", ".join(left.handed_back[:_MAX_NAMED])
        more = len(left.handed_back) - _MAX_NAMED
        self._say(
            f"ended: handed back {len(left.handed_back)} execution(s): {ids}"
            + (f" and {more} more" if more > 0 else "")
        )
        if left.unfinished_bodies:
            self._say(
                f"{left.unfinished_bodies} of them had a body that did not finish in time: it "
                "runs again where it goes on (more time: --drain-seconds)"
            )

    def _painted(self, text: str, look: str) -> str:
        return style.paint(text, look) if self._colour else text

    def _say(self, text: str) -> None:
        try:
            sys.stderr.write(_hint(f"{text}\n") if not self._colour else f"kitaru: {text}\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            return  # closed: nobody listens


_MAX_NAMED = 10
