"""Pillow: images that are in memory, as their mode, size, pixels, palette and ``info``.

Pixels are stored as they are, without a format that would change them. What an
image knows beside these (EXIF that was edited) is refused rather than lost. Pillow
is never imported here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kitaru._core.values.paths import Path
from kitaru._core.values.text import TAG

if TYPE_CHECKING:
    from kitaru._core.values.codecs import Read, Write
    from kitaru._core.values.reader import Reader
    from kitaru._core.values.writer import Writer

IMAGE = "PIL.Image"

_PIXEL_BYTES = {
    **dict.fromkeys(("L", "P"), 1),
    **dict.fromkeys(("LA", "PA", "La", "I;16", "I;16L", "I;16B", "I;16N"), 2),
    **dict.fromkeys(("RGB", "YCbCr", "LAB", "HSV"), 3),
    **dict.fromkeys(("RGBA", "RGBX", "RGBa", "CMYK", "I", "F"), 4),
}
"""Mode -> bytes of a pixel; in mode "1" a pixel is a bit, and each row begins a byte."""

_NATIVE = ("I", "F", "I;16N")
"""Modes whose pixels are numbers in the byte order of the machine."""


def pillow() -> Any:
    return sys.modules["PIL.Image"]


def write_of(cls: type) -> Write | None:
    loaded = sys.modules.get("PIL.Image")
    return _write if loaded is not None and loaded.__dict__.get("Image") is cls else None


def _size_bytes(mode: str, width: int, height: int) -> int:
    if mode == "1":
        return (width + 7) // 8 * height
    return _PIXEL_BYTES[mode] * width * height


def _write(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    mode = value.mode
    if mode != "1" and mode not in _PIXEL_BYTES:
        return writer.refuse(value, path, f"its mode {mode!r} has no encoding: use .convert()")
    if _has_own_exif(value):
        return writer.refuse(
            value,
            path,
            "the EXIF data that was set on it would be lost: put it into the image's info, "
            '`image.info["exif"] = image.getexif().tobytes()`, and take `image.copy()`',
        )
    writer.enter(1, path, depth)
    tree: dict[str, Any] = {TAG: IMAGE, "mode": mode, "size": list(value.size)}
    if mode in _NATIVE and sys.byteorder != "little":
        tree["order"] = sys.byteorder
    if value.palette is not None:
        kind = "RGBA" if "A" in value.palette.mode else "RGB"
        tree["palette"] = [kind, bytes(value.getpalette(kind)).hex()]
    if value.info:
        tree["info"] = writer.tree(dict(value.info), (path, "info"), depth + 1)
    tree["v"] = writer.binary(value.tobytes(), path)
    return tree


def _has_own_exif(value: Any) -> bool:
    """Whether EXIF was set on the image, beyond what its ``info`` says."""
    exif = getattr(value, "_exif", None)
    if not exif:
        return False
    said = pillow().Exif()
    said.load(value.info.get("exif", b""))
    nested = getattr(exif, "_ifds", {})
    return dict(exif) != dict(said) or any(said.get_ifd(tag) != nested[tag] for tag in nested)


def _read(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    mode = tree["mode"]
    width, height = tree["size"]
    if type(width) is not int or type(height) is not int or width < 0 or height < 0:
        raise ValueError("not a size")
    if mode in _NATIVE and tree.get("order", "little") != sys.byteorder:
        raise ValueError("the byte order of another machine")
    data = reader.binary(tree["v"])
    # Before anything is allocated: a record must not claim what it does not hold.
    if _size_bytes(mode, width, height) != len(data):
        raise ValueError("another size than its pixels")
    if width and height:
        image = pillow().frombytes(mode, (width, height), bytes(data))
    else:
        image = pillow().new(mode, (width, height))
    if "palette" in tree:
        kind, colours = tree["palette"]
        image.putpalette(bytes.fromhex(colours), {"RGB": "RGB", "RGBA": "RGBA"}[kind])
    if "info" in tree:
        info = reader.value(tree["info"], (path, "info"), depth)
        if type(info) is not dict:
            raise TypeError("info that is no dict")
        image.info = info
    return image


READERS: dict[str, Read] = {IMAGE: _read}
