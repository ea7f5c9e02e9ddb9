"""An agent that answers a question with tools: python agent.py ["QUESTION"] [--key KEY]

Each turn of the model and each use of a tool is a checkpoint. Kill it anywhere
and start it again with the same key: the turns that were paid for are not paid for
again, the tools that had answered are not asked again, and it goes on mid-thought.
"""

from __future__ import annotations

import argparse
import logging

import model
from messages import Message, Reply, ToolCall
from tools import TOOLS

import kitaru
from kitaru import KitaruClient, Retry, checkpoint, flow

QUESTION = "How did our spending develop this quarter?"
MAX_TURNS = 12

log = logging.getLogger("agent")


# cache=False: the same question may be answered anew in another execution. *Within* one
# execution a turn is never asked twice, whatever happens: that is not the cache, that is
# the record. `type` is a label, by which costs can be looked up later.
@checkpoint(type="llm_call", cache=False, retries=Retry(max_attempts=5))
def think(conversation: list[Message]) -> Reply:
    log.info("thinking")
    reply = model.complete(conversation)
    kitaru.log(tokens=reply.tokens)
    return reply


@checkpoint(type="tool_call", cache=False)
def use(tool: str, arguments: dict[str, object]) -> str:
    log.info("using %s %s", tool, arguments)
    result = TOOLS[tool](**arguments)
    if isinstance(result, list):
        return "; ".join(", ".join(map(str, row)) for row in result)
    return str(result)


@flow
def agent(question: str) -> str:
    conversation = [Message("user", question)]
    for _ in range(MAX_TURNS):
        reply = think(conversation).message
        conversation.append(reply)
        if not reply.calls:
            return reply.text
        conversation += answer_all(reply.calls)
    raise RuntimeError(f"no answer after {MAX_TURNS} turns")


def answer_all(calls: tuple[ToolCall, ...]) -> list[Message]:
    """Use the tools side by side; what a tool cannot do is an answer too, for the model to mend."""
    running = [(call, use.submit(call.tool, call.arguments)) for call in calls]
    answers = []
    for call, future in running:
        try:
            text = future.result()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        answers.append(Message("tool", text, answers=call.id))
    return answers


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("question", nargs="?", default=QUESTION)
    options.add_argument("--key", help="the same key and question: the same execution, resumed")
    chosen = options.parse_args()

    # Progress goes to stderr, the answer to stdout.
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    handle = agent.options(key=chosen.key).run(chosen.question)
    print(handle.wait())
    calls = KitaruClient().executions.list_checkpoints(handle.exec_id)
    paid = sum(call.metadata.get("tokens", 0) for call in calls)
    print(f"({len(calls)} calls on record, {paid} tokens paid for)")


if __name__ == "__main__":
    main()
