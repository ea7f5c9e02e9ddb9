"""What a shell may complete: executions, flows and checkpoints of the store that is there.

Looks and makes nothing, says nothing, and answers with nothing where it cannot
look: a key that completes must not fail.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from kitaru.looking import Looking

MAX_OFFERED = 100


def _quietly(
    find: Callable[[Looking, click.Context], Iterable[CompletionItem]],
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(
        context: click.Context, parameter: click.Parameter, begun: str
    ) -> list[CompletionItem]:
        try:
            with open(os.devnull, "w") as nobody, contextlib.redirect_stderr(nobody):
                from kitaru.cli.place import existing

                found = list(find(existing().executions, context))
        except Exception:
            return []
        return [item for item in found if begun.lower() in item.value.lower()][:MAX_OFFERED]

    return complete


@_quietly
def execution_ids(executions: Looking, context: click.Context) -> Iterable[CompletionItem]:
    for head in executions.heads(limit=MAX_OFFERED):
        yield CompletionItem(head.exec_id, help=f"{head.flow_name} {head.status.value}")


@_quietly
def flows(executions: Looking, context: click.Context) -> Iterable[CompletionItem]:
    heads = executions.heads(limit=1_000)
    for name in dict.fromkeys(head.flow_name for head in heads):
        yield CompletionItem(name)


@_quietly
def checkpoints(executions: Looking, context: click.Context) -> Iterable[CompletionItem]:
    calls = executions.list_checkpoints(context.params["exec_id"])
    for name in dict.fromkeys(call.name for call in calls):
        yield CompletionItem(name)


@_quietly
def waiting_ids(executions: Looking, context: click.Context) -> Iterable[CompletionItem]:
    found = executions.all_pending_waits(limit=MAX_OFFERED)
    named = {each.exec_id: f"{each.flow_name} waits for {each.name}" for each in found}
    for exec_id, text in named.items():
        yield CompletionItem(exec_id, help=text)


@_quietly
def waits(executions: Looking, context: click.Context) -> Iterable[CompletionItem]:
    for each in executions.pending_waits(context.params["exec_id"]):
        yield CompletionItem(each.name, help=each.question or "")


def codes(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    from kitaru.codes import CODES

    found = [code for code in CODES if begun.lower() in code]
    return [CompletionItem(code, help=CODES[code][1]) for code in found]
