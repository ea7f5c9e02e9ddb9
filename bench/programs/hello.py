"""Hello world: a flow of one checkpoint with plain types."""

import sys

from kitaru import checkpoint, flow


@checkpoint
def greet(name: str) -> str:
    return f"Hello, {name}"


@flow
def hello(name: str) -> str:
    return greet(name)


if __name__ == "__main__":
    print(hello.run(sys.argv[1] if len(sys.argv) > 1 else "world").wait())
