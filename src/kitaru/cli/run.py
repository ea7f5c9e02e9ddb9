"""``kitaru run``: what it takes. The engine is loaded when it runs, not for its help."""

from __future__ import annotations

from typing import Any

import click

from kitaru.cli.commands import Command
from kitaru.cli.output import Session


class RunCommand(Command):
    """Says where a flow's own arguments go, when they are written where ours are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if "--" in words:
                raise
            raise click.UsageError(
                f"{error.format_message()} The flow's own arguments go after --, for example "
                "`kitaru run my_flows.py:hello -- --name World`",
                ctx,
            ) from None


@click.command(
    cls=RunCommand,
    help="Run a flow and print its result. The flow's arguments go after --, by name, read as "
    "its annotations say; or all of them as JSON with --args. What it waits for is asked in this "
    "terminal, or answered with `kitaru executions input`; until then this command waits, too. "
    "With --detach it leaves then, says how to answer, and exits with 0.",
    examples="""
kitaru run my_flows.py:hello -- --name World --times 3
kitaru run my.package.flows:hello --args '{"name": "World"}'
kitaru run my_flows.py:import_orders --key 2026-03-01
kitaru run my_flows.py:publish --detach
kitaru run my_flows.py:publish --queue slow --detach
""",
)
@click.argument("target", metavar="MODULE_OR_FILE:FLOW")
@click.argument("values", metavar="[-- --NAME VALUE ...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--args", "as_json", metavar="JSON", help="The flow's arguments as JSON.")
@click.option("--key", help="The same key and arguments are the same execution, gone on with.")
@click.option("--no-cache", is_flag=True, help="Reuse nothing that other executions recorded.")
@click.option("--detach", is_flag=True, help="Leave once it waits for an answer, a time or "
              "another execution, and nothing of it runs here.")  # fmt: skip
@click.option("--queue", help="Enqueue it there for a worker (kitaru worker), and follow it.")
@click.option("--priority", type=int, help="Enqueue it; higher ones are claimed first (0).")
@click.option("--limit-key", help="Enqueue it under the limit of this key, beside its queue's.")
@click.option("--delay", type=float, metavar="SECONDS", help="Enqueue it; not begun before.")
@click.pass_obj
def run(
    session: Session,
    /,
    target: str,
    values: tuple[str, ...],
    as_json: str | None,
    key: str | None,
    no_cache: bool,
    detach: bool,
    **queueing: Any,
) -> int:
    from kitaru import settings
    from kitaru.target import split_target

    # First: the engine takes its time to load, a mistyped file need not.
    split_target(target, cwd=settings.current_folder())

    from kitaru.cli.running import run_target

    return run_target(
        session,
        target,
        values,
        as_json=as_json,
        key=key,
        no_cache=no_cache,
        detach=detach,
        queueing=queueing,
    )
