"""``kitaru worker``: what it takes. The engine is loaded when it runs, not for its help."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.output import Session


@click.command(
    cls=Command,
    help="Run what is enqueued, go on with what other processes left behind, and start what is "
    "scheduled, until SIGTERM or Ctrl-C. Then nothing new starts, bodies get --drain-seconds to "
    "finish and record, the rest is handed back to the other workers at once, and the exit "
    "status is 0; a second signal ends at once. Name the modules or files of your flows.",
    examples="""
kitaru worker my.package.flows
kitaru worker my_flows.py --concurrency 4 --queue mail --queue reports
kitaru worker my_flows.py --flows publish,import_orders --port 9464
""",
)
@click.argument("modules", metavar="MODULE_OR_FILE...", nargs=-1, required=True)
@click.option("--flows", metavar="NAMES", help="Serve these only: their names, with commas.")
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    metavar="N",
    help="Executions at once in this process (default: max_concurrency, 32).",
)
@click.option(
    "--queue",
    "queues",
    metavar="NAME",
    multiple=True,
    help="Take from this queue only; more than once for several (default: all).",
)
@click.option("--name", help="What it is called (default: the machine's name and the process).")
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0, 1e6),
    metavar="S",
    default=30.0,
    show_default=True,
    help="What bodies get to finish once it is told to stop.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Answer /healthz, /readyz and /metrics there (0: any that is free).",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Where --port listens: elsewhere than on this machine, whoever reaches it can read.",
)
@click.pass_obj
def worker(
    session: Session,
    modules: tuple[str, ...],
    flows: str | None,
    concurrency: int | None,
    queues: tuple[str, ...],
    name: str | None,
    drain_seconds: float,
    port: int | None,
    host: str,
) -> int:
    from kitaru import settings
    from kitaru.target import check_where

    # First: the engine takes its time to load, a mistyped file need not.
    for where in modules:
        check_where(where, cwd=settings.current_folder())

    from kitaru.cli.working import Asked, work

    asked = Asked(
        modules=modules,
        flows=tuple(part.strip() for part in (flows or "").split(",") if part.strip()),
        concurrency=concurrency,
        queues=queues,
        name=name,
        drain_seconds=drain_seconds,
        port=port,
        host=host,
    )
    return work(session, asked)
