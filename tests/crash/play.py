"""One life of a scenario in an interpreter of its own, with the real environment.

Ends as programs end: by returning from its main function.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    order = json.loads(sys.argv[1])
    os.environ.update(order["settings"])
    from .corpus import SCENARIOS
    from .journal import Life, begin

    begin(Life(order["life"], order["seed"], order["variant"], order["journal"]))
    print(json.dumps({"result": SCENARIOS[order["scenario"]].play()}, default=str))


if __name__ == "__main__":
    main()
