"""What a command prints, and where: results on stdout, progress and errors on stderr.

Text for people, or one line of JSON in an envelope that names the command.
Text from elsewhere (messages, tracebacks, names) never reaches a terminal with
its control characters.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

import click

from kitaru.cli.style import (
    DIM,
    KINDS,
    is_colourful,
    is_terminal,
    paint,
)
from kitaru.codes import CODE_OF_ORIGIN, CODES, Kind, kind_of

_HINT = "kitaru: "


def wants_json(words: Sequence[str]) -> bool:
    """Whether JSON was asked for, told from the bare words: parse errors need it too.

    >>> wants_json(["executions", "list", "-o", "json"]), wants_json(["run", "--", "-ojson"])
    (True, False)
    """
    before = ""
    for word in words:
        if word == "--":
            return False
        if word in ("-ojson", "--output=json"):
            return True
        if before in ("-o", "--output") and word == "json":
            return True
        before = word
    return False


class Session:
    """One command on its way: how it prints and which store was named."""

    def __init__(self, *, as_json: bool = False, command: str = "kitaru") -> None:
        self.as_json = as_json
        self.command = command
        self._store: str | None = None
        self._stdout: TextIO | None = None

    # --- the store that --store names ------------------------------------------------------

    def choose_store(self, folder: str) -> None:
        self._store = folder
        self.insist_on_store()

    def insist_on_store(self) -> None:
        """Said again after a module was imported that may have said otherwise: we win."""
        if self._store is not None:
            from kitaru import settings

            settings.say("--store", {"store": self._store})

    # --- results, on stdout -----------------------------------------------------------------

    def keep_stdout_for_result(self) -> None:
        """With JSON, what user code prints from here on goes to stderr, to its very descriptor."""
        if not self.as_json or self._stdout is not None:
            return
        try:
            descriptor = sys.stdout.fileno()
            sys.stdout.flush()
            kept = os.dup(descriptor)
            os.dup2(sys.stderr.fileno(), descriptor)
        except (OSError, ValueError, AttributeError):
            # No real files (a test, an embedding): then the stream object itself.
            self._stdout, sys.stdout = sys.stdout, sys.stderr
        else:
            self._stdout = os.fdopen(kept, "w", encoding="utf-8")
            if isinstance(sys.stdout, io.TextIOWrapper):
                # As stderr is: what user code says stands before what we say of it.
                sys.stdout.reconfigure(line_buffering=True)

    def item(self, record: Mapping[str, Any], **more: Any) -> None:
        self._envelope({"command": self.command, "item": record, **more})

    def items(self, records: Sequence[Mapping[str, Any]], **more: Any) -> None:
        count = len(records)
        self._envelope({"command": self.command, "items": records, "count": count, **more})

    def event(self, event: str, record: Mapping[str, Any]) -> None:
        """One of many lines, each written at once: JSON Lines, for whoever follows."""
        self._envelope({"command": self.command, "event": event, "item": record})

    def _envelope(self, envelope: Mapping[str, Any]) -> None:
        stream = self._stdout or sys.stdout
        stream.write(json_line(envelope) + "\n")
        stream.flush()

    # --- progress and errors, on stderr ---------------------------------------------------------

    def progress(self, text: str) -> None:
        """What is going on, for people; a program that reads JSON is not told."""
        if not self.as_json:
            self.say(text)

    def say(self, text: str) -> None:
        _to_stderr(f"{_HINT}{cleaned(text)}")

    def fail(
        self,
        error: BaseException,
        *,
        type_name: str | None = None,
        message: str | None = None,
        code: str | None = None,
    ) -> None:
        """Report an error: what it says, and of user code its traceback too."""
        type_name = type_name or _public_type(error)
        message = message or str(error)
        code = code or code_of(error)
        if self.as_json:
            self._fail_json(message, type_name, code)
            return
        traceback = user_traceback(error)
        if traceback:
            _to_stderr(cleaned(traceback.rstrip()))
        _to_stderr(_in_words(message, code))

    def fail_usage(self, error: click.UsageError) -> None:
        message = _clipped(error.format_message())
        no_words = isinstance(error, click.exceptions.NoArgsIsHelpError)
        if self.as_json:
            message = f"{self.command}: no command was given" if no_words else message
            self._fail_json(message, "KitaruUsageError", _WRONG_WORDS)
            return
        if no_words:
            _to_stderr(message)
            return
        if error.ctx is not None:
            _to_stderr(error.ctx.get_usage())
        _to_stderr(_in_words(message, None, kind=kind_of(_WRONG_WORDS)))
        if error.ctx is not None:
            _to_stderr(f"See: {error.ctx.command_path} --help")

    def fail_inside(self, error: Exception) -> None:
        """A mistake of ours: all that helps to mend it, and what to do with it."""
        import traceback

        message = (
            f"Kitaru itself failed ({type(error).__name__}: {error}): what is recorded is kept; "
            "please report this with the traceback"
        )
        if self.as_json:
            self._fail_json(message, type(error).__name__, _OURS)
            return
        _to_stderr(cleaned("".join(traceback.format_exception(error)).rstrip()))
        _to_stderr(_in_words(message, _OURS))

    def error_line(self, error: BaseException) -> str:
        """What ``fail`` would write of an error of ours, ready to be written without us."""
        if self.as_json:
            return self._error_envelope(str(error), _public_type(error), code_of(error)) + "\n"
        return f"{_HINT}{cleaned(str(error))}\n"

    def _fail_json(self, message: str, type_name: str, code: str) -> None:
        if self._stdout is not None:
            sys.stdout.flush()
        _to_stderr(self._error_envelope(message, type_name, code))

    def _error_envelope(self, message: str, type_name: str, code: str) -> str:
        error = {"message": message, "type": type_name, "code": code, "kind": kind_of(code)}
        return json_line({"command": self.command, "error": error})


def _public_type(error: BaseException) -> str:
    """The nearest class that has a public name."""
    for cls in type(error).__mro__:
        if cls.__module__ in ("kitaru.errors", "builtins"):
            return cls.__name__
    return type(error).__name__


def _to_stderr(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return  # closed: nobody listens


def code_of(error: BaseException) -> str:
    """The code of an error that reached the command line; of one without, what its type tells."""
    from kitaru.errors import KitaruError, KitaruExecutionError

    # A stand-in for an exception of the user's may have a `code` that is none of ours.
    if isinstance(error, KitaruError) and type(error.code) is str and error.code in CODES:
        return error.code
    if isinstance(error, KitaruExecutionError):
        return CODE_OF_ORIGIN[error.failure_origin]
    return "disk-failed" if isinstance(error, OSError) else _OURS


_WRONG_WORDS = "command-line-invalid"
_OURS = "kitaru-failed"


def _in_words(message: str, code: str | None, *, kind: Kind | None = None) -> str:
    """The message behind the word of its kind, and below it where more can be read."""
    colourful = is_colourful(sys.stderr)
    where, style = KINDS[kind or kind_of(code)]
    word = "error in Kitaru:" if code == _OURS else f"error {where}:"
    lines = [f"{paint(word, style) if colourful else word} {cleaned(message)}"]
    if code is not None:
        more = f"kitaru explain {code}"
        lines.append(paint(more, DIM) if colourful else more)
    return "\n".join(lines)


def cleaned(text: str) -> str:
    """The text with everything that a terminal would obey made visible.

    >>> cleaned("a\\x1b[31mred\\n")
    'a\\\\x1b[31mred\\n'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def user_traceback(error: BaseException) -> str:
    """The traceback of user code behind an error, without frames of ours; empty if none."""
    from kitaru.errors import KitaruExecutionError

    if isinstance(error, KitaruExecutionError):
        return without_our_frames(error.failure.traceback) if error.failure is not None else ""
    # Not imported for this: it brings the engine along, and an error is to be there at once.
    importing = sys.modules.get("kitaru.importing")
    if importing and isinstance(error, importing.ModuleFailed) and error.__cause__ is not None:
        import traceback

        return without_our_frames("".join(traceback.format_exception(error.__cause__)))
    return _frames_of_a_module(error) if importing else ""


def _frames_of_a_module(error: BaseException) -> str:
    """Where in the user's module an error of ours was raised while it was imported, if it was."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    names = [frame.filename for frame in frames]
    begun = next((n for n, name in enumerate(names) if name.startswith("<frozen importlib")), None)
    if begun is None:
        return ""
    lines = "".join(traceback.format_list(frames[begun:]))
    text = without_our_frames(lines)
    return f"Traceback (most recent call last):\n{text}" if text else ""


def without_our_frames(text: str) -> str:
    """A traceback's text without the frames of files of this package and of the import system."""
    ours = (
        f'  File "{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}{os.sep}',
        '  File "<frozen importlib',
        f'  File "{os.path.join(os.path.dirname(os.__file__), "importlib", "")}',
    )
    kept: list[str] = []
    dropping = False
    for line in text.splitlines():
        if line.startswith('  File "'):
            dropping = line.startswith(ours)
        elif not line.startswith("    "):
            dropping = False
        if not dropping:
            kept.append(line)
    return "\n".join(kept) + "\n" if kept else ""


# --- JSON ------------------------------------------------------------------------------------


def json_line(value: Any) -> str:
    """One line of JSON, ASCII only, whatever the value holds."""
    return json.dumps(_plain(value), separators=(", ", ": "), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return str(value)  # NaN and infinities are not JSON
    return value


# --- text ------------------------------------------------------------------------------------


def print_text(text: str) -> None:
    """A result: as it is for programs, cleaned for terminals."""
    click.echo(cleaned(text) if is_terminal(sys.stdout) else _encodable(text))


def _encodable(text: str) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line; what is None is left out."""
    for name, value in fields:
        if value is not None:
            lines = str(value).splitlines() or [""]
            print_text(f"{name:<12}{lines[0]}")
            for line in lines[1:]:
                print_text(f"{'':<12}{line}")


def _clipped(message: str) -> str:
    """A message that repeats what was typed, which may have been a megabyte."""
    return message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}…"


_MAX_MESSAGE = 2000
