"""``kitaru init``: what it takes. What it does is loaded when it runs."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.output import Session


@click.command(
    cls=Command,
    help="Make the store of the project here: a folder .kitaru, ignored by git. "
    "Writes nothing else; where it stands already, it stays as it is.",
    examples="""
kitaru init
kitaru init --store /srv/flows/.kitaru
""",
)
@click.pass_obj
def init(session: Session) -> None:
    from kitaru.cli.making import make_store

    make_store(session)
