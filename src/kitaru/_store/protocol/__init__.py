"""What the engine asks of a store: writes, answers, reads.

A *write* is a value; applying one is one transaction and one sentence of the
manual, written as the docstring of its class. Every write for a running
execution carries the owner's epoch and takes effect only if that epoch still
rules; what it does when it does not is to raise :class:`Fenced` and change
nothing. Writes queued together are committed together, each on its own terms:
one that is refused does not fail its neighbours.

A store knows nothing of user values (it keeps bytes), of clocks (every write
carries its instants, in microseconds since the epoch) or of threads waiting
for executions.
"""

from __future__ import annotations

from kitaru._store.protocol.reads import (
    Bundle,
    Head,
    KeptCall,
    OpenWait,
    Outcome,
    PastCall,
    Place,
    Recorded,
    RecordedArtifact,
    RecordedAttempt,
    RecordedCall,
    RecordedCode,
    RecordedMemory,
    RecordedWait,
    Reusable,
    Sample,
    Tombstone,
)
from kitaru._store.protocol.refusals import (
    AlreadyRecorded,
    Fenced,
    Missing,
    NotInState,
    Refused,
)
from kitaru._store.protocol.rows import (
    NO_FACTS,
    ArtifactRow,
    CallRow,
    CodeRow,
    ExecutionRow,
    Facts,
    IntentRow,
    LearntRow,
    MemoryRow,
    NoteRow,
    Owner,
    SourceRow,
    WaitRow,
)
from kitaru._store.protocol.store import (
    Store,
)
from kitaru._store.protocol.writes import (
    Answer,
    Cancel,
    Claim,
    DeclareDead,
    Delete,
    DropBlobs,
    Expire,
    Finish,
    Forget,
    GiveUp,
    Import,
    Park,
    Record,
    RegisterOwner,
    Release,
    Remember,
    Retry,
    Start,
    Started,
    Sweep,
    TryAgain,
    Wake,
    Write,
)

__all__ = [
    "NO_FACTS",
    "AlreadyRecorded",
    "Answer",
    "ArtifactRow",
    "Bundle",
    "CallRow",
    "Cancel",
    "Claim",
    "CodeRow",
    "DeclareDead",
    "Delete",
    "DropBlobs",
    "ExecutionRow",
    "Expire",
    "Facts",
    "Fenced",
    "Finish",
    "Forget",
    "GiveUp",
    "Head",
    "Import",
    "IntentRow",
    "KeptCall",
    "LearntRow",
    "MemoryRow",
    "Missing",
    "NotInState",
    "NoteRow",
    "OpenWait",
    "Outcome",
    "Owner",
    "Park",
    "PastCall",
    "Place",
    "Record",
    "Recorded",
    "RecordedArtifact",
    "RecordedAttempt",
    "RecordedCall",
    "RecordedCode",
    "RecordedMemory",
    "RecordedWait",
    "Refused",
    "RegisterOwner",
    "Release",
    "Remember",
    "Retry",
    "Reusable",
    "Sample",
    "SourceRow",
    "Start",
    "Started",
    "Store",
    "Sweep",
    "Tombstone",
    "TryAgain",
    "WaitRow",
    "Wake",
    "Write",
]
