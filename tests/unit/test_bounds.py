"""Every named number of the node is a setting, or its page says why it is none."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from peer.config import Settings
from peer.config.reference import sections

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "decisions" / "0020-which-bounds-are-settings.md"
STRUCTURES = (ast.Tuple, ast.List, ast.Dict, ast.Set, ast.JoinedStr, ast.Lambda)


def is_number(value: ast.expr) -> bool:
    """Whether an expression is a number, computed from numbers, or an object made with some."""
    parts = list(ast.walk(value))
    if any(isinstance(part, STRUCTURES) for part in parts):
        return False
    constants = [part.value for part in parts if isinstance(part, ast.Constant)]
    if any(isinstance(each, (str, bytes)) for each in constants):
        return False
    return any(isinstance(each, (int, float)) and not isinstance(each, bool) for each in constants)


def named_numbers(source: str):
    """Yield the names that a module, or a class in it, gives to numbers."""
    tree = ast.parse(source)
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for statement in (each for body in bodies for each in body):
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case _:
                continue
        if name == name.upper() and is_number(value):
            yield name


def in_program() -> set[tuple[str, str]]:
    settings = ROOT / "peer" / "config"
    return {
        (str(path.relative_to(ROOT)), name)
        for path in (ROOT / "peer").rglob("*.py")
        # What stands there bounds the settings themselves.
        if path.parent != settings or path.name == "files.py"
        for name in named_numbers(path.read_text(encoding="utf-8"))
    }


def on_page() -> set[tuple[str, str]]:
    rows = re.findall(
        r"^\| `(peer/[^`]+)` \| (.+?) \| .+ \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    return {(path, name) for path, names in rows for name in re.findall(r"`(\w+)`", names)}


def test_every_named_number_is_a_setting_or_explained():
    missing = sorted(in_program() - on_page())
    assert not missing, f"make it a setting, or say in {PAGE.name} why it is none: {missing}"
    gone = sorted(on_page() - in_program())
    assert not gone, f"these constants of {PAGE.name} are no more: {gone}"


def test_the_settings_that_the_page_names_exist():
    named = re.findall(r"`([a-z]+)\.([a-z_]+)`", PAGE.read_text("utf-8"))
    assert named
    for section, key in named:
        assert key in type(getattr(Settings(), section)).model_fields, f"{section}.{key}"


FOR_PEOPLE = {"root_key_hint"}
"""`init` notes it in the file, for whoever looks there."""


def test_every_setting_is_read_where_it_acts():
    program = "\n".join(
        path.read_text("utf-8")
        for path in (ROOT / "peer").rglob("*.py")
        if path.parent != ROOT / "peer" / "config"
    )
    for section, _, entries in sections():
        for entry in entries:
            if entry.key in FOR_PEOPLE:
                continue
            assert re.search(rf"\.{entry.key}\b", program), f"nothing reads {section}.{entry.key}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("MOST: Final = 5", ["MOST"]),
        ("MOST = 5 * MIB", ["MOST"]),
        ("ROOM: Final = Room(most=64, oldest_s=None)", ["ROOM"]),
        ("class A:\n    WAIT_S = 0.5", ["WAIT_S"]),
        ("_HIDDEN: Final = -1", ["_HIDDEN"]),
        ("NAME: Final = 'openpriors'", []),
        ("ROUTES: Final = (5,)", []),
        ("IS_ON: Final = True", []),
        ("number = 5", []),
    ],
)
def test_a_number_is_seen_in_whatever_form(source, found):
    assert list(named_numbers(source)) == found
