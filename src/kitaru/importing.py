"""From a name or a record to a flow: the only place that imports modules of the user's.

A recorded folder is trusted only if it lies under the store's project root and
belongs to this user: a cloned repository's store must not decide what is
imported. While a module is imported nothing at its top level may start a flow.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from types import ModuleType
from typing import Any

from kitaru import app as _app
from kitaru._core.naming import module_name_of_file
from kitaru._store.protocol import ExecutionRow
from kitaru.checkpoints import Checkpoint
from kitaru.errors import KitaruError, KitaruStateError, KitaruUsageError
from kitaru.flows import Flow
from kitaru.target import file_of, is_file


class ModuleFailed(KitaruStateError):
    """A module of the user's raised while it was imported; ``__cause__`` is what it raised."""

    def __reduce__(self) -> tuple[Any, ...]:
        again, (_, args, state) = super().__reduce__()
        return again, (KitaruStateError, args, state)


# --- by name: MODULE_OR_FILE:FLOW ------------------------------------------------------------


def import_target(where: str, name: str, *, cwd: str) -> Flow[Any, Any]:
    """The flow ``name`` of a module (found from ``cwd``) or of a file."""
    return flow_in(import_named(where, cwd=cwd), name)


def import_named(where: str, *, cwd: str) -> ModuleType:
    """A module, found from ``cwd``, or a file as the module that it is."""
    if not is_file(where):
        return import_from(cwd, where)
    path = file_of(where, cwd)
    module_id, folder = module_name_of_file(path)
    module = import_from(folder, module_id)
    _check_came_from(module, os.path.realpath(path), "this file")
    return module


def flow_in(module: ModuleType, name: str) -> Flow[Any, Any]:
    """The flow that a module has under this name, or by this ``name=``."""
    flows = {key: value for key, value in vars(module).items() if isinstance(value, Flow)}
    found: Any = vars(module).get(name)
    if isinstance(found, Flow):
        return found
    for flow in flows.values():
        if name in (flow.spec.name, flow.spec.id):
            return flow
    if isinstance(found, Checkpoint):
        having = f"its flows are {', '.join(flows)}" if flows else "it has none yet"
        raise KitaruUsageError(
            f"{name!r} of module {module.__name__!r} is a checkpoint, which runs inside a flow: "
            f"name the flow that calls it ({having})",
            code="flow-not-found",
        )
    if found is not None:
        raise KitaruUsageError(
            f"{name!r} of module {module.__name__!r} is no flow: decorate it with @flow",
            code="flow-not-found",
        )
    near = difflib.get_close_matches(name, flows, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(flows) or 'none'}"
    raise KitaruUsageError(
        f"module {module.__name__!r} has no flow {name!r}: {hint}", code="flow-not-found"
    )


# --- by record: the folder that stands beside an execution ------------------------------------


def import_recorded(row: ExecutionRow, *, root: str | None, code: str | None) -> Flow[Any, Any]:
    """The flow of an execution, imported if this process does not know it.

    From the folder recorded with it if that lies under ``root`` and belongs to
    this user, or from ``code`` if somebody said so. Raises ``KitaruStateError``
    that says what stands in the way.
    """
    known: Flow[Any, Any] | None = _app.find_flow(row.flow_id)
    if known is not None:
        return known
    module_id = row.code_module
    about = f"flow {row.flow_id!r} of execution {row.exec_id}"
    if module_id is None or (row.code_folder is None and code is None):
        raise KitaruStateError(
            f"{about} was defined where nothing can be imported from (a prompt, a notebook, "
            "`python -c`): it can be resumed only in a program that defines it, with "
            "KitaruClient().executions.resume(...)",
            code="flow-not-known-here",
        )
    folder = said_folder(code) if code is not None else _trusted_folder(row, root, about)
    module = import_from(folder, module_id)
    _check_came_from(module, os.path.join(os.path.realpath(folder), ""), f"{folder!r}")
    flow: Flow[Any, Any] | None = _app.find_flow(row.flow_id)
    if flow is None:
        raise KitaruStateError(
            f"module {module_id!r} from {folder!r} defines no {about}: it was renamed (add its "
            "former name to @flow(aliases=[...])), or it is made inside a function and can be "
            "resumed only where that runs",
            code="flow-not-known-here",
        )
    return flow


def said_folder(code: str) -> str:
    """The folder that ``--code`` names, or a ``KitaruUsageError``."""
    folder = os.path.abspath(os.path.expanduser(code))
    if not os.path.isdir(folder):
        raise KitaruUsageError(
            f"--code {code!r} is no folder: name the one with the flow's module",
            code="code-folder-gone",
        )
    return folder


def _trusted_folder(row: ExecutionRow, root: str | None, about: str) -> str:
    folder = row.code_folder
    assert folder is not None
    remedy = f"if you trust it, say so: --code {folder}"
    real = os.path.realpath(folder)
    if not os.path.isdir(real):
        raise KitaruStateError(
            f"{about} was imported from {folder!r}, which is not there any more: name the "
            "folder where its module is now, with --code FOLDER",
            code="code-folder-gone",
        )
    if root is None or not _lies_in(real, os.path.realpath(root)):
        project = "which belongs to no project" if root is None else f"whose project is {root!r}"
        raise KitaruStateError(
            f"{about} was imported from {folder!r}, which does not lie under the project of this "
            f"store ({project}), so it is not imported from there; {remedy}",
            code="code-folder-not-trusted",
        )
    top = os.path.join(real, (row.code_module or "").partition(".")[0])
    for path in (real, top, top + ".py"):
        if os.path.exists(path) and os.stat(path).st_uid != os.geteuid():
            raise KitaruStateError(
                f"{about} was imported from {folder!r}, but {path!r} belongs to another user, so "
                f"it is not imported; {remedy}",
                code="code-folder-not-trusted",
            )
    return folder


def _lies_in(path: str, folder: str) -> bool:
    return os.path.join(path, "").startswith(os.path.join(folder, ""))


# --- importing -------------------------------------------------------------------------------


def import_from(folder: str, module_id: str) -> ModuleType:
    """Import a module with ``folder`` first on the path, where it stays.

    Raises ``KitaruUsageError`` if there is no such module or if its top level
    runs a flow, ``ModuleFailed`` if it raises.
    """
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        with _app.importing():
            return importlib.import_module(module_id)
    except KitaruError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (module_id + ".").startswith(error.name + "."):
            raise KitaruUsageError(
                f"there is no module {error.name!r} in {folder!r} or on Python's path: "
                "name one that is there, or change to the folder that it is in",
                code="module-not-found",
            ) from None
        raise _failed(module_id, error) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # SystemExit too: a script without a main guard must not end the command silently.
        raise _failed(module_id, error) from error


def _failed(module_id: str, error: BaseException) -> ModuleFailed:
    said = f": {error}" if str(error) else ""
    return ModuleFailed(
        f"module {module_id!r} raised {type(error).__name__} while it was imported{said}. "
        "Mend the module and run again",
        code="module-raised",
    )


def _check_came_from(module: ModuleType, expected: str, what: str) -> None:
    """Another module of that name may have been imported before, or be built in."""
    file = getattr(module, "__file__", None)
    if file is None or not os.path.realpath(file).startswith(expected):
        raise KitaruStateError(
            f"module {module.__name__!r} comes from {file or 'inside Python'!r}, not from {what}: "
            "another module has its name; rename it",
            code="module-shadowed",
        )
