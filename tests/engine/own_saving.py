"""Flows whose checkpoints save from processes of their own: those have to be imported."""

from __future__ import annotations

from typing import Any

import kitaru
from kitaru import checkpoint, flow


@checkpoint(runtime="process")
def far(topic: str) -> str:
    kitaru.save("prompt", f"about {topic}", type="prompt")
    return topic.upper()


@flow
def save_far(topic: str) -> str:
    return far(topic)


@checkpoint(runtime="process")
def loads() -> Any:
    exec_id = kitaru.current_execution_id()
    assert exec_id is not None
    return kitaru.load(exec_id, "prompt")


@flow
def save_far_and_load() -> Any:
    return loads()
