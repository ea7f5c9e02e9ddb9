"""numpy: arrays of any dtype but object, and scalars, which are never taken for Python's.

An array is its dtype, its shape and its items in C order; where in memory they
lay is not part of it, nor are bytes that no item shows (padding between fields).
What comes back is writable and owns its memory. numpy is never imported here.
"""

from __future__ import annotations

import sys
from math import prod
from typing import TYPE_CHECKING, Any

from kitaru._core.values.leaves import READERS as LEAVES
from kitaru._core.values.leaves import write_float
from kitaru._core.values.paths import Path
from kitaru._core.values.text import TAG

if TYPE_CHECKING:
    from kitaru._core.values.attachments import Data
    from kitaru._core.values.codecs import Read, Write
    from kitaru._core.values.reader import Reader
    from kitaru._core.values.writer import Writer

ARRAY = "numpy.ndarray"
SCALAR = "numpy.scalar"

_RAW_KINDS = "biufcmMSUV"
_MAX_DIMENSIONS = 64


class Unstorable(Exception):
    """Why a value of a class that has a codec cannot be stored."""


def numpy() -> Any:
    return sys.modules["numpy"]


def write_of(cls: type) -> Write | None:
    np = numpy()
    if cls is np.ndarray:
        return write_array
    # A subclass of a scalar type, or another library's, is not in numpy's own list.
    return _write_scalar if cls in set(np.sctypeDict.values()) else None


# --- dtypes ------------------------------------------------------------------------


def dtype_tree(dtype: Any) -> Any:
    """A dtype as JSON: a text; for fields an object; ``[base, shape]`` for a subarray.

    Raises ``Unstorable`` for what would not come back the same.
    """
    np = numpy()
    if dtype.kind == "T":
        return _text_dtype(dtype)
    if dtype.hasobject:
        raise Unstorable(
            "an array of dtype object holds references, not values: store .tolist() of it, or "
            "give it a dtype with .astype()"
        )
    if dtype.metadata:
        raise Unstorable("the metadata of its dtype would be lost: drop it with .astype()")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [dtype_tree(base), list(shape)]
    if dtype.names is not None:
        return _fields_tree(dtype)
    if dtype.char in "gG":
        # The same name means another format on another processor.
        return f"{dtype.str[0]}{dtype.char}:{np.finfo(np.longdouble).nmant}"
    text: str = dtype.str
    known = dtype.kind in _RAW_KINDS and np.dtype(text) == dtype
    if not known or (np.dtype(text).type is not dtype.type and dtype.kind not in "iu"):
        raise Unstorable(f"its dtype {shown_dtype(dtype)} is not numpy's own: use .astype()")
    return text


def shown_dtype(dtype: Any) -> str:
    """The name of a dtype; another library's may raise when it is asked for it."""
    try:
        return str(dtype)[:80]
    except Exception:
        return "of another library"


def _fields_tree(dtype: Any) -> dict[str, Any]:
    fields = [dtype.fields[name] for name in dtype.names]
    tree: dict[str, Any] = {
        "names": list(dtype.names),
        "formats": [dtype_tree(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
    }
    if any(len(field) > 2 for field in fields):
        titles = [field[2] if len(field) > 2 else None for field in fields]
        if not all(title is None or type(title) is str for title in titles):
            raise Unstorable("the titles of its fields are no texts: drop them")
        tree["titles"] = titles
    if dtype.isalignedstruct:
        tree["aligned"] = True
    if dtype.type is not numpy().void:
        if dtype.type is not numpy().record:
            raise Unstorable(f"its dtype {shown_dtype(dtype)} is not numpy's own: use .astype()")
        tree["record"] = True
    return tree


def _text_dtype(dtype: Any) -> str:
    if hasattr(dtype, "na_object"):
        raise Unstorable("a StringDType with an na_object cannot be read back: use .astype()")
    return "T" if dtype.coerce else "T:strict"


def read_dtype(tree: Any) -> Any:
    """The dtype behind its tree. May raise anything for what ``dtype_tree`` did not make."""
    np = numpy()
    if type(tree) is list:
        base, shape = tree
        return np.dtype((read_dtype(base), tuple(map(_length, shape))))
    if type(tree) is dict:
        return _read_fields(tree)
    if type(tree) is not str:
        raise TypeError("no dtype")
    if tree.startswith("T"):
        return np.dtypes.StringDType(coerce={"T": True, "T:strict": False}[tree])
    text, colon, precision = tree.partition(":")
    if colon and int(precision) != np.finfo(np.longdouble).nmant:
        raise ValueError("a long double of another processor")
    dtype = np.dtype(text)
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise ValueError("no plain dtype")
    return dtype


def _read_fields(tree: dict[str, Any]) -> Any:
    np = numpy()
    spec = {
        "names": tree["names"],
        "formats": [read_dtype(one) for one in tree["formats"]],
        "offsets": tree["offsets"],
        "itemsize": tree["itemsize"],
    }
    if "titles" in tree:
        spec["titles"] = tree["titles"]
    dtype = np.dtype(spec, align=tree.get("aligned") is True)
    return np.dtype((np.record, dtype)) if tree.get("record") is True else dtype


def _length(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a length")
    return value


# --- arrays ------------------------------------------------------------------------


def write_array(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    try:
        dtype = dtype_tree(value.dtype)
    except Unstorable as reason:
        return writer.refuse(value, path, str(reason))
    if _has_no_room(value.dtype):
        return writer.refuse(value, path, "its texts have no room for a character: use .astype()")
    writer.enter(value.ndim, path, depth)
    tree = {TAG: ARRAY, "dtype": dtype, "shape": list(value.shape)}
    if value.dtype.kind == "T":
        tree["v"] = writer.tree(value.ravel().tolist(), path, depth + 1)
    else:
        tree["v"] = writer.binary(raw(value), path)
    return tree


def raw(array: Any) -> Data:
    """The items in C order, equal bytes for equal items."""
    np = numpy()
    if array.nbytes == 0:
        return b""
    flat = np.ascontiguousarray(array).reshape(-1)
    if not _shows_all(flat.dtype):
        clean = np.zeros(flat.shape, flat.dtype)
        _copy_shown(clean, flat)
        flat = clean
    return memoryview(flat.view(np.uint8))


def _shows_all(dtype: Any) -> bool:
    """Whether equal items have equal bytes: no padding, no True of another byte than 1."""
    if dtype.subdtype is not None:
        return _shows_all(dtype.subdtype[0])
    if dtype.names is None:
        return dtype.kind != "b" and dtype.char not in "gG"
    fields = [dtype.fields[name][0] for name in dtype.names]
    return sum(one.itemsize for one in fields) == dtype.itemsize and all(map(_shows_all, fields))


def _copy_shown(to: Any, source: Any) -> None:
    np = numpy()
    dtype = source.dtype
    if dtype.names is not None:
        for name in dtype.names:
            _copy_shown(to[name], source[name])
    elif dtype.kind == "b":
        np.not_equal(source.view(np.uint8), 0, out=to)
    elif dtype.char in "gG" and np.finfo(np.longdouble).nmant == 63:
        # Ten bytes of each sixteen are the number.
        to[...] = source
        numbers = to.reshape(-1).view(np.uint8) if to.flags.c_contiguous else None
        if numbers is not None:
            numbers.reshape(-1, 16)[:, 10:] = 0
    else:
        to[...] = source


def _has_no_room(dtype: Any) -> bool:
    """Texts of no characters: numpy makes room for one in each, which nothing would fill."""
    return dtype.kind in "SU" and dtype.itemsize == 0


def read_array(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    np = numpy()
    dtype = read_dtype(tree["dtype"])
    if dtype.subdtype is not None or _has_no_room(dtype):
        raise ValueError("not the dtype of an array")
    shape = tuple(map(_length, _exactly(list, tree["shape"])))
    if len(shape) > _MAX_DIMENSIONS:
        raise ValueError("too many dimensions")
    if dtype.kind == "T":
        texts = reader.items(tree, path, depth)
        if not all(type(text) is str for text in texts):
            raise TypeError("not texts")
        return np.array(texts, dtype).reshape(shape)
    data = reader.binary(tree["v"])
    # Before anything is allocated: a record must not claim what it does not hold.
    if prod(shape) * dtype.itemsize != len(data):
        raise ValueError("another size than its shape")
    array = np.empty(shape, dtype)
    if len(data):
        array.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)
    return array


# --- scalars -----------------------------------------------------------------------


def _write_scalar(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    try:
        dtype = dtype_tree(value.dtype)
    except Unstorable as reason:
        return writer.refuse(value, path, str(reason))
    writer.enter(1, path, depth)
    np = numpy()
    name = type(value).__name__
    kind = value.dtype.kind
    tree: dict[str, Any] = {TAG: SCALAR, "dtype": dtype}
    if kind == "U":
        text = str.__add__("", value)  # str(value) loses a NUL at its end
        return {TAG: SCALAR, "dtype": "U", "v": writer.tree(text, path, depth + 1)}
    if kind == "S":
        return {TAG: SCALAR, "dtype": "S", "v": writer.binary(bytes(value), path)}
    if kind in "iu" and np.dtype(dtype).type is not type(value):
        tree["dtype"] = f"{dtype[0]}{value.dtype.char}"  # longlong beside int64
    if kind in "mM":
        tree["v"] = int(value.view(np.int64))
    elif kind in "biu":
        tree["v"] = value.item()
    elif name in ("float16", "float32", "float64"):
        number = value.item()
        tree["v"] = number if number - number == 0 else write_float(number)
    else:
        tree["v"] = writer.binary(raw(np.asarray(value)), path)
    return tree


def _read_scalar(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    np = numpy()
    stored = tree["v"]
    if tree["dtype"] == "U":
        return np.str_(_exactly(str, reader.value(stored, path, depth)))
    if tree["dtype"] == "S":
        return np.bytes_(bytes(reader.binary(stored)))
    dtype = read_dtype(tree["dtype"])
    if dtype.kind in "mM":
        return np.int64(_exactly(int, stored)).view(dtype)
    if dtype.kind in "iu":
        return dtype.type(_exactly(int, stored))
    if dtype.kind == "b":
        return np.bool_(_exactly(bool, stored))
    if dtype.kind == "f" and dtype.char != "g":
        number = stored if type(stored) is float else LEAVES["float"](stored)
        return dtype.type(number)
    data = reader.binary(stored)
    if len(data) != dtype.itemsize:
        raise ValueError("another size than its dtype")
    return np.frombuffer(bytes(data), dtype).copy()[0] if len(data) else np.zeros((), dtype)[()]


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"not a {kind.__name__}")
    return value


READERS: dict[str, Read] = {ARRAY: read_array, SCALAR: _read_scalar}
