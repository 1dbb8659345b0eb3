"""The shapes that docs/reference/http.md promises, to hold real answers against."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "http.md"
SECTION = re.compile(r"^### `([A-Z]+) /api/v1(\S+)`\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
LIST = re.compile(r'`\{"(\w+)": \[([A-Z]+)\]\}`')
WORD = re.compile(
    r"(?:[Aa]nswers|[Oo]ne|far one) (?:an? |the )?(partner|retrieval|directive|notice)"
)


@cache
def shapes():
    """Return the documented answer of each (method, path), and of each name such as PARTNER."""
    answers, names = {}, {}
    for method, path, text in SECTION.findall(PAGE.read_text(encoding="utf-8")):
        blocks = [_read(block) for block in BLOCK.findall(text)]
        if listed := LIST.search(text):
            answers[method, path] = {listed[1]: [listed[2]]}
            if blocks:
                names[listed[2]] = blocks[-1]
        elif blocks:
            answers[method, path] = blocks[-1]
        elif named := WORD.search(text):
            answers[method, path] = named[1].upper()
    names |= {
        "RETRIEVAL": answers["POST", "/retrievals"],
        "DIRECTIVE": answers["POST", "/consents"],
        "NOTICE": answers["POST", "/notices"],
    }
    return answers, names


def _read(block):
    return json.loads(re.sub(r"\[([A-Z]+)\]", r'["\1"]', block))


def check(method, path, answer):
    """Fail if a successful answer has other keys than are documented, at any depth."""
    answers, _ = shapes()
    if (method, path) in answers:  # A name of its own, where others have a variable part.
        _compare(answers[method, path], answer, f"{method} {path}")
        return
    for (known_method, known_path), shape in answers.items():
        pattern = re.sub(r"\{\w+\}", r"[^/]+", known_path)
        if method == known_method and re.fullmatch(pattern, path):
            _compare(shape, answer, f"{method} {known_path}")


def _compare(shape, answer, place):
    if isinstance(shape, str):
        shape = shapes()[1].get(shape, shape)
    if isinstance(shape, dict) and shape and isinstance(answer, dict):
        assert answer.keys() == shape.keys(), f"{place}: documented and answered keys differ"
        for key, below in shape.items():
            _compare(below, answer[key], f"{place}, {key}")
    elif isinstance(shape, list) and shape and isinstance(answer, list):
        for each in answer:
            _compare(shape[0], each, place)
    elif isinstance(shape, (dict, list)) and shape:
        assert answer is None, f"{place}: another kind of value is documented"
