"""The model: a script instead of a service, so that the example runs without network or key.

It is called as a service would be (the conversation in, a reply and its cost out),
it reads what the tools answered, and its first query is wrong, as those of models are.
For a real one, replace `complete` by a call of your provider's client.
"""

from __future__ import annotations

from messages import Message, Reply, ToolCall


def complete(conversation: list[Message]) -> Reply:
    answers = [message.text for message in conversation if message.role == "tool"]
    match answers:
        case []:
            reply = asks(
                ToolCall("q1", "query", {"sql": by_month("research")}),
                ToolCall("q2", "query", {"sql": "select sum(amount) from expenses"}),
            )
        case [_, failed] if "no such column" in failed:
            reply = asks(ToolCall("q3", "query", {"sql": "select sum(cents) from expenses"}))
        case [months, _, total]:
            first, *_, last = [int(row.split(", ")[1]) for row in months.split("; ")]
            reply = asks(
                ToolCall("c1", "calculate", {"expression": f"({last} - {first}) / {first} * 100"}),
                ToolCall("c2", "calculate", {"expression": f"{total} / 100"}),
            )
        case [*_, growth, total]:
            reply = Message(
                "assistant",
                f"Research spent {float(growth):.0f} % more in March than in January, mostly at "
                f"Lumen Cloud. All teams together spent {float(total):,.2f} in the quarter.",
            )
    return Reply(reply, tokens=sum(len(message.text) for message in [*conversation, reply]) // 4)


def asks(*calls: ToolCall) -> Message:
    return Message("assistant", calls=calls)


def by_month(team: str) -> str:
    return (
        "select month, sum(cents) from expenses "
        f"where team = '{team}' group by month order by month"
    )
