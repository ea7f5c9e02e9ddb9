"""What every command has in common: its options, its place in the help, its nearest neighbours.

Groups know the names and the one-line help of their commands; the module of a
command is loaded when it is called, so that help and errors come at once.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from typing import Any

import click

from kitaru._core.names import did_you_mean
from kitaru.cli.output import Session
from kitaru.errors import KitaruFeatureNotAvailableError


def _set_output(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        session: Session = context.ensure_object(Session)
        session.as_json = value == "json"


def _set_store(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        session: Session = context.ensure_object(Session)
        session.choose_store(value)


def common_options() -> list[click.Parameter]:
    """``--output`` and ``--store``: fresh objects, because a command owns its parameters."""
    return [
        click.Option(
            ["-o", "--output"],
            type=click.Choice(["text", "json"]),
            expose_value=False,
            callback=_set_output,
            help="What to print: text for people (default), or one line of JSON.",
        ),
        click.Option(
            ["--store"],
            metavar="FOLDER_OR_URL",
            expose_value=False,
            is_eager=True,
            callback=_set_store,
            help="The store to use, instead of that of the project here: a folder, or the URL of "
            "a PostgreSQL database.",
        ),
    ]


_NO_CHOICE = re.compile(r"'(.*)' is not one of ")


class _Suggesting(click.Command):
    """Says which of the choices was meant, where one was misspelt."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            choice = error.param.type if error.param is not None else None
            found = _NO_CHOICE.match(error.message)
            if not isinstance(choice, click.Choice) or not found:
                raise
            hint = did_you_mean(found[1], map(str, choice.choices))
            raise click.BadParameter(
                error.message + hint, error.ctx, error.param, error.param_hint
            ) from None


class ReaderLeft(Exception):
    """Whoever read our output has gone (``| head``). click would call that a failure."""


class Command(_Suggesting):
    """A command with the common options, and help whose examples keep their lines."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        kwargs["params"] = [*(kwargs.get("params") or ()), *common_options()]
        super().__init__(*args, **kwargs)
        self.examples = examples

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderLeft from None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(formatter, self.examples)


class Group(_Suggesting, click.Group):
    """Commands by name -> (module, one line of help), loaded when called."""

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, tuple[str, str]],
        elsewhere: Mapping[str, str] | None = None,
        later: Mapping[str, str] | None = None,
        examples: str = "",
        **kwargs: Any,
    ) -> None:
        kwargs["params"] = [*(kwargs.get("params") or ()), *common_options()]
        super().__init__(*args, **kwargs)
        self.lazy = lazy
        self.later = dict(later or {})
        """Commands of a later release -> what helps today, or nothing."""
        self.elsewhere = dict(elsewhere or {})
        """Commands that people may look for here -> what they are called."""
        self.examples = examples

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module = importlib.import_module(self.lazy[cmd_name][0])
        # `list` is no name for a function of ours.
        name = cmd_name if hasattr(module, cmd_name) else f"{cmd_name}_"
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name in self.later:
            raise KitaruFeatureNotAvailableError(
                f"`{ctx.command_path} {name}` comes with a later release"
                f": {self.later[name] or 'see --help for what is there today'}",
                code="not-yet-available",
            )
        if name and not name.startswith("-") and name not in self.lazy:
            known = {**{n: n for n in self.lazy}, **self.elsewhere}
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = (
                f"did you mean {known[near[0]]!r}?" if near else f"there are {', '.join(self.lazy)}"
            )
            shown = name if len(name) <= 60 else name[:60] + "…"
            ctx.fail(f"there is no command {shown!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.lazy.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(formatter, self.examples)


def _write_examples(formatter: click.HelpFormatter, examples: str) -> None:
    if examples:
        with formatter.section("Examples"):
            for line in examples.strip().splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
