"""``kitaru completion``: the script that makes a shell complete our words."""

from __future__ import annotations

import click

from kitaru.cli.commands import Command
from kitaru.cli.output import Session

_HOW = {
    "bash": 'eval "$(kitaru completion bash)"      # in ~/.bashrc',
    "zsh": 'eval "$(kitaru completion zsh)"       # in ~/.zshrc, after compinit',
    "fish": "kitaru completion fish | source      # in ~/.config/fish/config.fish",
}


@click.command(
    cls=Command,
    help="Print the script that makes a shell complete commands, options, statuses, flows, "
    "checkpoints and the ids of executions. The store is only looked at; none is made.",
    examples="\n".join(_HOW.values()),
)
@click.argument("shell", type=click.Choice(list(_HOW)))
@click.pass_obj
def completion(session: Session, shell: str) -> None:
    from click.shell_completion import get_completion_class

    from kitaru.cli.root import kitaru

    found = get_completion_class(shell)
    assert found is not None
    script = found(kitaru, {}, "kitaru", "_KITARU_COMPLETE").source()
    if session.as_json:
        session.item({"shell": shell, "script": script})
    else:
        click.echo(script)
