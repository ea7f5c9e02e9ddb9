"""What changes the fingerprint of a checkpoint, and what does not.

Every case is a small project in a folder of its own, loaded by a fresh process,
because that is how code changes in life.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

LOAD = """
import importlib, json, sys
from kitaru._engine.fingerprint import fingerprint
root, target, before = sys.argv[1:4]
sys.path.insert(0, root)
for name in filter(None, before.split(",")):
    importlib.import_module(name)
module, _, path = target.partition(":")
found = importlib.import_module(module)
for step in path.split("."):
    found = getattr(found, step)
result = fingerprint(found, root=root, what="the function")
print(json.dumps([result.digest.hex(), result.parts, list(result.unseen)]))
"""


class Taken(NamedTuple):
    digest: str
    parts: dict[str, str]
    unseen: list[str]


Take = Callable[..., Taken]


def environment(hash_seed: int) -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONDONTWRITEBYTECODE": "1"}


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)


@pytest.fixture
def take(tmp_path: Path) -> Take:
    """Fingerprint one function of a project, in a process of its own."""
    count = 0

    def run(
        files: Mapping[str, str],
        target: str = "pk.main:check",
        *,
        before: str = "",
        hash_seed: int = 0,
    ) -> Taken:
        nonlocal count
        count += 1
        folder = tmp_path / str(count)
        write(folder, {"pk/__init__.py": "", **files})
        command = [sys.executable, "-c", LOAD, str(folder), target, before]
        done = subprocess.run(
            command, env=environment(hash_seed), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return Taken(*json.loads(done.stdout))

    return run


def changed(before: Taken, after: Taken) -> set[str]:
    """The parts that differ, or stand on one side only."""
    names = before.parts.keys() | after.parts.keys()
    return {name for name in names if before.parts.get(name) != after.parts.get(name)}


MAIN = """
from pk.util import helper

def check(text):
    return helper(text)
"""
UTIL = """
def deep(text):
    return len(text) + 1

def helper(text):
    return deep(text) * 2

def unrelated():
    return 1
"""

# What a module says, what it says after an edit, and the part that shows it.
EDITS: dict[str, tuple[str, str, str]] = {
    "the checkpoint's own code": ("def check(): return 1", "def check(): return 2", "check"),
    "a constant": (
        "LIMIT = 1\ndef check(): return LIMIT",
        "LIMIT = 2\ndef check(): return LIMIT",
        "LIMIT",
    ),
    "a constant's type": (
        "LIMIT = 1\ndef check(): return LIMIT",
        "LIMIT = True\ndef check(): return LIMIT",
        "LIMIT",
    ),
    "a tuple": (
        "LIMIT = (1, 'a')\ndef check(): return LIMIT",
        "LIMIT = (1, 'b')\ndef check(): return LIMIT",
        "LIMIT",
    ),
    "a compiled pattern": (
        "import re\nP = re.compile('a')\ndef check(t): return P.match(t)",
        "import re\nP = re.compile('b')\ndef check(t): return P.match(t)",
        "P",
    ),
    "an enum member's value": (
        "import enum\nclass M(enum.Enum):\n  A = 1\nUSED = M.A\ndef check(): return USED",
        "import enum\nclass M(enum.Enum):\n  A = 2\nUSED = M.A\ndef check(): return USED",
        "USED",
    ),
    "an enum reached through its class": (
        "import enum\nclass M(enum.Enum):\n  A = 1\ndef check(): return M.A",
        "import enum\nclass M(enum.Enum):\n  A = 2\ndef check(): return M.A",
        "M",
    ),
    "the source of a dict": (
        "T = {'a': 1}\ndef check(): return T",
        "T = {'a': 2}\ndef check(): return T",
        "T",
    ),
    "a later change of a dict": (
        "T = {}\nT['a'] = 1\ndef check(): return T",
        "T = {}\nT['a'] = 2\ndef check(): return T",
        "T",
    ),
    "a list filled in a loop": (
        "T = []\nfor i in range(3): T.append(i)\ndef check(): return T",
        "T = []\nfor i in range(4): T.append(i)\ndef check(): return T",
        "T",
    ),
    "a function that builds a table": (
        "def build(): return [1]\nT = build()\ndef check(): return T",
        "def build(): return [2]\nT = build()\ndef check(): return T",
        "build",
    ),
    "an instance's arguments": (
        "class C:\n  def __init__(self, n): self.n = n\nX = C(1)\ndef check(): return X.n",
        "class C:\n  def __init__(self, n): self.n = n\nX = C(2)\ndef check(): return X.n",
        "X",
    ),
    "the class of a global instance": (
        "class C:\n  def run(self): return 1\nX = C()\ndef check(): return X.run()",
        "class C:\n  def run(self): return 2\nX = C()\ndef check(): return X.run()",
        "C.run",
    ),
    "a default": ("def check(n=1): return n", "def check(n=2): return n", "check"),
    "a keyword default": ("def check(*, n=1): return n", "def check(*, n=2): return n", "check"),
    "a mutable default": ("def check(n=[1]): return n", "def check(n=[2]): return n", "check"),
    "a default that is a function": (
        "def f(): return 1\ndef check(n=f): return n()",
        "def f(): return 2\ndef check(n=f): return n()",
        "f",
    ),
    "a captured value": (
        "def make(n):\n  def check(): return n\n  return check\ncheck = make(1)",
        "def make(n):\n  def check(): return n\n  return check\ncheck = make(2)",
        "make.<locals>.check",
    ),
    "a captured function": (
        (
            "def f(): return 1\ndef make(g):\n  def check(): return g()\n  return check\n"
            "check = make(f)"
        ),
        (
            "def f(): return 2\ndef make(g):\n  def check(): return g()\n  return check\n"
            "check = make(f)"
        ),
        "f",
    ),
    "a wrapped function": (
        (
            "import functools\ndef deco(f):\n  @functools.wraps(f)\n"
            "  def w(*a): return f(*a)\n  return w\n@deco\ndef check(): return 1"
        ),
        (
            "import functools\ndef deco(f):\n  @functools.wraps(f)\n"
            "  def w(*a): return f(*a)\n  return w\n@deco\ndef check(): return 2"
        ),
        "check",
    ),
    "a cached helper": (
        "import functools\n@functools.lru_cache\ndef f(): return 1\ndef check(): return f()",
        "import functools\n@functools.lru_cache\ndef f(): return 2\ndef check(): return f()",
        "f",
    ),
    "a single-dispatch implementation": (
        (
            "import functools\n@functools.singledispatch\ndef f(x): return 1\n"
            "@f.register\ndef _i(x: int): return 1\ndef check(x): return f(x)"
        ),
        (
            "import functools\n@functools.singledispatch\ndef f(x): return 1\n"
            "@f.register\ndef _i(x: int): return 2\ndef check(x): return f(x)"
        ),
        "_i",
    ),
    "a partial's function": (
        (
            "import functools\ndef f(n): return n\nP = functools.partial(f, 1)\n"
            "def check(): return P()"
        ),
        (
            "import functools\ndef f(n): return -n\nP = functools.partial(f, 1)\n"
            "def check(): return P()"
        ),
        "f",
    ),
    "a partial's argument": (
        (
            "import functools\ndef f(n): return n\nP = functools.partial(f, 1)\n"
            "def check(): return P()"
        ),
        (
            "import functools\ndef f(n): return n\nP = functools.partial(f, 2)\n"
            "def check(): return P()"
        ),
        "check",
    ),
    "a function in a dict": (
        "def f(): return 1\nT = {'f': f}\ndef check(k): return T[k]()",
        "def f(): return 2\nT = {'f': f}\ndef check(k): return T[k]()",
        "f",
    ),
    "a function in a tuple in a list": (
        "def f(): return 1\nT = [('f', f)]\ndef check(k): return T",
        "def f(): return 2\nT = [('f', f)]\ndef check(k): return T",
        "f",
    ),
    "a registered function": (
        "T = {}\ndef reg(f): T[f.__name__] = f\n@reg\ndef f(): return 1\ndef check(k): return T[k]",
        "T = {}\ndef reg(f): T[f.__name__] = f\n@reg\ndef f(): return 2\ndef check(k): return T[k]",
        "f",
    ),
    "a method": (
        "class C:\n  def run(self): return 1\ndef check(): return C().run()",
        "class C:\n  def run(self): return 2\ndef check(): return C().run()",
        "C.run",
    ),
    "a static method": (
        "class C:\n  @staticmethod\n  def run(): return 1\ndef check(): return C.run()",
        "class C:\n  @staticmethod\n  def run(): return 2\ndef check(): return C.run()",
        "C.run",
    ),
    "a class method": (
        "class C:\n  @classmethod\n  def run(cls): return 1\ndef check(): return C.run()",
        "class C:\n  @classmethod\n  def run(cls): return 2\ndef check(): return C.run()",
        "C.run",
    ),
    "a property": (
        "class C:\n  @property\n  def run(self): return 1\ndef check(): return C().run",
        "class C:\n  @property\n  def run(self): return 2\ndef check(): return C().run",
        "C.run",
    ),
    "a cached property": (
        (
            "import functools\nclass C:\n  @functools.cached_property\n  def run(self): return 1\n"
            "def check(): return C().run"
        ),
        (
            "import functools\nclass C:\n  @functools.cached_property\n  def run(self): return 2\n"
            "def check(): return C().run"
        ),
        "C.run",
    ),
    "a nested class": (
        "class C:\n  class D:\n    n = 1\ndef check(): return C.D.n",
        "class C:\n  class D:\n    n = 2\ndef check(): return C.D.n",
        "C.D",
    ),
    "a class attribute": (
        "class C:\n  n = 1\ndef check(): return C.n",
        "class C:\n  n = 2\ndef check(): return C.n",
        "C",
    ),
    "a class attribute that is an object": (
        "import threading\nclass C:\n  n = threading.Semaphore(1)\ndef check(): return C.n",
        "import threading\nclass C:\n  n = threading.Semaphore(2)\ndef check(): return C.n",
        "C",
    ),
    "a base class": (
        "class B:\n  def run(self): return 1\nclass C(B): pass\ndef check(): return C().run()",
        "class B:\n  def run(self): return 2\nclass C(B): pass\ndef check(): return C().run()",
        "B.run",
    ),
    "another base": (
        "class A: pass\nclass B: pass\nclass C(A): pass\ndef check(): return C()",
        "class A: pass\nclass B: pass\nclass C(B): pass\ndef check(): return C()",
        "C",
    ),
    "a metaclass": (
        (
            "class M(type):\n  def __call__(cls): return 1\nclass C(metaclass=M): pass\n"
            "def check(): return C()"
        ),
        (
            "class M(type):\n  def __call__(cls): return 2\nclass C(metaclass=M): pass\n"
            "def check(): return C()"
        ),
        "M.__call__",
    ),
    "a dataclass default": (
        (
            "from dataclasses import dataclass\n@dataclass\nclass C:\n  n: int = 1\n"
            "def check(): return C()"
        ),
        (
            "from dataclasses import dataclass\n@dataclass\nclass C:\n  n: int = 2\n"
            "def check(): return C()"
        ),
        "C",
    ),
    "a dataclass default with slots": (
        (
            "from dataclasses import dataclass\n@dataclass(slots=True)\nclass C:\n  n: int = 1\n"
            "def check(): return C()"
        ),
        (
            "from dataclasses import dataclass\n@dataclass(slots=True)\nclass C:\n  n: int = 2\n"
            "def check(): return C()"
        ),
        "C",
    ),
    "a default factory": (
        (
            "from dataclasses import dataclass, field\ndef make(): return [1]\n@dataclass\n"
            "class C:\n  n: list = field(default_factory=make)\ndef check(): return C()"
        ),
        (
            "from dataclasses import dataclass, field\ndef make(): return [2]\n@dataclass\n"
            "class C:\n  n: list = field(default_factory=make)\ndef check(): return C()"
        ),
        "make",
    ),
    "a dataclass option": (
        (
            "from dataclasses import dataclass\n@dataclass\nclass C:\n  n: int\n"
            "def check(): return C(1)"
        ),
        (
            "from dataclasses import dataclass\n@dataclass(eq=False)\nclass C:\n  n: int\n"
            "def check(): return C(1)"
        ),
        "C",
    ),
    "a model's default": (
        "import pydantic\nclass C(pydantic.BaseModel):\n  n: int = 1\ndef check(): return C()",
        "import pydantic\nclass C(pydantic.BaseModel):\n  n: int = 2\ndef check(): return C()",
        "C",
    ),
    "a model's constraint": (
        (
            "import pydantic\nclass C(pydantic.BaseModel):\n  n: int = pydantic.Field(1, gt=0)\n"
            "def check(): return C()"
        ),
        (
            "import pydantic\nclass C(pydantic.BaseModel):\n  n: int = pydantic.Field(1, gt=-1)\n"
            "def check(): return C()"
        ),
        "C",
    ),
    "a model's validator": (
        (
            "import pydantic\nclass C(pydantic.BaseModel):\n  n: int = 1\n"
            "  @pydantic.field_validator('n')\n  def v(cls, x): return x\ndef check(): return C()"
        ),
        (
            "import pydantic\nclass C(pydantic.BaseModel):\n  n: int = 1\n"
            "  @pydantic.field_validator('n')\n  def v(cls, x): return -x\ndef check(): return C()"
        ),
        "C.v",
    ),
    "the class of a field": (
        (
            "from dataclasses import dataclass\nclass D:\n  n = 1\n@dataclass\nclass C:\n"
            "  n: list[D] | None\ndef check(): return C(None)"
        ),
        (
            "from dataclasses import dataclass\nclass D:\n  n = 2\n@dataclass\nclass C:\n"
            "  n: list[D] | None\ndef check(): return C(None)"
        ),
        "D",
    ),
    "a name used in a comprehension": (
        "def f(x): return x\ndef check(xs): return [f(x) for x in xs]",
        "def f(x): return -x\ndef check(xs): return [f(x) for x in xs]",
        "f",
    ),
    "a name used in a nested function": (
        "def f(x): return x\ndef check():\n  def g(): return lambda: f(1)\n  return g()",
        "def f(x): return -x\ndef check():\n  def g(): return lambda: f(1)\n  return g()",
        "f",
    ),
    "functions that call each other": (
        "def a(n): return b(n - 1)\ndef b(n): return n and a(n)\ndef check(): return a(3)",
        "def a(n): return b(n - 1)\ndef b(n): return n or a(n)\ndef check(): return a(3)",
        "b",
    ),
    "an async helper": (
        "async def f(): return 1\nasync def check(): return await f()",
        "async def f(): return 2\nasync def check(): return await f()",
        "f",
    ),
    "an external function by its name": (
        "from json import dumps as d\ndef check(x): return d(x)",
        "from pickle import dumps as d\ndef check(x): return d(x)",
        "check",
    ),
    "two helpers that change places": (
        "def a(): return 1\ndef b(): return 2\nx, y = a, b\ndef check(): return x(), y()",
        "def a(): return 1\ndef b(): return 2\nx, y = b, a\ndef check(): return x(), y()",
        "check",
    ),
    "two closures that change places": (
        "def make(n): return lambda: n\nx, y = make(1), make(2)\ndef check(): return x(), y()",
        "def make(n): return lambda: n\nx, y = make(2), make(1)\ndef check(): return x(), y()",
        "check",
    ),
    "a checkpoint called inside": (
        (
            "class Checkpoint:\n  def __init__(self, f): self.func = f; self.__kitaru_id__ = 'x'\n"
            "@Checkpoint\ndef f(): return 1\ndef check(): return f()"
        ),
        (
            "class Checkpoint:\n  def __init__(self, f): self.func = f; self.__kitaru_id__ = 'x'\n"
            "@Checkpoint\ndef f(): return 2\ndef check(): return f()"
        ),
        "f",
    ),
    "a global that a function assigns": (
        "x = None\ndef f():\n  global x\n  x = x or 1\n  return x\ndef check(): return f()",
        "x = 5\ndef f():\n  global x\n  x = x or 1\n  return x\ndef check(): return f()",
        "x",
    ),
    "an exception handler": (
        "def check():\n  try: return 1\n  except ValueError: return 2",
        "def check():\n  try: return 1\n  except KeyError: return 2",
        "check",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_that_counts_changes_the_digest_and_its_part(name: str, take: Take) -> None:
    before, after, part = EDITS[name]

    one, two = take({"pk/main.py": before}), take({"pk/main.py": after})

    assert one.digest != two.digest
    assert f"pk.main.{part}" in changed(one, two)


QUIET_EDITS: dict[str, tuple[str, str]] = {
    "a comment": ("def check(): return 1", "# why\ndef check():\n    # how\n    return 1"),
    "a docstring": ("def check(): return 1", "def check():\n    'What.'\n    return 1"),
    "another docstring": ("def check():\n  'A.'\n  return 1", "def check():\n  'B.'\n  return 1"),
    "a move to other lines": ("def check(): return 1", "\n\n\n\ndef check(): return 1"),
    "formatting": (
        "def check(a, b):\n    return [x for x in a if x and b]",
        (
            "def check(\n    a,\n    b,\n):\n    return [\n        x\n        for x in a\n"
            "        if x\n        and b\n    ]"
        ),
    ),
    "annotations": ("def check(a): return a", "def check(a: int) -> int: return a"),
    "a docstring of a nested function": (
        "def check():\n  def f():\n    return 1\n  return f",
        "def check():\n  def f():\n    'Why.'\n    return 1\n  return f",
    ),
    "a docstring of a nested class": (
        "def check():\n  class C:\n    n = 1\n  return C",
        "def check():\n\n\n  class C:\n    'Why.'\n    n = 1\n  return C",
    ),
    "a docstring and the lines of a class": (
        "class C:\n  def run(self): return 1\ndef check(): return C()",
        (
            "\n\nclass C:\n  'Why.'\n  def run(self):\n    'How.'\n    return 1\n"
            "def check(): return C()"
        ),
    ),
    "an unrelated function": (
        "def other(): return 1\ndef check(): return 1",
        "def other(): return 2\ndef third(): return 3\ndef check(): return 1",
    ),
    "an unrelated constant": ("N = 1\ndef check(): return 1", "N = 2\ndef check(): return 1"),
    "the layout of a dict": (
        "T = {'a': 1, 'b': [2]}\ndef check(): return T",
        "T = {\n    'a': 1,  # one\n    'b': [\n        2\n    ],\n}\ndef check(): return T",
    ),
    "what runs only as a script": (
        "T = []\ndef check(): return T\nif __name__ == '__main__':\n  T.append(1)",
        "T = []\ndef check(): return T\nif __name__ == '__main__':\n  T.append(2)",
    ),
    "the contents of a cache": (
        "T = {}\ndef check(): return T\ndef fill(): T[1] = 1",
        "T = {}\ndef check(): return T\ndef fill(): T[1] = 1\nfill()",
    ),
    "a global that was assigned meanwhile": (
        "x = None\ndef f():\n  global x\n  x = 1\n  return x\ndef check(): return x, f()",
        "x = None\ndef f():\n  global x\n  x = 1\n  return x\ndef check(): return x, f()\nf()",
    ),
}


@pytest.mark.parametrize("name", QUIET_EDITS)
def test_an_edit_that_does_not_count_changes_nothing(name: str, take: Take) -> None:
    before, after = QUIET_EDITS[name]

    one, two = take({"pk/main.py": before}), take({"pk/main.py": after})

    assert changed(one, two) == set()
    assert one.digest == two.digest


def test_a_helper_two_levels_down_in_another_module_is_named(take: Take) -> None:
    one = take({"pk/main.py": MAIN, "pk/util.py": UTIL})
    two = take({"pk/main.py": MAIN, "pk/util.py": UTIL.replace("+ 1", "+ 2")})

    assert changed(one, two) == {"pk.util.deep"}
    assert set(one.parts) == {"pk.main.check", "pk.util.deep", "pk.util.helper"}


@pytest.mark.parametrize(
    "main",
    [
        "from pk import util\ndef check(t): return util.helper(t)",
        "import pk.util\ndef check(t): return pk.util.helper(t)",
        "import pk.util as u\ndef check(t):\n    m = u\n    return m.helper(t)",
        "import pk.util as u\ndef check(t): return getattr(u, 'helper')(t)",
    ],
)
def test_a_helper_reached_through_a_module_counts(main: str, take: Take) -> None:
    one = take({"pk/main.py": main, "pk/util.py": UTIL})
    two = take({"pk/main.py": main, "pk/util.py": UTIL.replace("+ 1", "+ 2")})

    assert changed(one, two) == {"pk.util.deep"}


@pytest.mark.parametrize(
    "line",
    [
        "from pk.util import helper",
        "from .util import helper",
        "from . import util",
        "import pk.util as u",
        "import pk.util",
        "from pk.between import helper",
    ],
)
def test_a_module_imported_inside_a_function_counts_whole(line: str, take: Take) -> None:
    files = {
        "pk/main.py": f"def check(t):\n    {line}\n    return helper(t)",
        "pk/between.py": "from pk.util import helper",
    }

    one = take({**files, "pk/util.py": UTIL})
    two = take({**files, "pk/util.py": UTIL.replace("+ 1", "+ 2")})
    three = take({**files, "pk/util.py": "# why\n" + UTIL})

    assert changed(one, two) == {"pk.util"}
    assert one.digest == three.digest


def test_whether_a_module_is_loaded_already_does_not_count(take: Take) -> None:
    files = {"pk/main.py": "def check():\n    from pk import util", "pk/util.py": UTIL}

    assert take(files).digest == take(files, before="pk.util").digest


def test_a_list_imported_from_another_module_counts_by_its_source_there(take: Take) -> None:
    main = "from pk.util import TABLE as t\ndef check(): return t"

    one = take({"pk/main.py": main, "pk/util.py": "TABLE = [1]"})
    two = take({"pk/main.py": main, "pk/util.py": "TABLE = [2]"})

    assert changed(one, two) == {"pk.main.t"}
    assert one.unseen == []


def test_modules_under_the_root_count_and_what_is_installed_there_does_not(take: Take) -> None:
    main = "import beside, lib\ndef check(): return beside.f(), lib.f()"
    code = "def f(): return 1"
    path = "venv/lib/site-packages"
    start = f"import sys\nsys.path.append(__file__[:-10] + '{path}')\n{main}"

    one = take({"pk/main.py": start, "beside.py": code, f"{path}/lib.py": code})
    two = take({"pk/main.py": start, "beside.py": code, f"{path}/lib.py": code + "+1"})
    three = take({"pk/main.py": start, "beside.py": code + "+1", f"{path}/lib.py": code})

    assert one.digest == two.digest
    assert changed(one, three) == {"beside.f"}


def test_a_method_counts_with_the_methods_that_it_calls_on_self(take: Take) -> None:
    source = """
class Agent:
    def check(self): return self.helper()
    def helper(self): return 1
    def other(self): return 1
"""
    target = "pk.main:Agent.check"
    helper, other = (
        source.replace(f"{name}(self): return 1", f"{name}(self): return 2")
        for name in ("helper", "other")
    )

    one = take({"pk/main.py": source}, target)

    assert changed(one, take({"pk/main.py": helper}, target)) == {"pk.main.Agent.helper"}
    assert take({"pk/main.py": other}, target).digest == one.digest


def test_hash_seeds_do_not_count(take: Take) -> None:
    source = """
import enum
from dataclasses import dataclass, field
WORDS = frozenset({"a", "b", "c", "d", "e"})
NESTED = (WORDS, frozenset({("x", 1), ("y", 2), ("z", 3)}))
def f(): pass
def g(): pass
def h(): pass
FUNCTIONS = {f, g, h}
class Flags(enum.Flag):
    A = 1
    B = 2
@dataclass
class C:
    a: int
    b: set = field(default_factory=set)
    def run(self):
        self.x = self.y = self.z = 1
def check(t, kinds={"p", "q", "r"}):
    class Local:
        def __init__(self): self.a, self.b, self.c = 1, 2, 3
    return t in {"a", "b", "c"}, WORDS, NESTED, FUNCTIONS, Flags.A, C(1), Local
"""
    taken = {json.dumps(take({"pk/main.py": source}, hash_seed=seed)) for seed in range(5)}

    assert len(taken) == 1


SCRIPT = """
import json, sys
from kitaru._engine.fingerprint import fingerprint
import beside
TABLE = {"a": 1}
class C:
    n = 1
def f(): return TABLE, C, beside.f()
def check(): return f()
if __name__ == "__main__":
    found = fingerprint(check, root=sys.argv[1], what="check")
    print(json.dumps([found.digest.hex(), found.parts, list(found.unseen)]))
"""


def test_a_script_and_its_import_have_the_same_fingerprint(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": SCRIPT, "beside.py": "def f(): return 1"})
    run = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
    load = [sys.executable, "-c", LOAD, str(tmp_path), "script:check", ""]

    printed = [subprocess.check_output(command, env=environment(0)) for command in (run, load)]

    assert printed[0] == printed[1]
    assert set(json.loads(printed[0])[1]) >= {"script.check", "script.f", "script.C", "beside.f"}


UNSEEN: dict[str, tuple[str, str]] = {
    "a dynamic getattr": ("def check(x, n): return getattr(x, n)", "getattr"),
    "eval": ("def check(x): return eval(x)", "eval"),
    "the environment": ("import os\ndef check(): return os.environ['A']", "environment"),
    "the environment by name": (
        "from os import environ\ndef check(): return environ['A']",
        "environment",
    ),
    "a duck-typed call": ("def check(client): return client.search()", "client.search()"),
    "an opaque captured object": (
        "def make(x):\n  def check(): return x\n  return check\ncheck = make(object())",
        "'x', captured by pk.main.make.<locals>.check",
    ),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_cannot_be_seen_is_listed(name: str, take: Take) -> None:
    source, said = UNSEEN[name]

    found = take({"pk/main.py": source})

    assert [line for line in found.unseen if said in line]


def test_plain_code_has_nothing_unseen(take: Take) -> None:
    source = "import json\ndef check(t): return json.dumps(t.strip(), default=getattr(t, 'x', 1))"

    assert take({"pk/main.py": source}).unseen == []


def test_where_the_project_lies_does_not_count(take: Take) -> None:
    # The fixture uses another folder each time.
    files: dict[str, Any] = {"pk/main.py": MAIN, "pk/util.py": UTIL}

    assert take(files) == take(files)


EDITED = """
import json, os, sys
from kitaru._engine.fingerprint import fingerprint
sys.path.insert(0, sys.argv[1])
import pk.main
with open(pk.main.__file__, "w") as file:
    file.write(sys.argv[2])
os.utime(pk.main.__file__, (4e9, 4e9))
result = fingerprint(pk.main.check, root=sys.argv[1], what="check")
print(json.dumps([result.digest.hex(), result.parts, list(result.unseen)]))
"""


@pytest.mark.parametrize("loaded", ["T = [1]", "import threading\nT = [threading.Lock()]"])
def test_a_file_edited_after_it_was_loaded_does_not_lend_its_new_source(
    loaded: str, take: Take, tmp_path: Path
) -> None:
    loaded, edited = (f"{line}\ndef check(): return T" for line in (loaded, "T = [2]"))
    write(tmp_path / "x", {"pk/__init__.py": "", "pk/main.py": loaded})
    command = [sys.executable, "-c", EDITED, str(tmp_path / "x"), edited]

    printed = subprocess.check_output(command, env=environment(0))

    assert Taken(*json.loads(printed)).digest != take({"pk/main.py": edited}).digest
