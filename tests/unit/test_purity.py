"""The rules touch no clock, socket, file, thread, log or randomness, and never wait.

The import contracts in pyproject.toml say who may import whom; this looks at what is called, and at
which packages from outside are let in at all.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import protocol

ROOT = Path(protocol.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Each is pure as we call it. rbcl and anyascii import more than they need; what they import is
# theirs, what we call draws no randomness.
THIRD_PARTY = {"anyascii", "blake3", "msgpack", "nacl", "rapidfuzz", "rbcl"}

IMPURE_MODULES = {
    "asyncio",
    "concurrent",
    "contextvars",
    "ctypes",
    "glob",
    "http",
    "importlib",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "platform",
    "queue",
    "random",
    "sched",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "socketserver",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
    "warnings",
    "zoneinfo",
}
# The one class of `datetime` that cannot be confused with an instant; instants are integers here.
PURE_FROM_DATETIME = {"date"}
IMPURE_CALLS = {"breakpoint", "eval", "exec", "globals", "input", "open", "print", "__import__"}
IMPURE_METHODS = {
    # Clocks.
    "now",
    "today",
    "utcnow",
    # Randomness, nacl's and rbcl's own included: keys and nonces are arguments.
    "crypto_box_keypair",
    "crypto_sign_keypair",
    "crypto_core_ristretto255_random",
    "crypto_core_ristretto255_scalar_random",
    "generate",
    "getrandom",
    "random",
    "randombytes",
    "token_bytes",
    "urandom",
}


def imported_names(tree: ast.AST):
    """Yield (line, module, name) for every import; name is None for a plain `import`."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name, None) for alias in names)
            case ast.ImportFrom(module=module, names=names):
                yield from ((node.lineno, module or ".", alias.name) for alias in names)


def import_fault(module: str, name: str | None) -> str | None:
    top = module.partition(".")[0]
    if top == "datetime" and name not in PURE_FROM_DATETIME:
        return "imports a clock: take only `date` from datetime, instants are integers"
    if top in IMPURE_MODULES:
        return f"imports {module}"
    if name in IMPURE_METHODS:
        return f"imports {name} from {module}"
    if top not in sys.stdlib_module_names | THIRD_PARTY | {"protocol"}:
        return f"imports {module}, which is not among the packages let in"
    return None


def faults(source: str) -> list[str]:
    """What makes this source impure: one line for each fault, empty when it is pure."""
    tree = ast.parse(source)
    found = [
        f"line {line}: {fault}"
        for line, module, name in imported_names(tree)
        if (fault := import_fault(module, name))
    ]
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.Await():
                found.append(f"line {node.lineno}: waits")
            case ast.comprehension(is_async=1):
                found.append(f"line {node.target.lineno}: waits")
            case ast.Call(func=ast.Name(id=called)) if called in IMPURE_CALLS | IMPURE_METHODS:
                found.append(f"line {node.lineno}: calls {called}")
            case ast.Attribute(attr=called) if called in IMPURE_METHODS:
                found.append(f"line {node.lineno}: uses {called}")
            case ast.Global(names=names):
                found.append(f"line {node.lineno}: rebinds {', '.join(names)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_a_module_of_the_rules_is_pure(path):
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio",
        "import os.path",
        "import datetime",
        "import yaml",
        "import peer.clock",
        "from time import monotonic",
        "from datetime import UTC, datetime",
        "from nacl.utils import random",
        "from . import codec",
        "async def exchange(): ...",
        "values = [item async for item in source]",
        "date.today()",
        "clock = date.today",
        "nacl.bindings.crypto_sign_keypair()",
        "SigningKey.generate()",
        "open('journal')",
        "print('seen')",
        "def count():\n    global total\n    total += 1",
    ],
)
def test_an_impure_module_is_noticed(source):
    assert len(faults(source)) >= 1, "the check would let this pass"


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import date",
        "from dataclasses import dataclass",
        "import msgpack",
        "from protocol.errors import Malformed",
        "def handle(event, now): return now + event.age",
    ],
)
def test_a_pure_module_is_left_alone(source):
    assert faults(source) == []
