"""``kitaru executions``: what its commands take. What they do is loaded when they run."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.completing import checkpoints, execution_ids, flows, waiting_ids, waits
from kitaru.cli.output import Session
from kitaru.status import ExecutionStatus

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_ID = click.argument("exec_id", metavar="EXECUTION", shell_complete=execution_ids)
_CODE = click.option(
    "--code",
    metavar="FOLDER",
    help="The folder to import the flow's module from, where the recorded one is not to be "
    "trusted or has moved.",
)
_DETACH = click.option("--detach", is_flag=True, help="Leave once it waits, as with `kitaru run`.")


@click.command(
    "list",
    cls=Command,
    help="List executions, newest first: how each stands, when it was made, how long it took, how "
    "many of its calls succeeded and how many tries failed. In a pipe: columns separated by tabs, "
    "with times in full.",
    examples="""
kitaru executions list
kitaru executions list --flow hello --status interrupted
kitaru executions list --since 2h --tag nightly
kitaru executions list --before 2026-03-01 --limit 100 -o json
kitaru executions list | cut -f 1,3
""",
)
@click.option("--flow", help="Only those of this flow, by name or id.", shell_complete=flows)
@click.option("--status", type=click.Choice([s.value for s in ExecutionStatus]), metavar="STATUS",
              help=f"Only these: {', '.join(ExecutionStatus)}.")  # fmt: skip
@click.option("--key", help="Only those that were run with this key.")
@click.option("--tag", "tags", multiple=True, help="Only those with this tag; all of several.")
@click.option("--since", metavar="WHEN",
              help="Only those made since then: 30min, 2h, 7d (ago), or a day in UTC.")  # fmt: skip
@click.option("--before", metavar="WHEN|EXECUTION",
              help="Only those made before a time, or before another execution: the next page.",
              shell_complete=execution_ids)  # fmt: skip
@click.option("--limit", type=int, default=20, show_default=True, help="At most so many.")
@click.option("--absolute", is_flag=True, help="Show when in full, instead of how long ago.")
@click.pass_obj
def list_(
    session: Session,
    flow: str | None,
    status: str | None,
    key: str | None,
    tags: tuple[str, ...],
    since: str | None,
    before: str | None,
    limit: int,
    absolute: bool,
) -> None:
    from kitaru.cli.looking import Wanted, list_executions

    wanted = Wanted(flow, status, key, tags, since, before, limit)
    list_executions(session, wanted, absolute=absolute)


@click.command(
    cls=Command,
    help="Show an execution: how it stands, its inputs, a preview of its result, its notes and "
    "failure, and its calls as a tree with bars for how long they took. Any part of its id that "
    "no other has will do.",
    examples="""
kitaru executions get 01a2
kitaru executions get 01a2 --result
kitaru executions get 01a2 -o json
""",
)
@_ID
@click.option("--result", is_flag=True, help="Print only what the flow returned.")
@click.pass_obj
def get(session: Session, exec_id: str, result: bool) -> None:
    from kitaru.cli.inspecting import show_execution

    show_execution(session, exec_id, only_result=result)


@click.command(
    cls=Command,
    help="Go on with an interrupted or pending execution, here and now. What is recorded is "
    "not done again. The flow's module is imported from the folder recorded with it.",
    examples="""
kitaru executions resume 01a2
kitaru executions resume 01a2 --code ~/projects/shop
""",
)
@_ID
@_CODE
@_DETACH
@click.pass_obj
def resume(session: Session, exec_id: str, code: str | None, detach: bool) -> int:
    from kitaru.cli import running

    return running.resume(session, exec_id, code, detach=detach)


@click.command(
    cls=Command,
    help="Run a failed execution again: what made it fail runs again, all other results stay.",
    examples="""
kitaru executions retry 01a2
""",
)
@_ID
@_CODE
@_DETACH
@click.pass_obj
def retry(session: Session, exec_id: str, code: str | None, detach: bool) -> int:
    from kitaru.cli import running

    return running.retry(session, exec_id, code, detach=detach)


_FROM = click.option(
    "--from",
    "from_",
    metavar="CALL",
    help="Run anew from this call on: a checkpoint's name, name#2 for the second call of it, or a "
    "call's id.",
)
_OVERRIDES = click.option(
    "--overrides",
    metavar="JSON",
    help="Outcomes to give, as an object: keys are checkpoint.NAME or wait.NAME.",
)


@click.command(
    cls=Command,
    help="Make a new execution from a finished one, and run it here. What is not to be run anew is "
    "carried over, and the old execution stays as it is.",
    examples="""
kitaru executions replay 01a2
kitaru executions replay 01a2 --from publish
kitaru executions replay 01a2 --from draft#2 --args '{"topic": "lakes"}'
kitaru executions replay 01a2 --overrides '{"checkpoint.draft": "my own text"}'
""",
)
@_ID
@_FROM
@click.option("--args", "as_json", metavar="JSON",
              help="Inputs of the flow to change, as an object.")  # fmt: skip
@_OVERRIDES
@_CODE
@_DETACH
@click.pass_obj
def replay(
    session: Session,
    exec_id: str,
    from_: str | None,
    as_json: str | None,
    overrides: str | None,
    code: str | None,
    detach: bool,
) -> int:
    from kitaru.cli import running

    return running.replay(
        session,
        exec_id,
        code=code,
        from_=from_,
        as_json=as_json,
        overrides=overrides,
        detach=detach,
    )


@click.command(
    cls=Command,
    help="Tell what a resume, retry or replay would take from what is recorded and what it would "
    "run anew, with today's code, and what that cost the last time. Runs nothing of it; the flow's "
    "module is imported, to compare its code.",
    examples="""
kitaru executions plan 01a2
kitaru executions plan 01a2 --for retry
kitaru executions plan 01a2 --from publish
kitaru executions plan 01a2 --overrides '{"checkpoint.draft": "my own text"}' -o json
kitaru executions plan --all-live --code ./new-version
""",
)
@click.argument("exec_id", metavar="[EXECUTION]", required=False, shell_complete=execution_ids)
@click.option("--all-live", is_flag=True,
              help="Every unfinished execution instead, against the code here or in --code: what "
              "would be recalled, run anew, and stop. Exit code 1 if one would stop.")  # fmt: skip
@click.option("--flow", metavar="NAME", help="With --all-live: only those of this flow.")
@click.option("--for", "for_", type=click.Choice(["resume", "retry", "replay"]),
              help="What to plan; without it what fits the execution.")  # fmt: skip
@_FROM
@click.option("--args", "as_json", metavar="JSON",
              help="Inputs of the flow to change, as an object.")  # fmt: skip
@_OVERRIDES
@_CODE
@click.pass_obj
def plan(
    session: Session,
    exec_id: str | None,
    all_live: bool,
    flow: str | None,
    for_: str | None,
    from_: str | None,
    as_json: str | None,
    overrides: str | None,
    code: str | None,
) -> int:
    if all_live:
        if any(word is not None for word in (exec_id, for_, from_, as_json, overrides)):
            raise click.UsageError("--all-live is about every execution: leave the rest out")
        from kitaru.cli.live_plans import show_live_plans

        return show_live_plans(session, flow=flow, code=code)
    if exec_id is None or flow is not None:
        raise click.UsageError("name one EXECUTION, or say --all-live (with --flow for one flow)")
    from kitaru.cli import planned

    planned.show_plan(
        session, exec_id, code=code, for_=for_, from_=from_, as_json=as_json, overrides=overrides
    )
    return 0


@click.command(
    cls=Command,
    help="Cancel executions and their children, wherever they run. What runs is cancelling until "
    "its code has stopped: nothing new starts, bodies that are running may finish and are "
    "recorded. Waits for that, unless told not to.",
    examples="""
kitaru executions cancel 01a2
kitaru executions cancel 01a2 01a3 --reason "wrong inputs"
kitaru executions cancel 01a2 --no-wait
""",
)
@click.argument("exec_ids", metavar="EXECUTION...", nargs=-1, required=True,
                shell_complete=execution_ids)  # fmt: skip
@click.option("--reason", metavar="TEXT", help="Why: recorded, and told to whoever waits.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the code has stopped.")
@click.pass_obj
def cancel(session: Session, exec_ids: tuple[str, ...], reason: str | None, no_wait: bool) -> int:
    from kitaru.cli.cancelling import perform

    return perform(session, exec_ids, reason, wait=not no_wait)


@click.command(
    cls=Command,
    help="Tell why each call of a checkpoint ran, or whose result it reused, and show what differs "
    "as a diff: arguments and code, old against new. Without a checkpoint: every call.",
    examples="""
kitaru executions why 01a2
kitaru executions why 01a2 fetch_page
""",
)
@_ID
@click.argument("checkpoint", required=False, shell_complete=checkpoints)
@click.pass_obj
def why(session: Session, exec_id: str, checkpoint: str | None) -> None:
    from kitaru.cli.inspecting import explain_calls

    explain_calls(session, exec_id, checkpoint)


@click.command(
    cls=Command,
    help="Show what an execution printed and logged: its flow and its checkpoints, in every life. "
    "In a pipe: time, level, checkpoint and text, separated by tabs. With --follow: also what is "
    "printed next, until it ends; with -o json that is JSON Lines, whose `event` is log, waiting, "
    "terminal or interrupted.",
    examples="""
kitaru executions logs 01a2
kitaru executions logs 01a2 --follow
kitaru executions logs 01a2 --checkpoint fetch_page --level WARNING
kitaru executions logs 01a2 --limit 20 -o json
""",
)
@_ID
@click.option("--follow", is_flag=True, help="Go on until the execution ends.")
@click.option("--checkpoint", help="Only of this checkpoint, or of one call of it, by its id.")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), metavar="LEVEL",
              help=f"Only from this level on: {', '.join(LEVELS)}. What is printed counts as INFO, "
              "on stderr as WARNING.")  # fmt: skip
@click.option("--limit", type=int, help="At most so many, the newest.")
@click.pass_obj
def logs(
    session: Session,
    exec_id: str,
    follow: bool,
    checkpoint: str | None,
    level: str | None,
    limit: int | None,
) -> int:
    from kitaru.cli.logs import Asked, follow_logs, show_logs

    asked = Asked(checkpoint, level, limit)
    if follow:
        return follow_logs(session, exec_id, asked)
    show_logs(session, exec_id, asked)
    return 0


@click.command(
    "input",
    cls=Command,
    help="Answer what executions wait for. With --value: JSON, or a text where a text is asked "
    "for. With --interactive: a form in this terminal, for one execution or for all that wait, "
    "oldest first. The first answer that fits wins; one that does not fit changes nothing. Says "
    "which live process goes on with the execution; --resume runs it here.",
    examples="""
kitaru executions input 01a2 --wait approve --value true
kitaru executions input 01a2 --wait approve --value '{"approved": true}' --resume
kitaru executions input 01a2 --wait approve --abort
kitaru executions input --interactive
""",
)
@click.argument("exec_id", metavar="[EXECUTION]", required=False, shell_complete=waiting_ids)
@click.option("--wait", metavar="NAME", help="Which wait: its name, label or (part of its) id. "
              "Not needed if it waits for one thing only.", shell_complete=waits)  # fmt: skip
@click.option("--value", metavar="JSON", help="The answer.")
@click.option("--abort", is_flag=True, help="Abort the wait: the execution is cancelled.")
@click.option("--interactive", is_flag=True, help="Ask in this terminal.")
@click.option("--resume", "resume_here", is_flag=True, help="Then run the execution here, unless "
              "a live process goes on with it: then follow it.")  # fmt: skip
@click.option("--by", metavar="WHO", help="Recorded as who answered, instead of user@host.")
@_CODE
@click.pass_obj
def input_(
    session: Session,
    exec_id: str | None,
    wait: str | None,
    value: str | None,
    abort: bool,
    interactive: bool,
    resume_here: bool,
    by: str | None,
    code: str | None,
) -> int:
    from kitaru.cli.answering import Wanted, perform

    return perform(session, Wanted(exec_id, wait, value, abort, interactive, resume_here, code, by))


@click.command(
    "decide",
    cls=Command,
    help="Decide what is to become of a call that Kitaru never runs on its own: one with "
    'effect="once" that began in a process that died; one with effect="once" or transaction=True '
    "that is recorded with other inputs; in a strict flow any call that is. run: its body runs. "
    "adopt: it came to --value (JSON), or to the recorded call (--record, if there are several). "
    "abort: the execution is cancelled. CALL is the call's id, or the checkpoint's name.",
    examples="""
kitaru executions decide 01a2 charge run
kitaru executions decide 01a2 charge adopt --value '{"receipt": 7}'
kitaru executions decide 01a2 charge adopt --record 5f1c09aa31e2 --resume
kitaru executions decide 01a2 charge abort
""",
)
@click.argument("exec_id", metavar="EXECUTION", shell_complete=waiting_ids)
@click.argument("call", metavar="CALL", shell_complete=waits)
@click.argument("decision", type=click.Choice(["run", "adopt", "abort"]))
@click.option("--value", metavar="JSON", help="With adopt: what the call came to.")
@click.option("--record", metavar="CALL", help="With adopt: the recorded call that stands for it.")
@click.option("--resume", "resume_here", is_flag=True, help="Then run the execution here, unless "
              "a live process goes on with it: then follow it.")  # fmt: skip
@click.option("--by", metavar="WHO", help="Recorded as who decided, instead of user@host.")
@_CODE
@click.pass_obj
def decide(
    session: Session,
    exec_id: str,
    call: str,
    decision: str,
    value: str | None,
    record: str | None,
    resume_here: bool,
    by: str | None,
    code: str | None,
) -> int:
    from kitaru.cli.deciding import perform

    return perform(session, exec_id, call, decision, value=value, record=record,
                   resume=resume_here, code=code, by=by)  # fmt: skip


@click.command(
    cls=Command,
    help="Delete finished executions with their children, logs and large values, for ever. What "
    "others have reused of them they keep. A tombstone stays: id, status and times.",
    examples="""
kitaru executions delete 01a2
kitaru executions delete 01a2 01a3 --yes -o json
""",
)
@click.argument("exec_ids", metavar="EXECUTION...", nargs=-1, required=True,
                shell_complete=execution_ids)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete(session: Session, exec_ids: tuple[str, ...], yes: bool) -> None:
    from kitaru.cli import clearing

    clearing.delete(session, exec_ids, sure=yes)


@click.command(
    cls=Command,
    help="Write a finished execution to one file: inputs, result, outcomes, large values, waits, "
    "artifacts and notes, of its children too. Logs are not in it.",
    examples="""
kitaru executions export 01a2
kitaru executions export 01a2 --to bug-4711.kitaru
""",
)
@_ID
@click.option("--to", metavar="FILE", help="The file, which is not there yet; else ID.kitaru.")
@click.pass_obj
def export(session: Session, exec_id: str, to: str | None) -> None:
    from kitaru.cli import moving

    moving.export(session, exec_id, to)


@click.command(
    "import",
    cls=Command,
    help="Record the execution that a file holds, with its children. Everything is checked before "
    "anything is written. It keeps its id where that is free here; else it gets a new one, and "
    "shows the old one. Nothing of it is run.",
    examples="""
kitaru executions import bug-4711.kitaru
""",
)
@click.argument("file", type=click.Path(dir_okay=False))
@click.pass_obj
def import_(session: Session, file: str) -> None:
    from kitaru.cli import moving

    moving.import_(session, file)
