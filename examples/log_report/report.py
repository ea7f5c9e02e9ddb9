"""What people read on a web site, by its access logs: report.py [--top N] [--logs FOLDER]"""

import argparse
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kitaru import KitaruClient, checkpoint, flow

LINE = re.compile(
    r'(?P<host>\S+) .* "GET (?P<path>\S+) .*" (?P<status>\d+) \d+ ".*" "(?P<agent>.*)"'
)


@dataclass(frozen=True)
class Day:
    log: str
    pages: dict[str, int]
    visitors: set[str]


def is_robot(agent: str) -> bool:
    return "bot" in agent.lower()


# A Path to a file that exists counts with its size and time of change: a log that grew
# since yesterday is read again, all others are reused. The function counts with every
# function of this project that it uses: change is_robot(), and all logs are read again.
@checkpoint
def read(log: Path) -> Day:
    pages: Counter[str] = Counter()
    visitors = set()
    for line in log.read_text().splitlines():
        hit = LINE.fullmatch(line)
        if hit and hit["status"] == "200" and not is_robot(hit["agent"]):
            pages[hit["path"]] += 1
            visitors.add(hit["host"])
    return Day(log.stem, dict(pages), visitors)


@checkpoint
def rank(days: list[Day], top: int) -> list[tuple[str, int]]:
    total: Counter[str] = Counter()
    for day in days:
        total.update(day.pages)
    return total.most_common(top)


# Also reused, and rightly so: the same ranking gives the same text.
@checkpoint
def render(days: list[Day], ranking: list[tuple[str, int]]) -> str:
    visitors = set().union(*(day.visitors for day in days))
    lines = [f"{len(days)} days, {len(visitors)} visitors"]
    return "\n".join(lines + [f"{hits:6} {path}" for path, hits in ranking])


@flow
def report(logs: Path, top: int) -> str:
    days = read.map(sorted(logs.glob("*.log"))).results()
    return render(days, rank(days, top))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--top", type=int, default=5)
    options.add_argument("--logs", type=Path, default=Path(__file__).parent / "logs")
    chosen = options.parse_args()

    handle = report.run(chosen.logs, chosen.top)
    print(handle.wait(), end="\n\n")
    # What `kitaru executions why EXECUTION` shows. There may be more lines to each: what
    # the fingerprint of the code cannot see.
    for why in KitaruClient().executions.why(handle.exec_id):
        print(str(why).splitlines()[0])


if __name__ == "__main__":
    main()
