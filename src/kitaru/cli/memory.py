"""``kitaru memory``: what its commands take. What they do is loaded when they run."""

from __future__ import annotations

import click

from kitaru._core.memory import SCOPE_TYPES
from kitaru.cli.commands import Command
from kitaru.cli.output import Session

_SCOPE = click.option(
    "--scope", required=True, metavar="NAME",
    help="Whose memory: a namespace, a flow's name or id, an execution's id.",
)  # fmt: skip
_TYPE = click.option(
    "--scope-type", type=click.Choice(SCOPE_TYPES), default="namespace", show_default=True,
    help="What NAME is.",
)  # fmt: skip
_LIMIT = click.option("--limit", type=int, default=100, show_default=True, help="At most so many.")
_KEY = click.argument("key")
_YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command(
    "list",
    cls=Command,
    help="List the newest version of each key of a scope. In a pipe: columns separated by tabs.",
    examples="""
kitaru memory list --scope team
kitaru memory list --scope visit --scope-type flow -o json
""",
)
@_SCOPE
@_TYPE
@_LIMIT
@click.pass_obj
def list_(session: Session, scope: str, scope_type: str, limit: int) -> None:
    from kitaru.cli.remembered import list_keys

    list_keys(session, scope, scope_type, limit)


@click.command(
    cls=Command,
    help="Print the value of a key: the newest, or that of a version. Text as it is, everything "
    "else as the JSON it is recorded as.",
    examples="""
kitaru memory get tone --scope team
kitaru memory get tone --scope team --version 2
""",
)
@_KEY
@_SCOPE
@_TYPE
@click.option("--version", type=int, help="This version, instead of the newest.")
@click.pass_obj
def get(session: Session, key: str, scope: str, scope_type: str, version: int | None) -> None:
    from kitaru.cli.remembered import show_value

    show_value(session, key, scope, scope_type, version)


@click.command(
    "set",
    cls=Command,
    help="Write a new version of a key. VALUE is JSON; what is none is taken as text, but for what "
    'begins like JSON ({, [ or ").',
    examples="""
kitaru memory set tone formal --scope team
kitaru memory set limits '{"words": 300}' --scope team
""",
)
@_KEY
@click.argument("value")
@_SCOPE
@_TYPE
@click.pass_obj
def set_(session: Session, key: str, value: str, scope: str, scope_type: str) -> None:
    from kitaru.cli.remembered import write_value

    write_value(session, key, value, scope, scope_type)


@click.command(
    cls=Command,
    help="Show every version of a key, deleted ones too, newest first.",
    examples="""
kitaru memory history tone --scope team
""",
)
@_KEY
@_SCOPE
@_TYPE
@_LIMIT
@click.pass_obj
def history(session: Session, key: str, scope: str, scope_type: str, limit: int) -> None:
    from kitaru.cli.remembered import show_history

    show_history(session, key, scope, scope_type, limit)


@click.command(
    cls=Command,
    help="Delete a key: a tombstone becomes its newest version, and its history stays.",
    examples="""
kitaru memory delete tone --scope team
""",
)
@_KEY
@_SCOPE
@_TYPE
@click.pass_obj
def delete(session: Session, key: str, scope: str, scope_type: str) -> None:
    from kitaru.cli.remembered import delete_key

    delete_key(session, key, scope, scope_type)


@click.command(
    cls=Command,
    help="Remove every version of a key, or with --all of every key of the scope, for ever.",
    examples="""
kitaru memory purge tone --scope team
kitaru memory purge --all --scope team --yes
""",
)
@click.argument("key", required=False)
@_SCOPE
@_TYPE
@click.option("--all", "all_", is_flag=True, help="Every key of the scope.")
@_YES
@click.pass_obj
def purge(
    session: Session, key: str | None, scope: str, scope_type: str, all_: bool, yes: bool
) -> None:
    if (key is None) is not all_:
        raise click.UsageError("name one KEY, or say --all for every key of the scope")
    from kitaru.cli.remembered import purge as purge_

    purge_(session, key, scope, scope_type, yes=yes)


@click.command(
    cls=Command,
    help="List the scopes in which something is remembered.",
    examples="""
kitaru memory scopes
""",
)
@_LIMIT
@click.pass_obj
def scopes(session: Session, limit: int) -> None:
    from kitaru.cli.remembered import list_scopes

    list_scopes(session, limit)
