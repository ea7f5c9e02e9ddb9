"""A process that buys something: ``python -m tests.transactions.program NAME``.

The first one says that it is in the body, its row written and its lock held, and waits there
for a line on stdin; whoever runs it again does not.
"""

from __future__ import annotations

import sys

import kitaru
from kitaru import checkpoint, flow


@checkpoint(transaction=True)
def pay(what: str) -> str:
    connection = kitaru.connection()
    connection.execute("insert into paid (what) values (%s)", (what,))
    if NAME == "first":
        print("in the body", flush=True)
        sys.stdin.readline()
    return f"paid by {NAME}"


@flow
def buy() -> str:
    return pay("tea")


NAME = ""

if __name__ == "__main__":
    NAME = sys.argv[1]
    if NAME != "first":
        sys.stdin.readline()  # until that one is in the body
    print(buy.options(key="k").run().wait(), flush=True)
