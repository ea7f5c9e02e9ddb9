"""How the site reads our docstrings: examples as code, names of other objects as code.

An extension of griffe, which reads the sources for `docs/api/`. Docstrings are
written for `help()`: an example stands in the text as it would in a terminal,
and another object is :func:`named` so. Knows nothing of which names there are.
"""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|attr):`~?([^`]+)`")


def as_markdown(docstring: str) -> str:
    r"""A docstring of ours -> Markdown.

    >>> as_markdown("Like :func:`flow`.\n\n>>> 1 + 1\n2\n\nMore.")
    'Like `flow`.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore.'
    """
    paragraphs = ROLE.sub(r"`\1`", docstring).split("\n\n")
    return "\n\n".join(
        f"```pycon\n{dedent(text).strip()}\n```" if text.lstrip().startswith(">>>") else text
        for text in paragraphs
    )


class Docstrings(griffe.Extension):
    """Turns every docstring into Markdown when griffe has read its object."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
