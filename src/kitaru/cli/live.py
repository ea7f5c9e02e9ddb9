"""Showing an execution while it runs: redrawn on a terminal, in plain lines everywhere else.

Events are taken in on whichever thread tells them, in microseconds; a thread of its
own looks a few times a second at what they came to. So neither can a slow terminal
slow the flow, nor a quick flow flood the terminal.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from kitaru._engine.events import Event
from kitaru._engine.services import Services
from kitaru.cli.canvas import Line
from kitaru.cli.lines import footer, lines_of, plain, summary
from kitaru.cli.output import Session
from kitaru.cli.progress import Group, Progress
from kitaru.cli.region import Region
from kitaru.cli.style import is_colourful, is_terminal, speaks_unicode
from kitaru.cli.times import lasted

MIN_COLUMNS = 40
"""Narrower terminals get plain lines: nothing would be left of a bar."""

FRAME_SECONDS = 0.08
_FIRST_FRAME_SECONDS = 0.15
_LOOK_SECONDS = 0.25
NEWS_SECONDS = 5.0
_MAX_LAST_LINES = 40
_MAX_FAILURES = 20
"""Failures of calls that get a line of their own, where lines cannot be taken back."""


@contextmanager
def showing(session: Session) -> Iterator[View]:
    """A view for the execution that is run inside; whatever happens, the terminal is left clean."""
    view = choose_view(session)
    view.prepare()
    try:
        yield view
    finally:
        view.close()


def choose_view(session: Session) -> View:
    """The view that was asked for, and that the streams can take."""
    if session.as_json:
        return View()
    if is_colourful(sys.stderr):
        region = Region(sys.stderr)
        if region.size()[0] >= MIN_COLUMNS:
            return LiveView(region, unicode=speaks_unicode(sys.stderr))
    return PlainView(session)


class View:
    """Shows nothing: for programs that read JSON."""

    def prepare(self) -> None:
        """Before the user's module is imported: it may print, and keep the streams it finds."""

    def start(self, services: Services) -> None:
        """Before anything runs."""
        services.asker.enabled = False

    def aside(self) -> AbstractContextManager[None]:
        """For as long as a question stands in the terminal."""
        return nullcontext()

    def follow(self, exec_id: str) -> None:
        """This is the execution to show."""

    @property
    def heard_anything(self) -> bool:
        """Whether the execution is shown, because it runs in this process."""
        return True

    def close(self, word: str | None = None) -> None:
        """Show the last of it; ``word`` says how it ended. A second time does nothing."""


class EventView(View):
    """What both ways of showing have in common: the events, a thread, the end.

    ``_lock`` guards the progress; it is never held while anything is written.
    """

    def __init__(self) -> None:
        self._now: Callable[[], float] = float  # 0.0, until there is a clock
        self._lock = threading.Lock()
        self._progress: dict[str, Progress] = {}
        self._roots: dict[str, str] = {}
        """Execution -> the one at the top of its family, as far as it runs here."""
        self._exec_id: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._end_listening: Callable[[], None] | None = None
        self._is_closed = False
        self._quiet = False
        """Somebody reads from the terminal (a question, a debugger): it is theirs."""

    def start(self, services: Services) -> None:
        self._now = services.env.monotonic
        services.asker.stage = self.aside
        self._end_listening = services.events.listen(self.take)
        self._thread = threading.Thread(target=self._run, name="kitaru-view", daemon=True)
        self._thread.start()

    def follow(self, exec_id: str) -> None:
        with self._lock:
            self._exec_id = exec_id
            # Others that run here are not shown.
            self._progress = {exec_id: self._progress.get(exec_id) or Progress(self._now())}

    def take(self, event: Event) -> None:
        now = self._now()
        with self._lock:
            root = self._root_of(event)
            progress = self._progress.get(root)
            if progress is None:
                if self._exec_id is not None:
                    return
                progress = self._progress[root] = Progress(now)
            self._heard(event, progress.add(event, now, of_child=root != event.exec_id))

    def _root_of(self, event: Event) -> str:
        root = self._roots.get(event.exec_id)
        if root is None:
            root = self._roots.get(event.parent_exec_id or "", event.exec_id)
            self._roots[event.exec_id] = root
        return root

    def _heard(self, event: Event, made: Group | None) -> None:
        """What else is to be remembered of an event. Called with the lock held."""

    def _mine(self) -> Progress | None:
        return None if self._exec_id is None else self._progress.get(self._exec_id)

    @property
    def heard_anything(self) -> bool:
        with self._lock:
            progress = self._mine()
            return progress is not None and progress.heard > 0

    def _run(self) -> None:
        raise NotImplementedError

    def _be_quiet(self) -> None:
        self._quiet = True

    def close(self, word: str | None = None) -> None:
        if self._is_closed:
            return
        self._stop.set()
        if self._end_listening is not None:
            self._end_listening()
        if self._thread is not None:
            # Bounded: a terminal that takes nothing (Ctrl-S) must not keep us.
            self._thread.join(1.0)
        self._close(word)
        # Last: interrupted by Ctrl-C, it is done again on the way out.
        self._is_closed = True

    def _close(self, word: str | None) -> None:
        raise NotImplementedError


class LiveView(EventView):
    """Lines at the bottom of the terminal, drawn again about twelve times a second."""

    def __init__(self, region: Region, *, unicode: bool) -> None:
        super().__init__()
        self._region = region
        self._unicode = unicode

    def prepare(self) -> None:
        self._region.receive()
        self._region.guard_input(self._be_quiet)

    def start(self, services: Services) -> None:
        # Whose outcome is reused stands in the line of the checkpoint.
        services.shown_elsewhere = frozenset({"reuse"})
        super().start(services)

    def _be_quiet(self) -> None:
        super()._be_quiet()
        self._region.stand_back()

    def aside(self) -> AbstractContextManager[None]:
        return self._region.aside()

    def _run(self) -> None:
        pause_seconds = _FIRST_FRAME_SECONDS
        while not self._stop.wait(pause_seconds):
            pause_seconds = FRAME_SECONDS
            if not self._quiet:
                self._draw()

    def _draw(self) -> None:
        columns, rows = self._region.size()
        now = self._now()
        with self._lock:
            progress = self._mine()
            if progress is None:
                return
            progress.mark(now)
            lines = self._lines(progress, columns, rows - 3, now)
            lines.append(footer(progress, now=now, unicode=self._unicode))
        self._region.draw(lines)

    def _lines(self, progress: Progress, columns: int, rows: int, now: float) -> list[Line]:
        return lines_of(
            progress, columns=columns - 1, rows=max(1, rows), now=now, unicode=self._unicode
        )

    def _close(self, word: str | None) -> None:
        lines: list[Line] = []
        if self.heard_anything:
            now = self._now()
            with self._lock:
                progress = self._mine()
                assert progress is not None
                progress.end(word)
                lines = self._lines(progress, self._region.size()[0], _MAX_LAST_LINES, now)
                if word is not None:
                    lines.append(summary(progress, word, now=now, unicode=self._unicode))
        self._region.close(lines)


class PlainView(EventView):
    """A line where a checkpoint is first met, now and then how far it is, failures, the end."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._news: list[str] = []
        self._failures = 0
        self._asks = False
        self._region: Region | None = None

    def prepare(self) -> None:
        if is_terminal(sys.stderr):
            self._region = Region(sys.stderr)
            self._region.guard_input(self._be_quiet)

    @contextmanager
    def aside(self) -> Iterator[None]:
        self._asks = True
        try:
            yield
        finally:
            self._asks = False

    def _heard(self, event: Event, made: Group | None) -> None:
        if made is not None and event.source != "reused":  # a notice says that, with its source
            self._news.append(_first_word(event, made))
        if event.name == "execution.waiting":
            self._news.append(f"it {event.reason}")
        if event.name == "execution.cancelling":
            self._news.append(f"{event.reason}: nothing new starts, what runs may finish")
        if event.name == "call.failed":
            self._failures += 1
            if self._failures <= _MAX_FAILURES:
                self._news.append(f"{event.checkpoint} failed: {event.reason}")
            elif self._failures == _MAX_FAILURES + 1:
                self._news.append("more calls failed; from here on they are only counted")

    def _run(self) -> None:
        due = self._now() + NEWS_SECONDS
        while not self._stop.wait(_LOOK_SECONDS):
            if self._tell_news():
                due = self._now() + NEWS_SECONDS
            elif self._now() >= due:
                self._tell_progress()
                due = self._now() + NEWS_SECONDS

    def _tell_news(self) -> bool:
        with self._lock:
            if self._exec_id is None or self._asks:
                return False
            news, self._news = self._news, []
        for line in news:
            self._say(line)
        return bool(news)

    def _tell_progress(self) -> None:
        now = self._now()
        with self._lock:
            progress = self._mine()
            if progress is None or not progress.heard or self._asks:
                return
            at_work = [_how_far(group) for group in progress.groups() if group.is_active]
            if progress.waits_for is not None and not at_work:
                return  # said when it began; a log that says so for days says nothing
            line = plain(footer(progress, now=now, unicode=False)[2:])
        self._say(line + (f" ({'; '.join(at_work[:3])})" if at_work else ""))

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._session.progress(line)

    def _close(self, word: str | None) -> None:
        if self._region is not None:
            self._region.close()
        self._tell_news()
        if word is not None and self.heard_anything:
            progress = self._mine()
            assert progress is not None
            line = summary(progress, word, now=self._now(), unicode=False)
            self._session.progress(plain(line[2:]))


def _first_word(event: Event, group: Group) -> str:
    indent = "  " * group.depth
    if event.name.startswith("execution."):
        return f"{indent}{group.name}: {event.name.partition('.')[2]}, {event.exec_id}"
    if event.calls is not None:
        what = event.name.partition(".")[2].replace("_", " ")
        return f"{indent}{group.name}: {event.calls:,} {what}"
    if event.source in ("recalled", "carried"):
        return f"{indent}{group.name}: {event.source}, {lasted(event.seconds or 0.0)} saved"
    return f"{indent}{group.name}: {event.name.partition('.')[2]}"


def _how_far(group: Group) -> str:
    return group.name if group.total == 1 else f"{group.name} {group.done:,}/{group.total:,}"
