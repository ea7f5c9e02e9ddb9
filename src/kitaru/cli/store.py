"""``kitaru store``: what its commands take. What they do is loaded when they run."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.output import Session


@click.command(
    cls=Command,
    help="Copy the store to a folder that is not there yet, while programs go on using it: the "
    "database as it is at one instant, and every large value that it names. What was written is "
    "read back before the folder gets its name. It is a store itself: name it with --store, or "
    "put it in the place of a lost one. Logs are not copied.",
    examples="""
kitaru store backup
kitaru store backup /mnt/backups/shop
kitaru --store /mnt/backups/shop executions list
""",
)
@click.argument("folder", required=False)
@click.pass_obj
def backup(session: Session, folder: str | None) -> None:
    from kitaru.cli.storing import back_up

    back_up(session, folder)


@click.command(
    cls=Command,
    help="Show what is in the store: how many executions, outcomes, waits and large values, how "
    "large each part of the folder is, what is past its time, and which copies there are.",
    examples="""
kitaru store info
kitaru store info -o json
""",
)
@click.pass_obj
def info(session: Session) -> None:
    from kitaru.cli.storing import show_info

    show_info(session)


@click.command(
    cls=Command,
    help="Bring a store of an older Kitaru up to date. That happens by itself whenever a program "
    "opens it; here it is told, with the copy of the database that is made before. In a PostgreSQL "
    "database it makes the tables, too, where there are none: for the role that owns them, before "
    "workers start that may only read and write.",
    examples="""
kitaru store migrate
""",
)
@click.pass_obj
def migrate(session: Session) -> None:
    from kitaru.cli.storing import bring_up_to_date

    bring_up_to_date(session)
