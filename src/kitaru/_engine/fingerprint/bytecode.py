"""A code object as a digest, and the names that it uses.

Instructions are hashed with what their arguments stand for (the constant, the
name, the target of the jump) and not with their numbers: so docstrings, which
no instruction loads, line numbers, unused constants and the padding that the
compiler leaves for empty lines do not count. ``co_code`` is free of inline
caches, specialisation and instrumentation on every Python that we support.
This file knows nothing of functions, modules or projects. It reads ``opcode``
and never imports ``dis``, which costs milliseconds.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from itertools import pairwise
from opcode import hasconst, hasjrel, hasname, opmap, opname
from types import CodeType
from typing import NamedTuple

from kitaru._engine.fingerprint.plain import frame, plain, text

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""Part of every digest: another minor version of Python has other bytecode."""

DIGEST_SIZE = 16

# A docstring and `from __future__ import annotations` change no behaviour that counts.
_FLAGS_THAT_COUNT = ~(0x4000000 | 0x1000000)
# Stored by the compiler into class bodies: a docstring, a line number, and a
# tuple whose order follows the hash seed (and which the methods imply anyway).
_DERIVED = frozenset({"__doc__", "__firstlineno__", "__static_attributes__"})

_CACHE, _EXTENDED, _NOP = opmap["CACHE"], opmap["EXTENDED_ARG"], opmap["NOP"]
_CONSTANT, _NAMED, _JUMPS = frozenset(hasconst), frozenset(hasname), frozenset(hasjrel)
_BACKWARD = frozenset(op for op in _JUMPS if "BACKWARD" in opname[op])
_GLOBAL_LOADS = frozenset(
    opmap[name]
    for name in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    if name in opmap
)
_LOAD_GLOBAL, _LOAD_CONST, _LOAD_FAST = (
    opmap["LOAD_GLOBAL"],
    opmap["LOAD_CONST"],
    opmap["LOAD_FAST"],
)
_LOAD_ATTR, _STORE_GLOBAL = opmap["LOAD_ATTR"], opmap["STORE_GLOBAL"]
_STORE_NAME, _IMPORT_NAME = opmap["STORE_NAME"], opmap["IMPORT_NAME"]
_LOAD_METHOD = opmap.get("LOAD_METHOD", -1)
_STORE_FAST = opmap["STORE_FAST"]
# Python 3.13 joins two of these into one instruction where both stand on one line.
_PAIRS: dict[int, tuple[int, int]] = {
    opmap[name]: pair
    for name, pair in {
        "LOAD_FAST_LOAD_FAST": (_LOAD_FAST, _LOAD_FAST),
        "STORE_FAST_LOAD_FAST": (_STORE_FAST, _LOAD_FAST),
        "STORE_FAST_STORE_FAST": (_STORE_FAST, _STORE_FAST),
    }.items()
    if name in opmap and sys.version_info >= (3, 13)
}
# Where a jump leads is hashed; whether that is up or down from it follows from it.
_UNDIRECTED = {
    op: opmap.get(opname[op].replace("_NO_INTERRUPT", "").replace("BACKWARD", "FORWARD"), op)
    for op in _JUMPS
}
_ALWAYS = frozenset(op for op in _JUMPS if opname[op] in ("JUMP_FORWARD", "JUMP_BACKWARD"))
_INVERTED = {
    opmap[one]: opmap[other]
    for prefix in ("POP_JUMP_IF_", "POP_JUMP_FORWARD_IF_")
    for pair in (("TRUE", "FALSE"), ("NONE", "NOT_NONE"))
    for one, other in (
        (prefix + pair[0], prefix + pair[1]),
        (prefix + pair[1], prefix + pair[0]),
    )
    if one in opmap
}
# Some instructions keep flags in the low bits of the index of their name.
_NAME_SHIFT = {_LOAD_GLOBAL: 1}
if sys.version_info >= (3, 12):
    _NAME_SHIFT[_LOAD_ATTR] = 1
    _NAME_SHIFT[opmap["LOAD_SUPER_ATTR"]] = 2


class Import(NamedTuple):
    """An import statement inside a function."""

    name: str
    names: tuple[str, ...]
    level: int


class Reading:
    """What one code object, with those nested in it, consists of and uses."""

    __slots__ = ("attributes", "digest", "imports", "loads", "method_calls", "reads", "stores")

    def __init__(self) -> None:
        self.digest = b""
        self.loads: set[str] = set()
        """Names of globals that it reads."""
        self.stores: set[str] = set()
        """Names of globals that it assigns."""
        self.attributes: set[str] = set()
        """Names of attributes, of whatever object."""
        self.imports: set[Import] = set()
        self.method_calls: set[tuple[str, str]] = set()
        """(local variable, method) of calls on objects whose class is unknown."""
        self.reads: set[str] = set()
        """``getattr`` if it is called with a name that is not written there."""


class Instruction(NamedTuple):
    op: int
    arg: int
    offset: int
    """Where it begins, in code units, prefixes included."""
    after: int
    """Where the next one begins: what jumps count from."""


def read(code: CodeType) -> Reading:
    """Digest a code object and collect what it uses, nested code objects included."""
    reading = Reading()
    instructions = _turn_round(_decode(code.co_code))
    lines = [
        f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount}",
        f"{code.co_flags & _FLAGS_THAT_COUNT}",
    ]
    digest = blake2b(digest_size=DIGEST_SIZE)
    for names in (code.co_varnames, code.co_cellvars, code.co_freevars):
        digest.update(frame(b"n", *[text(name) for name in names]))
    places = _places(instructions, len(code.co_code) // 2)
    consts: list[bytes | None] = [None] * len(code.co_consts)
    skip_next = -1
    for index, (op, arg, _, _) in enumerate(instructions):
        if op in _CONSTANT:
            if op == _LOAD_CONST and _feeds_derived(code, instructions, index):
                skip_next = index + 1
                continue
            piece = consts[arg]
            if piece is None:
                piece = consts[arg] = _constant(code.co_consts[arg], reading)
            digest.update(frame(b"k", b"%d" % op, piece))
        elif op in _NAMED:
            if index == skip_next:
                continue
            shift = _NAME_SHIFT.get(op, 0)
            name = code.co_names[arg >> shift]
            _note(reading, code, instructions, index, name)
            digest.update(frame(b"m", b"%d %d" % (op, arg & ((1 << shift) - 1)), text(name)))
        elif op in _JUMPS:
            target = _landing(instructions, places, index)
            digest.update(b"j%d %d;" % (_UNDIRECTED[op], target))
        else:
            digest.update(b"a%d %d;" % (op, arg))
    for line in lines:
        digest.update(text(line))
    digest.update(text(repr(_exceptions(code.co_exceptiontable, places))))
    reading.digest = digest.digest()
    return reading


def _decode(raw: bytes) -> list[Instruction]:
    """Instructions without caches and padding, prefixes folded in."""
    found: list[Instruction] = []
    unit, size, extended, start = 0, len(raw) // 2, 0, 0
    while unit < size:
        op, arg = raw[2 * unit], raw[2 * unit + 1] | extended
        unit += 1
        if op == _EXTENDED:
            extended = arg << 8
            continue
        while unit < size and raw[2 * unit] == _CACHE:
            unit += 1
        if op in _PAIRS:
            first, second = _PAIRS[op]
            found.append(Instruction(first, arg >> 4, start, unit))
            found.append(Instruction(second, arg & 15, unit, unit))
        elif op != _NOP:
            found.append(Instruction(op, arg, start, unit))
        extended, start = 0, unit
    return found


def _turn_round(instructions: list[Instruction]) -> list[Instruction]:
    """Write "unless x, jump over a jump" as "if x, jump".

    The compiler chooses between the two by where lines end.
    """
    over = [
        index
        for index, (one, two) in enumerate(pairwise(instructions))
        if one.op in _INVERTED and two.op in _ALWAYS and one.after + one.arg == two.after
    ]
    if not over:
        return instructions
    targets = {_target(jump) for jump in instructions if jump.op in _JUMPS}
    dropped: set[int] = set()
    for index in over:
        one, two = instructions[index], instructions[index + 1]
        if targets.isdisjoint(range(one.after, two.offset + 1)):
            arg = _target(two) - one.after
            instructions[index] = one._replace(op=_INVERTED[one.op], arg=arg)
            dropped.add(index + 1)
    return [found for index, found in enumerate(instructions) if index not in dropped]


def _target(jump: Instruction) -> int:
    return jump.after - jump.arg if jump.op in _BACKWARD else jump.after + jump.arg


def _places(instructions: list[Instruction], size: int) -> list[int]:
    """For every code unit the number of the instruction that runs next from there."""
    places = [len(instructions)] * (size + 1)
    unit = 0
    for index, instruction in enumerate(instructions):
        while unit <= instruction.offset:
            places[unit] = index
            unit += 1
    return places


def _landing(instructions: list[Instruction], places: list[int], index: int) -> int:
    """Where a jump ends up: the compiler shortens a jump to a jump on the same line only."""
    for _ in range(len(instructions)):
        index = places[_target(instructions[index])]
        if index == len(instructions) or instructions[index].op not in _ALWAYS:
            break
    return index


def _exceptions(table: bytes, places: list[int]) -> list[tuple[int, int, int, int]]:
    """The exception table (Objects/exception_handling_notes.txt) in places, not in offsets."""
    numbers: list[int] = []
    value = 0
    for byte in table:
        value = value << 6 | byte & 0x3F
        if not byte & 0x40:
            numbers.append(value)
            value = 0
    entries: list[tuple[int, int, int, int]] = []
    for start, length, target, depth in zip(*[iter(numbers)] * 4, strict=True):
        first, last = places[start], places[start + length]
        if first == last:
            continue  # It covered padding only.
        before = entries[-1] if entries else None
        if before and before[1:] == (first, places[target], depth):
            entries[-1] = (before[0], last, places[target], depth)
        else:
            entries.append((first, last, places[target], depth))
    return entries


def _constant(value: object, reading: Reading) -> bytes:
    if isinstance(value, CodeType):
        inner = read(value)
        reading.loads |= inner.loads
        reading.stores |= inner.stores
        reading.attributes |= inner.attributes
        reading.imports |= inner.imports
        reading.method_calls |= inner.method_calls
        reading.reads |= inner.reads
        return frame(b"code", text(value.co_name), inner.digest)
    return plain(value) or frame(b"unknown", text(type(value).__qualname__))


def _feeds_derived(code: CodeType, instructions: list[Instruction], index: int) -> bool:
    """Whether this constant is only stored under a name that the compiler derives."""
    if index + 1 >= len(instructions):
        return False
    op, arg, _, _ = instructions[index + 1]
    return op == _STORE_NAME and code.co_names[arg] in _DERIVED


def _note(
    reading: Reading, code: CodeType, instructions: list[Instruction], index: int, name: str
) -> None:
    op = instructions[index].op
    if op in _GLOBAL_LOADS:
        reading.loads.add(name)
        if name == "getattr" and not _getattr_of_constant(code, instructions, index, reading):
            reading.reads.add(name)
    elif op == _STORE_GLOBAL:
        reading.stores.add(name)
    elif op == _IMPORT_NAME:
        level, names = (_loaded(code, instructions, index - k) for k in (2, 1))
        reading.imports.add(
            Import(
                name,
                names if isinstance(names, tuple) else (),
                level if isinstance(level, int) else 0,
            )
        )
    else:
        reading.attributes.add(name)
        called = op == _LOAD_METHOD or (op == _LOAD_ATTR and _calls(instructions[index]))
        if called and index and instructions[index - 1].op == _LOAD_FAST:
            reading.method_calls.add((code.co_varnames[instructions[index - 1].arg], name))


def _calls(attribute: Instruction) -> bool:
    return sys.version_info >= (3, 12) and bool(attribute.arg & 1)


def _loaded(code: CodeType, instructions: list[Instruction], index: int) -> object:
    if index >= 0 and instructions[index].op in _CONSTANT:
        return code.co_consts[instructions[index].arg]
    return None


def _getattr_of_constant(
    code: CodeType, instructions: list[Instruction], index: int, reading: Reading
) -> bool:
    """Whether this is ``getattr(simple, "name"…)``; the name then counts as an attribute."""
    if index + 2 >= len(instructions):
        return False
    name = _loaded(code, instructions, index + 2)
    if isinstance(name, str):
        reading.attributes.add(name)
    return isinstance(name, str)
