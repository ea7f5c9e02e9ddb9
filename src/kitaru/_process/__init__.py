"""The other side of ``runtime="process"``: the program that runs one body and ends.

``guard.py`` is started, forks ``child.py`` and outlives it; the owner's side is
``_engine/processes.py``.
"""
