"""``kitaru limits``: what its commands take. What they do is loaded when they run."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.output import Session

_NAME = click.argument("name")


@click.command(
    "list",
    cls=Command,
    help="List how many executions of a queue, or with a key, may run at once, and how many do. "
    "In a pipe: columns separated by tabs.",
    examples="""
kitaru limits list
kitaru limits list -o json
""",
)
@click.pass_obj
def list_(session: Session) -> None:
    from kitaru.cli.fleet import list_limits

    list_limits(session)


@click.command(
    "set",
    cls=Command,
    help="Let at most MAX executions of the queue or key NAME run at once in the whole fleet, from "
    "now on; 0 holds them back. What runs goes on. A process that is configured with another "
    "number writes its own when it starts.",
    examples="""
kitaru limits set slow 2
kitaru limits set customer-7 0
""",
)
@_NAME
@click.argument("max", type=int)
@click.pass_obj
def set_(session: Session, name: str, max: int) -> None:
    from kitaru.cli.fleet import set_limit

    set_limit(session, name, max)


@click.command(
    cls=Command,
    help="Take the limit of a queue or key away: for one that has left the configuration, which "
    "the store keeps until somebody says so. As many run at once as like then.",
    examples="""
kitaru limits remove slow
""",
)
@_NAME
@click.pass_obj
def remove(session: Session, name: str) -> None:
    from kitaru.cli.fleet import remove_limit

    remove_limit(session, name)
