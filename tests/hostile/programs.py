"""Programs whose bodies do what bodies must not do; each is run as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import kitaru

HANG_SECONDS = 240.0
"""After so long a program counts as hanging; each of them takes less than two."""

HEAD = """
import asyncio, ctypes, gc, json, locale, os, resource, signal, socket, sys, threading, time
import warnings
import kitaru
from kitaru import checkpoint, flow

HERE = os.path.dirname(os.path.abspath(__file__))

def journal(word):
    with open(os.path.join(HERE, "journal"), "a") as file:
        file.write(word + "\\n")

@checkpoint(cache=False)
def before():
    journal("before")
    return "before"

@checkpoint(cache=False)
def after():
    journal("after")
    return "after"

@checkpoint(cache=False)
def hostile(xs):
    journal("hostile")
    if os.path.exists(os.path.join(HERE, "calm")):
        return "calm"
"""

TAIL = """
    return "done"

@flow
def agent():
    return [before(), hostile([1]), after()]

if __name__ == "__main__":
    print(json.dumps(agent.options(key="k").run().wait()), flush=True)
"""

COMPLETES: dict[str, str] = {
    "mutates its arguments": "xs.append(2); xs.clear()",
    "swallows everything": """
try:
    raise SystemExit
except BaseException:
    pass""",
    "forks, and the child leaves": """
child = os.fork()
if child == 0:
    os._exit(3)
os.waitpid(child, 0)""",
    "forks, and the child raises SystemExit": """
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)""",
    "changes the working directory": "os.chdir('/')",
    "removes the working directory": """
import tempfile
folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder)""",
    "changes the locale": """
for name in ("C", "C.UTF-8", "tr_TR.UTF-8", "de_DE.UTF-8"):
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:
        pass""",
    "empties the environment": "os.environ.clear()",
    "takes modules away": """
for name in list(sys.modules):
    if name.split(".")[0] in ("json", "kitaru", "apsw", "datetime", "pydantic", "rich"):
        del sys.modules[name]""",
    "puts None for modules": "sys.modules['json'] = sys.modules['pydantic'] = None",
    "forbids to import": "sys.path.clear(); sys.meta_path.clear()",
    "starts a thread that outlives it": """
threading.Thread(target=threading.Event().wait, args=(1.0,)).start()""",
    "starts a daemon thread that never ends": """
threading.Thread(target=threading.Event().wait, daemon=True).start()""",
    "holds the GIL in C": "ctypes.PyDLL(None).usleep(1_500_000)",
    "turns warnings into errors": "warnings.simplefilter('error')",
    "cuts the umask": "os.umask(0o777)",
    "lowers the recursion limit": "sys.setrecursionlimit(220)",
    "shortens socket timeouts": "socket.setdefaulttimeout(0.001)",
    "turns off garbage collection": "gc.disable(); gc.set_threshold(0)",
    "closes stdin, stdout and stderr but keeps stdout": "os.close(0); os.close(2)",
    "loses its streams": "sys.stderr = None; sys.stdin = None",
    "breaks stderr": """
class Broken:
    def write(self, text): raise OSError("broken")
    def flush(self): pass
sys.stderr = Broken()""",
    "traces": "sys.settrace(lambda *_: None); threading.settrace(lambda *_: None)",
    "renames itself": "hostile.__name__ = agent.__name__ = '\\x1b[31m'",
    "stops the clock": "time.time = time.monotonic = time.time_ns = lambda: 0",
    "closes an event loop": "asyncio.new_event_loop().close()",
    "sets another loop policy": "asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())",
    "changes signal handlers from C": "ctypes.CDLL(None).signal(signal.SIGTERM, 1)",
    "sends itself a signal that it ignores": "os.kill(os.getpid(), signal.SIGURG)",
    "raises the alarm of another thread": "signal.pthread_kill(threading.get_ident(), 0)",
}
"""What a body may do to its process without costing the execution anything."""

FAILS: dict[str, tuple[str, str]] = {
    "exits": ("sys.exit(3)", "SystemExit"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "ends like a generator": ("raise GeneratorExit", "GeneratorExit"),
    "stops an iteration": ("next(iter(()))", "StopIteration"),
    "recurses without end": (
        """
def again(): return again()
again()""",
        "RecursionError",
    ),
    "runs out of memory": ("bytes(1 << 60)", "MemoryError"),
    "raises a group": ("raise ExceptionGroup('g', [ValueError(1), KeyError(2)])", "ExceptionGroup"),
    "raises a group of exits": (
        "raise BaseExceptionGroup('g', [SystemExit(1), KeyboardInterrupt()])",
        "BaseExceptionGroup",
    ),
    "raises a message of 10 MB": ("raise ValueError('x' * 10_000_000)", "ValueError"),
    "raises an unprintable message": (
        "raise ValueError('\\x00\\ud800\\x1b[31m\\u202e')",
        "ValueError",
    ),
    "raises what cannot be shown": (
        """
class Dumb(Exception):
    def __str__(self): raise Dumb
    __repr__ = __reduce__ = __eq__ = __hash__ = __bool__ = __str__
raise Dumb""",
        "Dumb",
    ),
    "raises None": ("raise None", "TypeError"),
    "raises a class that is none": ("raise int", "TypeError"),
    "raises itself as its cause": (
        """
error = ValueError("round"); other = KeyError("and round")
error.__cause__ = other; other.__cause__ = error
raise error""",
        "ValueError",
    ),
    "returns a generator": ("return (x for x in xs)", "KitaruValueError"),
    "returns a coroutine": (
        """
async def never(): pass
made = never(); made.close()
return made""",
        "KitaruValueError",
    ),
    "sets a signal handler outside the main thread": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "ValueError",
    ),
}
"""Body -> the type of the failure that is recorded, with the user's code as its origin."""

DIES: dict[str, str] = {
    "leaves by os._exit": "os._exit(7)",
    "aborts": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
    "kills itself": "os.kill(os.getpid(), signal.SIGKILL)",
    "reads where nothing is": """
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
ctypes.string_at(0)""",
    "becomes another program": "os.execv(sys.executable, [sys.executable, '-c', 'pass'])",
    "ends itself politely": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)",
}
"""Bodies that end their process: the execution is interrupted, and goes on where it was."""

STOPS: dict[str, str] = {
    "closes descriptors 3 to 100": "os.closerange(3, 101)",
    "closes them and opens files of its own": """
os.closerange(3, 101)
for number in range(60):
    open(os.path.join(HERE, f"victim-{number}"), "w+b", buffering=0).write(b"mine")
    os.dup(os.open(os.path.join(HERE, f"victim-{number}"), os.O_RDWR))""",
    "closes them and opens the null device": """
os.closerange(3, 101)
for number in range(98):
    os.open("/dev/null", os.O_RDWR)""",
    "deletes the store": "import shutil; shutil.rmtree(os.environ['KITARU_STORE'])",
    "may open no file any more": """
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))""",
}
"""Bodies that take the store away under the process: it stops, and what was there stays."""


ASYNC = """
import asyncio, json, os
from kitaru import checkpoint, flow

HERE = os.path.dirname(os.path.abspath(__file__))

@checkpoint(cache=False)
async def before():
    return "before"

@checkpoint(cache=False)
async def hostile():
    if os.path.exists(os.path.join(HERE, "calm")):
        return "calm"
    os.closerange(3, 101)
    await asyncio.sleep(0.01)

@flow
async def agent():
    return [await before(), await hostile()]

if __name__ == "__main__":
    print(json.dumps(agent.options(key="k").run().wait()))
"""


def together(bodies: list[str]) -> str:
    """One program whose flow calls a checkpoint for each of the bodies, one after the other."""
    text = HEAD + "    return 'calm'\n"
    for number, body in enumerate(bodies):
        text += f"\n@checkpoint(cache=False)\ndef body_{number}(xs):\n{indented(body)}"
        text += f"    return {number}\n"
    return (
        text
        + f"""
@flow
def agent():
    before()
    found = []
    for number in range({len(bodies)}):
        try:
            found.append(globals()[f"body_{{number}}"]([1]))
        except BaseException as error:
            found.append(type(error).__qualname__.split(".")[-1])
    after()
    return found

if __name__ == "__main__":
    print(json.dumps(agent.options(key="k").run().wait()), flush=True)
"""
    )


def alone(body: str) -> str:
    """One program that does this body between two others."""
    return HEAD + indented(body) + TAIL


def indented(body: str) -> str:
    return "".join(f"    {line}\n" for line in body.strip().splitlines())


class Program:
    """A folder with one program, its store and its journal."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        (folder / "app.py").write_text(text)

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "PYTHON"))}
        return {
            **kept,
            "KITARU_STORE": str(self.folder / "store"),
            "PYTHONPATH": str(Path(kitaru.__file__).parents[1]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *(words or ("app.py",))],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=HANG_SECONDS,
        )

    def kitaru(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "kitaru", *words)

    def calm(self) -> None:
        """From now on the body does nothing bad."""
        (self.folder / "calm").touch()

    def journal(self) -> list[str]:
        path = self.folder / "journal"
        return path.read_text().split() if path.exists() else []
