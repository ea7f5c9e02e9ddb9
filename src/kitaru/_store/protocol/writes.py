"""Every write there is: each is one transaction, and its docstring one sentence of the manual.

They lie by what they are about: executions, waits, schedules, processes, and what outlasts them.
"""

from __future__ import annotations

from kitaru._store.protocol.executions import (
    Claim,
    ClaimNext,
    Finish,
    GiveUp,
    Record,
    Release,
    Retry,
    SetLimits,
    Start,
    TryAgain,
)
from kitaru._store.protocol.keeping import Delete, DropBlobs, Forget, Import, Remember, Sweep
from kitaru._store.protocol.processes import (
    Beat,
    DeclareDead,
    Draining,
    Enlist,
    Reap,
    RegisterOwner,
)
from kitaru._store.protocol.schedules import (
    DropSchedule,
    Fire,
    PauseSchedule,
    RemoveSchedule,
    SetSchedule,
)
from kitaru._store.protocol.waits import Answer, Cancel, Expire, Park, Wake

Write = (
    RegisterOwner
    | DeclareDead
    | Beat
    | Reap
    | Start
    | SetSchedule
    | DropSchedule
    | PauseSchedule
    | RemoveSchedule
    | Fire
    | Claim
    | ClaimNext
    | SetLimits
    | Enlist
    | Draining
    | Record
    | Finish
    | TryAgain
    | Release
    | Retry
    | GiveUp
    | Park
    | Wake
    | Answer
    | Expire
    | Cancel
    | Remember
    | Forget
    | Delete
    | Sweep
    | DropBlobs
    | Import
)
