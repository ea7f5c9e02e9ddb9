"""``kitaru status``: what it takes. What it does is loaded when it runs."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.output import Session


@click.command(
    cls=Command,
    help="Show the store of the project here: where it is, its size, how many executions stand "
    "how, and which processes run some.",
    examples="""
kitaru status
kitaru status -o json
""",
)
@click.pass_obj
def status(session: Session) -> None:
    from kitaru.cli.inspecting import show_status

    show_status(session)
