"""``kitaru schedules``: what its commands take. What they do is loaded when they run."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.output import Session

_FLOW = click.argument("flow")


@click.command(
    "list",
    cls=Command,
    help="List the flows that start by themselves: when next, when last, and what stands in the "
    "way. In a pipe: columns separated by tabs.",
    examples="""
kitaru schedules list
kitaru schedules list -o json
""",
)
@click.pass_obj
def list_(session: Session) -> None:
    from kitaru.cli.scheduled import list_schedules

    list_schedules(session)


@click.command(
    cls=Command,
    help="Let a schedule fire no more until it is resumed. Deploys do not change that. FLOW is the "
    "flow's name or id.",
    examples="""
kitaru schedules pause morning_report
""",
)
@_FLOW
@click.pass_obj
def pause(session: Session, flow: str) -> None:
    from kitaru.cli.scheduled import pause_schedule

    pause_schedule(session, flow)


@click.command(
    cls=Command,
    help="Let a paused schedule fire again, from its next fire time on. What was due meanwhile is "
    "not made up for.",
    examples="""
kitaru schedules resume morning_report
""",
)
@_FLOW
@click.pass_obj
def resume(session: Session, flow: str) -> None:
    from kitaru.cli.scheduled import resume_schedule

    resume_schedule(session, flow)


@click.command(
    cls=Command,
    help="Forget the schedule of a flow that is gone, or of which the code has dropped it. Refused "
    "while a live worker has the flow with its schedule: pause that, or take it out of the code. "
    "What it has started stays.",
    examples="""
kitaru schedules remove old_report
""",
)
@_FLOW
@click.pass_obj
def remove(session: Session, flow: str) -> None:
    from kitaru.cli.scheduled import remove_schedule

    remove_schedule(session, flow)


@click.command(
    cls=Command,
    help="Start an execution as the schedule would, for a worker to run, and print its id. The "
    "schedule stays as it is. A fire time that has an execution already gets no second one.",
    examples="""
kitaru schedules fire morning_report
kitaru schedules fire morning_report --at 2026-03-01T06:00
""",
)
@_FLOW
@click.option("--at", metavar="TIME", help="The fire time, in UTC; now if none is said.")
@click.pass_obj
def fire(session: Session, flow: str, at: str | None) -> None:
    from kitaru.cli.scheduled import fire_schedule

    fire_schedule(session, flow, at)
