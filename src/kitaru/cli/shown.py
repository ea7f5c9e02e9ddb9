"""Records as what the command line shows: plain data for JSON, lines and tables for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from kitaru._store.protocol import ExecutionRow
from kitaru.cli.output import print_text
from kitaru.codes import kind_of
from kitaru.model import FailureInfo
from kitaru.records import result_tree


def as_data(record: Any) -> Any:
    """A record as plain data: its public fields, times in ISO 8601."""
    if is_dataclass(record) and not isinstance(record, type):
        data = {
            field.name: as_data(getattr(record, field.name))
            for field in fields(record)
            if not field.name.startswith("_")
        }
        return {**data, "kind": kind_of(record.code)} if type(record) is FailureInfo else data
    if isinstance(record, datetime):
        return record.isoformat()
    if isinstance(record, Mapping):
        return {str(key): as_data(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [as_data(item) for item in record]
    return record


def print_result(tree: Any) -> None:
    """A result: text as it is, everything else as the JSON it is recorded as."""
    print_text(tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False))


def recorded_result(row: ExecutionRow) -> Any:
    """What the flow returned, as it is recorded: no class of the user's is needed to show it."""
    assert row.result is not None
    return result_tree(row.result, f"the result of execution {row.exec_id}")


def size(count: int) -> str:
    """Bytes in a unit that people read.

    >>> size(1_500_000)
    '1.5 MB'
    """
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def shell_word(text: str) -> str:
    """A name as it is typed in a shell.

    >>> shell_word("approve"), shell_word("wait_condition:0"), shell_word("two words")
    ('approve', 'wait_condition:0', "'two words'")
    """
    if text and all(c.isascii() and (c.isalnum() or c in "_-.:/@%+=,") for c in text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"
