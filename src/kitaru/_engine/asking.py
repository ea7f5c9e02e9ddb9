"""Asking in the terminal: a person who runs a flow is asked there and then, one question at a time.

A thread of its own asks. It reads the terminal's lines by its descriptor, so that an
answer from elsewhere can withdraw a question that nobody has finished. An answer is
written as anybody's would be; whoever left the question unanswered finds it open.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._core.lifecycle import WaitState
from kitaru._engine import forms, schemas
from kitaru._engine.debugging import prompt_is_open
from kitaru._store.protocol import Answer, Cancel, Refused, WaitRow
from kitaru.notices import notice, one_line

if TYPE_CHECKING:
    from kitaru._store.protocol import RecordedWait, Store
    from kitaru.env import Env

LOOK_SECONDS = 0.25
"""How often the store is asked whether somebody else was first."""

_MAX_SHOWN_LINES = 40
_MAX_LINE_BYTES = 1024 * 1024


def who() -> str:
    """Who answers, if nobody says: ``user@host``."""
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = str(os.getuid())  # a container without a line for this user
    return f"{user}@{os.uname().nodename}"


def is_somebody_there() -> bool:
    """Whether a person sits at this process's terminal and can be asked.

    Not in a notebook, at Python's own prompt, in a debugger, in the background of a shell, or
    in a test, which must not hang because somebody watches it.
    """
    if "ipykernel" in sys.modules or hasattr(sys, "ps1") or sys.flags.interactive:
        return False
    if "PYTEST_CURRENT_TEST" in os.environ:
        return False
    try:
        if not (os.isatty(0) and os.isatty(2)):
            return False
        in_front = os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
    return in_front and not prompt_is_open()


class Question(NamedTuple):
    """An open wait, and what the process that asks knows of it."""

    execution: int
    exec_id: str
    flow_name: str
    row: WaitRow
    asked: Any = None
    """The type itself, where it is known; it has the last word."""

    @property
    def key(self) -> tuple[int, bytes]:
        return self.execution, self.row.identity

    @property
    def schema(self) -> Mapping[str, Any] | None:
        found = None if self.row.schema is None else json.loads(self.row.schema)
        return found if found is None or isinstance(found, dict) else {}

    def check(self, data: Any) -> list[Any]:
        return schemas.find_misfits(data, self.row.schema, self.asked)


class Withdrawn(Exception):
    """The question is over while it is asked; the text says why, if that is of interest."""


class LeftOpen(Exception):
    """The person left it unanswered: the end of the input."""


class Terminal:
    """This process's terminal, read line by line by its descriptor."""

    def __init__(self) -> None:
        self._read = b""

    def say(self, text: str) -> None:
        """Write lines; what a terminal would obey is made visible."""
        self._write("".join(f"{one_line(line)}\n" for line in text.split("\n")))

    def read(self, prompt: str, look: Callable[[], None]) -> str:
        """The next line. ``look`` is called now and then, and may raise to end it."""
        self._write(one_line(prompt))
        while b"\n" not in self._read:
            look()
            if not select.select([0], [], [], LOOK_SECONDS)[0]:
                continue
            data = os.read(0, 65_536)
            if not data:
                self._read = b""
                self._write("\n")
                raise LeftOpen
            self._read += data
            if len(self._read) > _MAX_LINE_BYTES:
                self._read = b"\n"
        line, _, self._read = self._read.partition(b"\n")
        return line.decode("utf-8", "surrogateescape")

    def forget(self) -> None:
        """Take no key that was pressed before the question for its answer."""
        import termios

        self._read = b""
        with contextlib.suppress(OSError, termios.error):
            termios.tcflush(0, termios.TCIFLUSH)

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(2, data) :]


def put(question: Question, terminal: Terminal, look: Callable[[], None]) -> Any:
    """Ask a question until there is an answer that fits -> the answer, as JSON data.

    Raises :class:`LeftOpen`, ``forms.Declined``, or whatever ``look`` raises.
    """
    form = forms.fill(question.schema, question.check)
    try:
        what = next(form)
        while True:
            if isinstance(what, forms.Say):
                terminal.say(f"! {what.text}" if what.is_problem else what.text)
                what = next(form)
            else:
                what = form.send(terminal.read(what.prompt, look))
    except StopIteration as end:
        return end.value


def introduction(question: Question, *, instant: str | None = None) -> str:
    """What stands above the first prompt: who asks what, and what it is about."""
    row = question.row
    lines = [f"? {row.label}, asked by {question.flow_name} {question.exec_id}"]
    if row.question and row.question != row.label:
        lines += [f"  {line}" for line in row.question.split("\n")]
    lines += [f"  {line}" for line in _about(row.metadata)]
    lines.append(f"  wanted: {forms.described(question.schema)}")
    if instant is not None:
        lines.append(f"  until {instant}")
    if len(lines) > _MAX_SHOWN_LINES:
        lines[_MAX_SHOWN_LINES:] = ["  and more: see kitaru executions get"]
    return "\n".join(lines)


def _about(metadata: str | None) -> list[str]:
    """The wait's metadata, a line each; a text of several lines stands as it is."""
    try:
        found = json.loads(metadata or "{}")
    except (ValueError, RecursionError):
        return []
    lines: list[str] = []
    for name, value in found.items() if isinstance(found, dict) else ():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        first, *rest = text.split("\n")
        if rest:
            lines += [f"{name}:", *(f"  {line}" for line in (first, *rest))]
        else:
            lines.append(f"{name}: {first}")
    return lines


class Asker:
    """The questions of this process's executions, asked one after another."""

    def __init__(self, store: Store, env: Env) -> None:
        self.enabled = True
        """False: a surface or a test wants no questions in this process."""
        self.stage: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
        """What makes room in the terminal for as long as a question stands there."""
        self.is_over: Callable[[], bool] = lambda: False
        """Whether this process is about to end: nobody is asked any more."""
        self.left_open: Callable[[Question], None] = lambda question: None
        """Told when the person left a question unanswered: the execution may park."""
        self.answered: Callable[[Question], None] = lambda question: None
        """Told when an answer is recorded: its execution is in this process."""
        self._store = store
        self._env = env
        self._lock = threading.Lock()
        self._open: dict[tuple[int, bytes], Question] = {}
        self._queue: deque[Question] = deque()
        self._asking: Question | None = None
        """What stands in the terminal, unanswered."""
        self._thread: threading.Thread | None = None
        self.terminal = Terminal()

    def offer(self, question: Question) -> bool:
        """Ask it, if somebody is there to be asked -> whether it is being asked."""
        if not self.can_ask():
            return False
        with self._lock:
            if question.key not in self._open:
                self._open[question.key] = question
                self._queue.append(question)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kitaru-asks", daemon=True)
                self._thread.start()
        return True

    def can_ask(self) -> bool:
        """Whether a person can be asked here and now."""
        return self.enabled and is_somebody_there()

    def withdraw(self, execution: int, identity: bytes) -> None:
        """Nobody needs the answer any more: said at once where the question stands.

        Whoever withdraws it goes on, and the program may be at its end before our thread looks.
        """
        with self._lock:
            self._open.pop((execution, identity), None)
            asking, stands = self._asking, False
            if asking is not None and asking.key == (execution, identity):
                self._asking, stands = None, True
        if stands:
            found = self._store.find_wait(execution, identity)
            if found is not None and found.state is not WaitState.OPEN:
                self.terminal.say(f"\n{_closed(found)}")

    def holds(self, execution: int, identity: bytes) -> bool:
        """Whether it is asked, or is about to be: worth staying for."""
        return (execution, identity) in self._open

    def _next(self) -> Question | None:
        with self._lock:
            while self._queue:
                question = self._queue.popleft()
                if question.key in self._open:
                    return question
            self._thread = None
            return None

    def _run(self) -> None:
        while (question := self._next()) is not None:
            try:
                with self.stage():
                    self._ask(question)
            except Exception as error:
                notice(f"cannot ask here ({type(error).__name__}: {error}): {_elsewhere(question)}")
            finally:
                self.withdraw(*question.key)
                self.left_open(question)

    def _ask(self, question: Question) -> None:
        self._look(question, told=False)
        self.terminal.forget()
        expires_at = question.row.expires_at
        until = None if expires_at is None else _shown(expires_at)
        self.terminal.say(introduction(question, instant=until))
        self._asking = question
        try:
            data = put(question, self.terminal, lambda: self._look(question))
            self._asking = None
            self._answer(question, data)
        except Withdrawn as why:
            if str(why):
                self.terminal.say(f"\n{why}")
        except LeftOpen:
            self.terminal.say(f"left open. {_elsewhere(question)}")
        except forms.Declined:
            self._decline(question)
        finally:
            self._asking = None

    def _look(self, question: Question, *, told: bool = True) -> None:
        """Raise :class:`Withdrawn` if nobody needs the answer any more."""
        if self.is_over() or question.key not in self._open:
            raise Withdrawn
        found = self._store.find_wait(*question.key)
        if found is not None and found.state is not WaitState.OPEN:
            with self._lock:
                told = told and self._asking is question
                self._asking = None
            raise Withdrawn(_closed(found) if told else "")

    def _answer(self, question: Question, data: Any) -> None:
        payload = schemas.sealed_answer(data, schema=question.row.schema, wait=question.row.label)
        write = Answer(*question.key, payload, who(), self._env.now())
        try:
            self._store.apply(write)
        except Refused:
            found = self._store.find_wait(*question.key)
            is_over = found is not None and found.state is not WaitState.OPEN
            said = _closed(found) if found and is_over else f"{question.row.label} has expired"
            raise Withdrawn(said) from None
        self.answered(question)

    def _decline(self, question: Question) -> None:
        """A gate was answered with no: cancel it all, if that is what was meant."""
        asked = question._replace(row=question.row._replace(schema=_ABORT), asked=bool)
        self.terminal.say("not going on: shall the execution be cancelled? (n leaves it open)")
        try:
            if put(asked, self.terminal, lambda: self._look(question)):
                self._abort(question)
                return
        except (LeftOpen, Withdrawn):
            pass
        self.terminal.say(f"left open. {_elsewhere(question)}")

    def _abort(self, question: Question) -> None:
        reason = f"wait {question.row.label!r} was aborted by {who()}"
        for _ in range(_MAX_TRIES):
            _, epoch, _ = self._store.get_status(question.execution)
            identity = question.row.identity
            write = Cancel(question.execution, epoch, who(), reason, self._env.now(), wait=identity)
            try:
                self._store.apply(write)
            except Refused:
                self._look(question)
                continue
            self.answered(question)
            return


_MAX_TRIES = 10
_ABORT = '{"type":"boolean","title":"cancel"}'


def _elsewhere(question: Question) -> str:
    return (
        f"Answer it: kitaru executions input {question.exec_id} --wait {question.row.label} "
        "--interactive"
    )


def _closed(found: RecordedWait) -> str:
    by = f" by {found.closed_by}" if found.closed_by else ""
    return f"{found.row.label}: {found.state}{by} meanwhile"


def _shown(at: int) -> str:
    from datetime import UTC, datetime

    try:
        return f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%d %H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return "a far day"
