"""Codecs that programs register for classes of their own.

The name of a codec is the name of its format, and is stored with each value; what is
read is decided by it alone. Knows how a codec is called and what may go wrong,
and nothing of what it writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._core.values.classes import name_of, remember_class
from kitaru._core.values.paths import Path, problem, type_name
from kitaru._core.values.text import TAG

if TYPE_CHECKING:
    from kitaru._core.values.reader import Reader
    from kitaru._core.values.writer import Writer

MARK = "codec"
MAX_PREVIEW_CHARACTERS = 200

EXACT: set[type] = {str, int, float, bool, type(None)}
"""Classes whose values are handed on as they are: what is read back would be no different."""


class Registered(NamedTuple):
    """One codec, as it was registered."""

    cls: type
    name: str
    encode: Callable[[Any], bytes] | None
    decode: Callable[[bytes], Any]
    preview: Callable[[Any], str] | None


by_class: dict[type, Registered] = {}
by_name: dict[str, Registered] = {}


def add(codec: Registered, *, exact: bool) -> None:
    """Put a codec into the place of the one of that name."""
    before = by_name.get(codec.name)
    if before is not None and before.encode is not None:
        by_class.pop(before.cls, None)
        EXACT.discard(before.cls)
    by_name[codec.name] = codec
    if codec.encode is not None:
        by_class[codec.cls] = codec
        if exact:
            EXACT.add(codec.cls)


def write_of(cls: type) -> Callable[[Writer, Any, Path, int], Any] | None:
    return _write if cls in by_class else None


def _write(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    codec = by_class[type(value)]
    assert codec.encode is not None
    try:
        data = codec.encode(value)
    except Exception as error:
        raise problem(
            writer.what,
            path,
            f"encode of the codec {codec.name!r} raised {type(error).__name__}: mend the codec, "
            "or the value",
            code="codec-failed",
        ) from error
    if type(data) is not bytes:
        raise problem(
            writer.what,
            path,
            f"encode of the codec {codec.name!r} gave a {type_name(type(data))}: return bytes",
            code="codec-failed",
        )
    writer.enter(1, path, depth)
    tree: dict[str, Any] = {TAG: MARK, "codec": codec.name}
    if writer.drop_defaults:
        # Neither the text of a preview nor the class's name says which value it is.
        tree["v"] = writer.binary(data, path)
        show = getattr(writer.fallback, "show", None)
        if show is not None and codec.preview is not None:
            show(tree, _shown(codec, value))
        return tree
    tree["of"] = name_of(codec.cls)
    remember_class(tree["of"], codec.cls)
    if codec.preview is not None:
        tree["shows"] = writer.tree(_shown(codec, value), path, depth + 1)
    tree["v"] = writer.binary(data, path)
    return tree


def _shown(codec: Registered, value: Any) -> str:
    """What its preview says; a preview that fails is shown as such, and fails nothing."""
    assert codec.preview is not None
    try:
        text = codec.preview(value)
    except Exception as error:
        return f"(no preview: {type(error).__name__})"
    if type(text) is not str:
        return f"(no preview: not a str but a {type(text).__name__})"
    if len(text) <= MAX_PREVIEW_CHARACTERS:
        return text
    return text[: MAX_PREVIEW_CHARACTERS - 1] + "…"


def read(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    name, data = tree["codec"], bytes(reader.binary(tree["v"]))
    if type(name) is not str:
        raise TypeError("a codec whose name is no text")
    codec = by_name.get(name)
    if codec is None:
        module = str(tree.get("of")).partition(":")[0][:80]
        raise problem(
            reader.what,
            path,
            f"it was recorded by the codec {name[:200]!r}, which this program has not registered: "
            f"import what registers it (perhaps {module}) before the value is read. The recorded "
            "value is kept as it is",
            code="codec-not-registered",
        )
    try:
        value = codec.decode(data)
    except Exception as error:
        raise problem(
            reader.what,
            path,
            f"decode of the codec {name!r} raised {type(error).__name__}: mend it. The recorded "
            "value is kept as it is",
            code="codec-failed",
        ) from error
    if type(value) is not codec.cls:
        raise problem(
            reader.what,
            path,
            f"decode of the codec {name!r} gave a {type_name(type(value))}, not a "
            f"{type_name(codec.cls)}: mend it. The recorded value is kept as it is",
            code="codec-failed",
        )
    return value
