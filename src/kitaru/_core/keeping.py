"""Things that must never be finalised, because that would touch what is no longer theirs.

A connection or a socket whose descriptor was closed under it would close that number once
more as it goes, and by then the number may be a file of the user's.
"""

from __future__ import annotations


def keep_for_ever(thing: object) -> None:
    """Never let the interpreter finalise ``thing``, not even as it ends."""
    import ctypes  # only ever needed when something went wrong

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
