"""Every error code, in the three languages of failure: the one place where codes are listed.

A code names a meaning, not a place: places that mean the same share it, and it
stays when words change. ``errors.py`` carries codes without knowing them; the
page of each is ``docs/errors/CODE.md``. A new code needs a line here and a page
(``tests/test_error_codes.py`` says what is missing).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from kitaru.errors import FailureOrigin


class Kind(enum.StrEnum):
    """Where to look for what went wrong, and so who mends it."""

    YOUR_CODE = "your_code"
    """The flow, its checkpoints and classes: mend the code, then retry."""
    USAGE = "usage"
    """How Kitaru was used: call it, set it or name it differently."""
    MACHINE = "machine"
    """The store, its disk, this machine or this process: the code and the call are right."""


_YOUR_CODE = {
    "user-code-raised": "Your flow or one of its checkpoints raised.",
    "flow-timed-out": "An execution took longer than its flow's timeout.",
    "checkpoint-timed-out": "A try of a checkpoint took longer than its timeout.",
    "module-raised": "The module with the flow raised while it was imported.",
    "module-shadowed": "Another module has the name of the one with the flow.",
    "call-drifted": "A strict flow called a checkpoint with other inputs than before.",
    "replay-point-not-reached": "A replay never came to the call from which it was to run.",
    "class-changed": "A class no longer fits the values that were recorded of it.",
    "class-not-found": "The class of a recorded value is not there any more.",
    "code-changed-meanwhile": "A new process imports other code than the running program has.",
    "codec-failed": "A registered codec raised, or gave what it should not.",
    "codec-not-registered": "A recorded value needs a codec that is not registered.",
    "library-not-imported": "A recorded value needs a library that is not imported.",
    "transaction-aborted": "A transactional checkpoint returned, and its transaction had failed.",
    "pickle-unreadable": "A recorded pickle cannot be read, or not here.",
    "value-changed-while-stored": "A value was changed by another thread while it was stored.",
}

_USAGE = {
    # Decorating
    "decorated-twice": "A function was decorated that is a flow or a checkpoint already.",
    "decorator-without-function": "A decorator was given something that is no function.",
    "generator-function": "A generator function was made a flow or a checkpoint.",
    "name-invalid": "A name cannot be used.",
    "name-taken": "Two different functions have one name.",
    "parameter-name-reserved": "A parameter has a name that Kitaru takes for itself.",
    "schedule-invalid": "A flow cannot be started by this schedule.",
    # Options and settings
    "option-invalid": "An option has a value that it cannot have.",
    "option-unknown": "There is no option of that name.",
    "setting-too-late": "A setting was changed after flows were run with it.",
    "settings-file-invalid": "pyproject.toml cannot be read, or not understood.",
    "not-yet-available": "Something was used that comes with a later release.",
    # Calling flows
    "argument-of-wrong-type": "A flow's argument does not fit its annotation.",
    "arguments-do-not-fit": "The arguments do not fit the function's signature.",
    "run-in-a-queue": "Options of queues were given to run(), which stands in none.",
    "run-in-a-transaction": (
        "A flow was to be run here and now in a transaction of the program's own."
    ),
    "connection-unfit": "A connection was given through which nothing can be started.",
    "connection-elsewhere": (
        "A connection was given that leads to another database than the store's."
    ),
    "execution-not-committed": (
        "The transaction in which an execution is enqueued is not committed."
    ),
    "flow-called-directly": "A flow was called as if it were a plain function.",
    "flow-run-during-import": "A flow is run at the top of the module that Kitaru imports.",
    "inside-own-process": "Something was asked for that the process of one body does not have.",
    "inside-transaction": "A checkpoint or flow was called in a body that has a transaction.",
    "transaction-is-ours": "The body of a transactional checkpoint ended its transaction.",
    "transaction-needs-postgres": "A transactional checkpoint was called, and the store has none.",
    "not-importable": "A checkpoint with a process of its own cannot be imported there.",
    "key-used-with-other-inputs": "A key belongs to an execution with other inputs.",
    # Calling checkpoints
    "argument-read-once": "An argument can be read only once, so it cannot identify the call.",
    "async-checkpoint-in-sync-code": "An async checkpoint was called from synchronous code.",
    "waits-for-itself": "An execution waited for itself, or for one that waits for it.",
    "attempt-is-over": "A checkpoint was called by something that had been left running.",
    "call-id-taken": "Two calls were given the same id.",
    "call-not-started": "A submitted call was never started.",
    "calls-indistinguishable": "Two calls differ only in something that has no encoding.",
    "checkpoint-outside-flow": "A checkpoint was called outside a flow.",
    "future-not-finished": "A future that has not finished was passed where it would block.",
    "map-lengths-differ": "map() was given iterables of different lengths.",
    "map-nothing-to-iterate": "map() was given nothing to iterate over.",
    "outside-flow": "Something that belongs in a flow was called outside one.",
    "outside-transaction": "The connection of a transactional checkpoint was asked for elsewhere.",
    "outside-checkpoint": "Something that belongs in a checkpoint was called outside one.",
    "inside-checkpoint": "Something that belongs in a flow was called in a checkpoint.",
    "own-event-loop": "A checkpoint was called inside an event loop that is not Kitaru's.",
    # Values
    "metadata-refused": "kitaru.log() was given what it cannot record.",
    "value-loses-state": "A value would come back different from what was stored.",
    "value-not-storable": "A value has no encoding.",
    "value-too-deep": "A value is nested too deep, or contains itself.",
    "value-too-large": "A value takes more bytes than can be stored.",
    "secret-in-value": "A value holds the text of a secret.",
    "secret-invalid": "A kitaru.Secret does not name a variable or a file.",
    "secret-not-found": "The variable or the file of a secret is not there.",
    "artifact-refused": "A checkpoint saved two values by one name, or too many.",
    # Waiting for executions, and finding them
    "artifact-ambiguous": "A name fits several artifacts of the execution.",
    "artifact-not-found": "The execution has no such artifact.",
    "memory-not-found": "There is no such key, version or scope in memory.",
    "limit-not-found": "No queue and no key of that name has a limit.",
    "schedule-ambiguous": "Several flows of that name have a schedule.",
    "schedule-not-found": "No flow of that name has a schedule.",
    "schedule-served": "A live worker has the schedule: it cannot be removed.",
    "memory-without-scope": "Nothing says whose memory is meant.",
    "already-running": "The execution is running already.",
    "call-not-found": "The execution has no such call of a checkpoint.",
    "event-loop-would-block": "Something was waited for that would block the event loop.",
    "execution-cancelled": "The execution was cancelled.",
    "execution-id-ambiguous": "A part of an id fits several executions.",
    "execution-deleted": "The execution was deleted.",
    "execution-not-finished": "Only a finished execution can be exported.",
    "execution-not-imported": "An import met another import of the same execution.",
    "execution-not-deletable": "An execution that is not finished, or is needed, is not deleted.",
    "execution-not-found": "There is no such execution in this project.",
    "execution-of-another-flow": "The execution belongs to another flow.",
    "executions-still-running": "Executions still ran when a test's store was taken away.",
    "no-result": "There is no result to be had, not yet or not at all.",
    "not-failed": "Only a failed execution can be retried.",
    "override-invalid": "An outcome given to a replay cannot be used.",
    "replay-call-unclear": "A replay was given the name of no call, or of several.",
    "replay-inside-flow": "A replay was made inside a flow.",
    "replay-source-gone": "The execution that a replay is made from was deleted.",
    "source-not-finished": "Only a finished execution can be replayed.",
    "nothing-to-cancel": "The execution has ended; there is nothing to cancel.",
    "nothing-to-resume": "The execution has ended; there is nothing to resume.",
    "wait-timed-out": "The timeout of a wait has passed; the execution goes on.",
    # Waits, and their answers
    "execution-waiting": "An execution waits, and nothing has arrived yet.",
    "wait-ambiguous": "A name fits several open waits of an execution.",
    "wait-answer-invalid": "An answer does not fit what the wait asks for.",
    "wait-expired": "A wait expired without an answer.",
    "wait-in-checkpoint": "A wait or a sleep was called inside a checkpoint.",
    "wait-name-open": "A wait of that name is open in this branch already.",
    "wait-not-awaited": "A wait in an async flow was not awaited.",
    "wait-closed": "The wait was answered, has expired or was aborted.",
    "wait-not-found": "The execution has no such wait.",
    "wait-schema-invalid": "A wait asks for something that is no type with a JSON Schema.",
    # From an execution back to its code
    "code-folder-gone": "The folder with the flow's module is not there.",
    "code-folder-not-trusted": "The recorded folder with the flow's module is not to be trusted.",
    "flow-not-known-here": "The flow of an execution is not known in this process.",
    # The command line
    "command-line-invalid": "The command line could not be understood.",
    "flow-arguments-invalid": "The flow's arguments on the command line do not fit.",
    "flow-not-found": "The module has no flow of that name.",
    "flow-target-invalid": "What was to be run names no flow.",
    "module-not-found": "There is no such module or file.",
    "no-such-code": "There is no error code of that name.",
    # Which store
    "store-folder-taken": "The folder for the store holds other things.",
    "store-not-found": "There is no store yet.",
    "store-place-invalid": "The store's place can be no store.",
    "store-place-unknown": "Nothing says where the store should be.",
    "project-not-said": "A database may hold several projects, and nothing says which this is.",
    "driver-not-installed": "The driver of the database is not installed.",
}

_MACHINE = {
    "transaction-lost": "The transaction of a checkpoint was lost again and again.",
    "effect-not-done": 'A try with effect="once" was cut off, and its effect did not take place.',
    "disk-failed": "The disk did not do what it was asked.",
    "disk-full": "The disk is full.",
    "execution-failed": "An execution failed, and its record does not say more.",
    "kitaru-failed": "A mistake of Kitaru itself.",
    "log-unreadable": "The log of an execution cannot be read.",
    "lock-unusable": "The lock files beside the store cannot be used.",
    "platform-unsupported": "Kitaru does not run on this operating system.",
    "process-declared-dead": "Another process took this one for dead.",
    "process-died": "The process of a checkpoint's body ended before the body did.",
    "process-died-repeatedly": "Every process that ran the execution died.",
    "process-interrupted": "The process was told to end.",
    "export-damaged": "The file of an exported execution is not whole.",
    "record-corrupt": "Recorded bytes are missing or damaged.",
    "record-malformed": "A record does not have the form that Kitaru writes.",
    "record-of-later-release": "A record was written by a later release.",
    "recording-stopped": "What an execution did could not be recorded any more.",
    "connection-lost": "The connection that was given is gone.",
    "row-gone": "A row of the store was deleted meanwhile.",
    "sqlite-too-old": "The installed SQLite can damage the store.",
    "server-unfit": "A database server on which a store cannot be kept.",
    "objects-refused": "The object store refuses what is to be read or written there.",
    "objects-unknown": "A value stands in an object store that this process was not told of.",
    "store-away": "The database server is not to be had for now.",
    "store-closed": "The store was closed before.",
    "store-damaged": "The database file is damaged.",
    "store-failed": "The store failed in a way that has no other name.",
    "store-foreign": "The file is not a Kitaru store.",
    "store-forked": "The store was opened before this process was forked.",
    "store-locked": "Another process keeps the store locked.",
    "store-may-not-be-used": "The store may not be opened or written.",
    "store-not-durable": "The file system cannot keep what is written.",
    "store-of-another-user": "The store belongs to another user.",
    "store-of-later-release": "The store was made by a later release.",
    "store-on-network-drive": "The store would lie on a network drive.",
    "store-descriptors-closed": "Something closed the files by which the store was open.",
    "store-replaced": "The store was moved or replaced while it was in use.",
    "working-folder-gone": "The working folder was deleted.",
}

CODES: Mapping[str, tuple[Kind, str]] = {
    code: (kind, meaning)
    for kind, codes in (
        (Kind.YOUR_CODE, _YOUR_CODE),
        (Kind.USAGE, _USAGE),
        (Kind.MACHINE, _MACHINE),
    )
    for code, meaning in codes.items()
}
"""Code -> whose matter it is, and what it means in one sentence."""

CODE_OF_ORIGIN: Mapping[FailureOrigin, str] = {
    FailureOrigin.USER_CODE: "user-code-raised",
    FailureOrigin.DIVERGENCE: "call-drifted",
    FailureOrigin.TIMEOUT: "wait-timed-out",
    FailureOrigin.BACKEND: "recording-stopped",
    FailureOrigin.RUNTIME: "execution-failed",
    FailureOrigin.UNKNOWN: "execution-failed",
}
"""The code of a recorded failure that carries none of its own."""


def kind_of(code: str | None) -> Kind:
    """Whose matter an error of this code is; of an unknown one it is ours.

    >>> kind_of("disk-full").value, kind_of("flow-called-directly").value
    ('machine', 'usage')
    """
    found = CODES.get(code or "")
    return Kind.MACHINE if found is None else found[0]
