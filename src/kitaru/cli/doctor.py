"""``kitaru doctor``: what it takes. What it does is loaded when it runs."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.output import Session


@click.command(
    cls=Command,
    help="Check everything that Kitaru depends on here: the store, its disk and its integrity, who "
    "runs what, what was interrupted, Python, and the settings with who set each. Each line is "
    "fine (✔), a warning (!) or a problem (✘), with what to do. A problem makes the exit status 1.",
    examples="""
kitaru doctor
kitaru doctor --thorough
kitaru doctor -o json
""",
)
@click.option(
    "--thorough",
    is_flag=True,
    help="Check a large database to its end, instead of for 10 seconds.",
)
@click.pass_obj
def doctor(session: Session, thorough: bool) -> int:
    from kitaru.cli.checkup import run_doctor

    return run_doctor(session, thorough=thorough)
