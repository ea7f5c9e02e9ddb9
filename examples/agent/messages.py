"""What agent and model say to each other: plain dataclasses, recorded as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class ToolCall:
    id: str
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Message:
    role: Literal["user", "assistant", "tool"]
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    answers: str | None = None
    """The id of the tool call that this message answers."""


@dataclass(frozen=True)
class Reply:
    """What a model said, and what it cost."""

    message: Message
    tokens: int
