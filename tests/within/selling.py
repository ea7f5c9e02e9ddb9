"""Sells until it is killed: an order and the execution that ships it, in one transaction.

Each step is said on stdout, so that whoever kills it knows where it is.
"""

from __future__ import annotations

import os
import sys

import psycopg

from .kit import order, ship


def say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def sell(first: int) -> None:
    with psycopg.connect(os.environ["KITARU_STORE"]) as connection:
        for number in range(first, first + 1000):
            order(connection, number)
            say("ordered")
            inputs = {"order": number, "text": "large " * 10_000 * (number % 3 == 0)}
            ship.options(connection=connection, key=str(number)).enqueue(inputs)
            say("enqueued")
            (connection.rollback if number % 5 == 0 else connection.commit)()
            say("ended")


if __name__ == "__main__":
    sell(int(sys.argv[1]))
