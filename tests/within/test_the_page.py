"""docs/fleet/transactions.md tells the truth: its grants suffice."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from .kit import asked, order, ship

PAGE = (Path(__file__).parents[2] / "docs" / "fleet" / "transactions.md").read_text("utf-8")
SECTION = PAGE[PAGE.index("## An execution that begins") :]


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_grants_of_the_page_suffice(database: str) -> None:
    asked_as_owner = psycopg.connect(database, autocommit=True)
    asked_as_owner.execute(block("sql").encode())
    try:
        asked_as_owner.execute("alter role shop_app login")
        asked_as_owner.execute("grant insert on orders to shop_app")
        with psycopg.connect(make_conninfo(database, user="shop_app")) as connection:
            order(connection, 7)
            for inputs in (7, "large" * 20_000):
                keyed = ship.options(connection=connection, key=str(inputs)[:9])
                assert keyed.enqueue(inputs).exec_id == keyed.enqueue(inputs).exec_id
    finally:
        asked_as_owner.execute("drop owned by shop_app cascade")
        asked_as_owner.execute("drop role shop_app")
        asked_as_owner.close()
    assert asked(database, "select count(*) from kitaru.executions") == [(2,)]
