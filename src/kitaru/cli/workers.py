"""``kitaru workers``: what it takes. What it does is loaded when it runs."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.output import Session


@click.command(
    "list",
    cls=Command,
    help="List the workers that live: on which machine, which flows and queues they serve, how "
    "many executions run there, and since when. In a pipe: columns separated by tabs.",
    examples="""
kitaru workers list
kitaru workers list -o json
""",
)
@click.pass_obj
def list_(session: Session) -> None:
    from kitaru.cli.fleet import list_workers

    list_workers(session)
