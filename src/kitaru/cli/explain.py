"""``kitaru explain``: what it takes. What it does is loaded when it runs."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.completing import codes
from kitaru.cli.output import Session


@click.command(
    cls=Command,
    help="Explain an error by its code: what happened, why, and what to do. Without a code, list "
    "all codes.",
    examples="""
kitaru explain flow-called-directly
kitaru explain
kitaru explain disk-full -o json
""",
)
@click.argument("code", required=False, shell_complete=codes)
@click.pass_obj
def explain(session: Session, code: str | None) -> None:
    from kitaru.cli.pages import list_codes, show_page

    if code is None:
        list_codes(session)
    else:
        show_page(session, code)
