"""``kitaru gc``: what it takes. What it does is loaded when it runs."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.output import Session


@click.command(
    cls=Command,
    help="Remove executions that are past the retention of their flow (`@flow(retention=...)`), "
    "with their children and logs, and large values that nothing names any more. What is not "
    "finished is never touched, and of what is removed a tombstone stays: id, status and times. "
    "May be stopped at any moment; the next one goes on.",
    examples="""
kitaru gc --dry-run
kitaru gc
kitaru gc --dry-run -o json
""",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.option("--grace", "grace_seconds", type=float, metavar="SECONDS", default=3600.0,
              show_default=True,
              help="How old the file of a large value must be before it may go.")  # fmt: skip
@click.pass_obj
def gc(session: Session, dry_run: bool, grace_seconds: float) -> None:
    from kitaru.cli.clearing import collect

    collect(session, dry_run=dry_run, grace_seconds=grace_seconds)
