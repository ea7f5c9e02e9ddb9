"""The calls of an execution as a tree: what called what, in which branch, folded where equal.

Builds nodes from records and knows nothing of how they are drawn. A branch (a
task of its own) is a node only where several calls were made in it; many
siblings of one checkpoint are one node with counts, however many thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kitaru.model import CheckpointCall

FOLD_ABOVE = 8
"""So many siblings of one checkpoint are still shown one by one."""
MAX_FAILED_SHOWN = 3
"""Of those that failed among folded ones, so many are shown by themselves too."""


@dataclass
class Node:
    """One call, several equal ones (``folded``), or a branch, which has none of its own."""

    name: str
    calls: list[CheckpointCall] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    folded: bool = False
    branches: int = 0

    @property
    def first(self) -> int:
        """Where it stands among its siblings."""
        own = [call.seq for call in self.calls]
        return min([*own, *(child.first for child in self.children)], default=0)


_Children = dict[str, list[CheckpointCall]]


def build(calls: Sequence[CheckpointCall]) -> list[Node]:
    """The nodes at the top: calls of the flow itself, and those whose parent is not recorded."""
    known = {call.call_id for call in calls}
    children: _Children = {}
    for call in calls:
        parent = next((p for p in call.parent_call_ids if p in known), "")
        children.setdefault(parent, []).append(call)
    return _nodes(children.get("", []), children, set())


def _nodes(
    calls: Sequence[CheckpointCall], children: _Children, above: set[str], depth: int = 0
) -> list[Node]:
    """Nodes of siblings: those in branches by their branch, then those of one name together."""
    here: list[CheckpointCall] = []
    branches: dict[str, list[CheckpointCall]] = {}
    for call in calls:
        path = _path(call.branch)
        if len(path) > depth:
            branches.setdefault("/".join(path[: depth + 1]), []).append(call)
        else:
            here.append(call)
    found: list[Node] = []
    for label, inside in branches.items():
        if len(inside) == 1:
            here += inside
        else:
            name = label.rpartition("/")[2].rpartition("#")[0].rpartition(".")[2]
            nodes = _nodes(inside, children, above, depth + 1)
            found.append(Node(name, [], nodes, branches=1))
    found = _together(found, children, above)
    by_name: dict[str, list[CheckpointCall]] = {}
    for call in here:
        by_name.setdefault(call.name, []).append(call)
    for name, same in by_name.items():
        if len(same) > FOLD_ABOVE:
            found.append(_folded(name, same, children, above))
        else:
            found += [_single(call, children, above) for call in same]
    return sorted(found, key=lambda node: node.first)


def _path(branch: str) -> list[str]:
    return [part for part in branch.split("/") if part]


def _single(call: CheckpointCall, children: _Children, above: set[str]) -> Node:
    below = _below([call], children, above)
    return Node(call.name, [call], _nodes(below, children, above | {call.call_id}))


def _folded(name: str, calls: list[CheckpointCall], children: _Children, above: set[str]) -> Node:
    ids = {call.call_id for call in calls}
    below = _nodes(_below(calls, children, above), children, above | ids)
    failed = [call for call in calls if call.status != "completed"][:MAX_FAILED_SHOWN]
    shown = [_single(call, {}, above) for call in failed]
    return Node(name, calls, [*shown, *below], folded=True)


def _below(
    calls: Iterable[CheckpointCall], children: _Children, above: set[str]
) -> list[CheckpointCall]:
    # A damaged store may have calls that are their own ancestors.
    return [
        child
        for call in calls
        if call.call_id not in above
        for child in children.get(call.call_id, ())
    ]


def _together(branches: list[Node], children: _Children, above: set[str]) -> list[Node]:
    """Branches of one coroutine as one node, where there are many of them."""
    by_name: dict[str, list[Node]] = {}
    for node in branches:
        by_name.setdefault(node.name, []).append(node)
    found: list[Node] = []
    for name, same in by_name.items():
        if len(same) <= FOLD_ABOVE:
            found += same
            continue
        inside: dict[str, list[CheckpointCall]] = {}
        for call in _own_calls(same):
            inside.setdefault(call.name, []).append(call)
        nodes = [
            _folded(each, calls, children, above)
            if len(calls) > FOLD_ABOVE
            else Node(each, calls, folded=True)
            for each, calls in inside.items()
        ]
        found.append(Node(name, [], nodes, branches=len(same)))
    return found


def _own_calls(nodes: Iterable[Node]) -> list[CheckpointCall]:
    """The calls made in these branches themselves, not those that these calls made."""
    found: list[CheckpointCall] = []
    for node in nodes:
        found += node.calls if node.calls else _own_calls(node.children)
    return found
