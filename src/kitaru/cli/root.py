"""``kitaru`` itself: its groups of commands, and what their help says first."""

from __future__ import annotations

import click

import kitaru as package
from kitaru.cli.commands import Group


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(f"kitaru {package.__version__}")
        context.exit()


_EXECUTIONS = "kitaru.cli.executions"

executions = Group(
    name="executions",
    help="List, show, answer, resume, retry and explain executions.",
    lazy={
        "list": (_EXECUTIONS, "List executions, newest first."),
        "get": (_EXECUTIONS, "Show an execution and its checkpoints."),
        "resume": (_EXECUTIONS, "Go on with an interrupted or pending execution."),
        "retry": (_EXECUTIONS, "Run what made an execution fail again."),
        "replay": (_EXECUTIONS, "Make a new execution from an old one."),
        "plan": (_EXECUTIONS, "Tell what a resume, retry or replay would do."),
        "input": (_EXECUTIONS, "Answer what executions wait for."),
        "cancel": (_EXECUTIONS, "Cancel executions, and wait until they have stopped."),
        "decide": (_EXECUTIONS, "Decide about a call that does not run on its own."),
        "why": (_EXECUTIONS, "Tell why calls ran, or whose result they reused."),
        "delete": (_EXECUTIONS, "Delete finished executions, for ever."),
        "export": (_EXECUTIONS, "Write a finished execution to one file."),
        "import": (_EXECUTIONS, "Record an execution that a file holds."),
        "logs": (_EXECUTIONS, "Show what an execution printed and logged."),
    },
    examples="""
kitaru executions list --status interrupted
kitaru executions get 01a2 --result
kitaru executions why 01a2 fetch_page
""",
    no_args_is_help=True,
)

_STORE = "kitaru.cli.store"

store = Group(
    name="store",
    help="Back up, measure and upgrade the store of the project here.",
    lazy={
        "backup": (_STORE, "Copy the store while it is in use."),
        "info": (_STORE, "Show what is in the store, and how large it is."),
        "migrate": (_STORE, "Bring an older store up to date."),
    },
    examples="""
kitaru store backup
kitaru store info
kitaru store migrate
""",
    no_args_is_help=True,
)

_MEMORY = "kitaru.cli.memory"

memory = Group(
    name="memory",
    help="List, show, write and delete what flows and programs remember.",
    lazy={
        "list": (_MEMORY, "List the keys of a scope."),
        "get": (_MEMORY, "Print the value of a key."),
        "set": (_MEMORY, "Write a new version of a key."),
        "history": (_MEMORY, "Show every version of a key."),
        "delete": (_MEMORY, "Delete a key; its history stays."),
        "purge": (_MEMORY, "Remove every version, for ever."),
        "scopes": (_MEMORY, "List whose memories there are."),
    },
    examples="""
kitaru memory scopes
kitaru memory list --scope team
kitaru memory set tone formal --scope team
""",
    no_args_is_help=True,
)

_SCHEDULES = "kitaru.cli.schedules"

schedules = Group(
    name="schedules",
    help="List, pause, resume, remove and fire the schedules of flows.",
    lazy={
        "list": (_SCHEDULES, "List the flows that start by themselves."),
        "pause": (_SCHEDULES, "Let a schedule fire no more."),
        "resume": (_SCHEDULES, "Let a paused schedule fire again."),
        "remove": (_SCHEDULES, "Forget the schedule of a flow that is gone."),
        "fire": (_SCHEDULES, "Start an execution as the schedule would."),
    },
    examples="""
kitaru schedules list
kitaru schedules pause morning_report
""",
    no_args_is_help=True,
)

_LIMITS = "kitaru.cli.limits"

limits = Group(
    name="limits",
    help="List, set and remove how many executions run at once, by queue or key.",
    lazy={
        "list": (_LIMITS, "List the limits, and how much of each is taken."),
        "set": (_LIMITS, "Let so many of a queue or key run at once."),
        "remove": (_LIMITS, "Take the limit of a queue or key away."),
    },
    examples="""
kitaru limits list
kitaru limits set slow 2
""",
    no_args_is_help=True,
)


def _list_workers(context: click.Context) -> None:
    """``kitaru workers`` alone: there is nothing else that it could mean."""
    if context.invoked_subcommand is None:
        from kitaru.cli.fleet import list_workers

        list_workers(context.obj)


workers = Group(
    name="workers",
    help="Show who runs what is queued.",
    lazy={"list": ("kitaru.cli.workers", "List the workers that live.")},
    examples="""
kitaru workers list
kitaru worker my.package.flows
""",
    invoke_without_command=True,
    callback=click.pass_context(_list_workers),
)

GROUPS = {
    "executions": executions,
    "store": store,
    "memory": memory,
    "schedules": schedules,
    "limits": limits,
    "workers": workers,
}

kitaru = Group(
    name="kitaru",
    elsewhere={name: f"executions {name}" for name in executions.lazy},
    help="Durable execution for plain Python: what was done is not done again.",
    lazy={
        "init": ("kitaru.cli.init", "Make the store of the project here."),
        "run": ("kitaru.cli.run", "Run a flow and print its result."),
        "worker": ("kitaru.cli.worker", "Run what is enqueued, until it is told to stop."),
        "executions": ("kitaru.cli.root", "List, show, resume, retry and explain."),
        "status": ("kitaru.cli.status", "Show the store, and who runs what."),
        "doctor": ("kitaru.cli.doctor", "Check the store, the settings and the machine."),
        "memory": ("kitaru.cli.root", "List, show and write what is remembered."),
        "schedules": ("kitaru.cli.root", "List, pause and fire what starts by itself."),
        "workers": ("kitaru.cli.root", "Show who runs what is enqueued."),
        "limits": ("kitaru.cli.root", "Say how many executions run at once."),
        "store": ("kitaru.cli.root", "Back up, measure and upgrade the store."),
        "gc": ("kitaru.cli.gc", "Remove what is past its time, and what nothing needs."),
        "explain": ("kitaru.cli.explain", "Explain an error by its code."),
        "completion": ("kitaru.cli.completion", "Print what makes a shell complete our words."),
    },
    later={
        "ui": "",
        "mcp": "",
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
