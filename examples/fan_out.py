"""Check every link of some Markdown files at once: python fan_out.py README.md docs/*.md

An async flow fans out with asyncio as it is: gather, semaphores, TaskGroup. Each
link is a checkpoint of its own, so a crash after 700 of 1,000 links costs the
few that were being asked; and they may answer in any order, because a call
is recognised by what it is called with.

Needs httpx (`pip install httpx`).
"""

import asyncio
import re
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx

from kitaru import Retry, checkpoint, flow

LINK = re.compile(r"https?://[^\s)>\]\"'`]+")


@dataclass(frozen=True)
class Link:
    url: str
    status: int | None
    problem: str | None = None


# A refused connection or a busy server (5xx) may be better in a second; a page that
# is gone (404) is an answer, so it is returned and recorded like any other.
patient = Retry(max_attempts=3, initial_seconds=0.5, retry_on=(httpx.TransportError,))


# The client is the same in effect whichever it is, so it must not count: without
# `ignore` Kitaru would have to treat each link as asked by somebody else. And a good
# answer is good for a day: cache_ttl lets a new execution take it over for so long.
@checkpoint(ignore=["client"], retries=patient, cache_ttl=timedelta(days=1))
async def ask(url: str, client: httpx.AsyncClient) -> int:
    response = await client.head(url, follow_redirects=True)
    if response.status_code >= 500:
        raise httpx.RemoteProtocolError(f"{url} answered {response.status_code}")
    return response.status_code


async def look(url: str, client: httpx.AsyncClient, polite: asyncio.Semaphore) -> Link:
    async with polite:
        try:
            status = await ask(url, client)
        except httpx.TransportError as error:
            # All tries failed. An ordinary exception, caught as one: the others go on.
            return Link(url, None, str(error) or type(error).__name__)
    return Link(url, status, None if status < 400 else "no such page")


# Files are read anew in every execution (cache=False), links are asked once a day.
@checkpoint(cache=False)
def links_in(page: Path) -> list[str]:
    return LINK.findall(page.read_text(encoding="utf-8"))


@flow
async def check_links(pages: list[Path]) -> list[Link]:
    urls = sorted({url for page in pages for url in links_in(page)})
    # What is bound to an event loop is made inside the flow: async flows run on
    # Kitaru's own loop, not on that of the caller.
    polite = asyncio.Semaphore(20)
    async with httpx.AsyncClient(timeout=10) as client:
        return await asyncio.gather(*(look(url, client, polite) for url in urls))


if __name__ == "__main__":
    links = check_links.run([Path(name) for name in sys.argv[1:]]).wait()
    dead = [link for link in links if link.problem]
    for link in dead:
        print(f"{link.url}: {link.problem}")
    print(f"{len(links)} links, {len(dead)} of them dead")
    sys.exit(1 if dead else 0)
