"""``kitaru`` itself: its commands, and what its help says first."""

from __future__ import annotations

import click

import kitaru as package
from kitaru.cli.commands import Group


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(f"kitaru {package.__version__}")
        context.exit()


kitaru = Group(
    name="kitaru",
    help="Durable execution for plain Python: what was done is not done again.",
    lazy={
        "init": ("kitaru.cli.init", "Make the store of the project here."),
        "run": ("kitaru.cli.run", "Run a flow and print its result."),
        "executions": ("kitaru.cli.executions", "List, show, resume, retry and explain."),
        "status": ("kitaru.cli.status", "Show the store, and who runs what."),
    },
    examples="""
kitaru run my_flows.py:hello -- --name World
kitaru executions list
kitaru executions resume 01a2
""",
    no_args_is_help=True,
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_version,
            help="Print the version and exit.",
        )
    ],
)
