"""``kitaru.Secret``: where a secret is found, never the secret itself.

A reference may be a flow's input, an argument or part of a result: it is recorded
and counts by its name. Its value is read where it is needed, each time anew, and
is masked from then on in all that this process says and records.
"""

from __future__ import annotations

import os
import re
from typing import Any, Never, NoReturn, final

from kitaru.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.masking import MIN_CHARACTERS, remember
from kitaru.notices import notice_once

MAX_SECRET_BYTES = 64 * 1024
MAX_REFERENCE_CHARACTERS = 4096

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.A)
_HOW = 'kitaru.Secret(env="NAME") or kitaru.Secret(file="/path")'


@final
class Secret:
    """Refer to a secret by the environment variable or the file that holds it.

    Only the reference is ever recorded, compared and shown. :meth:`get` reads
    the value in the process that needs it.

    >>> import os, kitaru
    >>> os.environ["SHOP_API_KEY"] = "correct horse battery"
    >>> key = kitaru.Secret(env="SHOP_API_KEY")
    >>> key
    kitaru.Secret(env='SHOP_API_KEY')
    >>> len(key.get())
    21
    """

    __slots__ = ("_kind", "_where")
    _kind: str
    _where: str

    def __init__(
        self, *value: Never, env: str | None = None, file: str | os.PathLike[str] | None = None
    ) -> None:
        # What is refused here may be the secret itself: it is never shown.
        if value or (env is None) == (file is None):
            raise KitaruUsageError(
                f"a Secret is a reference and never holds the value: pass {_HOW}, one of the two",
                code="secret-invalid",
            )
        if env is not None:
            if type(env) is not str or not _NAME.fullmatch(env) or len(env) > 200:
                raise KitaruUsageError(
                    "kitaru.Secret(env=...) is not the name of an environment variable (letters, "
                    "digits and _, at most 200 of them): pass the name, not the value",
                    code="secret-invalid",
                )
            self._set("env", env)
        else:
            path = os.fspath(file) if isinstance(file, os.PathLike) else file
            if type(path) is not str or not path.strip() or not path.isprintable():
                raise KitaruUsageError(
                    "kitaru.Secret(file=...) is not the path of a file: pass the path, not what "
                    "stands in it",
                    code="secret-invalid",
                )
            if len(path) > MAX_REFERENCE_CHARACTERS:
                raise KitaruUsageError(
                    "kitaru.Secret(file=...) is longer than a path can be: pass the path of a file",
                    code="secret-invalid",
                )
            self._set("file", path)

    def _set(self, kind: str, where: str) -> None:
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_where", where)

    def get(self) -> str:
        """Read the value, now and here.

        Of a file the text without one newline at its end, at most 64 KiB of UTF-8.
        Raises ``KitaruNotFoundError`` if the variable or the file is missing or
        empty. A value of fewer than 8 characters cannot be masked.
        """
        value = self._from_environment() if self._kind == "env" else self._from_file()
        if not value:
            raise KitaruNotFoundError(
                f"{self!r} is empty: {self._remedy()}", code="secret-not-found"
            )
        if len(value) < MIN_CHARACTERS:
            notice_once(
                f"{self!r} has fewer than {MIN_CHARACTERS} characters: it is not masked in what "
                "Kitaru records and shows, because it would stand in too many texts by chance"
            )
        remember(value, self._where)
        return value

    def _from_environment(self) -> str:
        value = os.environ.get(self._where)
        if value is None:
            raise KitaruNotFoundError(
                f"{self!r} is not set in this process: {self._remedy()}", code="secret-not-found"
            )
        return value

    def _from_file(self) -> str:
        try:
            with open(os.path.expanduser(self._where), "rb") as file:
                data = file.read(MAX_SECRET_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise KitaruNotFoundError(
                f"{self!r} cannot be read here ({reason}): {self._remedy()}",
                code="secret-not-found",
            ) from None
        if len(data) > MAX_SECRET_BYTES:
            raise KitaruUsageError(
                f"{self!r} is larger than {MAX_SECRET_BYTES:,} bytes: name a file "
                "that holds nothing but the secret",
                code="secret-invalid",
            )
        try:
            text = data.decode()
        except UnicodeDecodeError:
            # Not from it: that exception carries the bytes.
            raise KitaruUsageError(
                f"{self!r} is not a text in UTF-8: store it as one", code="secret-invalid"
            ) from None
        return text.removesuffix("\n").removesuffix("\r")

    def _remedy(self) -> str:
        if self._kind == "env":
            return f"export {self._where}=… where the flow runs, workers included"
        return "put the file there on each machine that runs the flow, readable by its user"

    def __repr__(self) -> str:
        return f"kitaru.Secret({self._kind}={self._where!r})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not Secret:
            return NotImplemented
        return (self._kind, self._where) == (other._kind, other._where)

    def __hash__(self) -> int:
        return hash((self._kind, self._where))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError("a kitaru.Secret does not change: make another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a kitaru.Secret does not change: make another one")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let a model have a Secret for a field: the reference itself, and nothing else."""
        from pydantic_core import core_schema  # loaded already: it is pydantic that asks

        return core_schema.is_instance_schema(cls)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, self.reference()

    def reference(self) -> tuple[str, str]:
        """``("env" | "file", where)``: all that is ever recorded of it.

        >>> Secret(env="KEY").reference()
        ('env', 'KEY')
        """
        return self._kind, self._where


def _made(kind: str, where: str) -> Secret:
    return Secret(env=where) if kind == "env" else Secret(file=where)


def from_reference(reference: Any) -> Secret:
    """The Secret of a recorded reference; ``ValueError`` or ``TypeError`` for anything else."""
    kind, where = reference
    if kind not in ("env", "file"):
        raise ValueError("neither env nor file")
    return _made(kind, where)
