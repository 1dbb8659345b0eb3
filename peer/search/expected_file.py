"""A list of expected patients as it is written: CSV with a heading."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any, Final

from protocol.errors import Refusal

COLUMNS: Final = ("name", "birth_date", "sex", "identifier", "issuer")


def read(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return the patients, each as a search takes one; raise Refusal for what is no such list."""
    reader = csv.DictReader(lines)
    try:
        heading = reader.fieldnames or ()
        if not heading or set(heading) - set(COLUMNS):
            raise Refusal(
                "wrong-columns",
                "The list does not begin with a heading of known columns.",
                f"The columns are {', '.join(COLUMNS)}; those without content may be left out.",
            )
        return [_patient(row) for row in reader]
    except csv.Error as error:
        raise Refusal(
            "not-readable", "The list cannot be read as CSV.", "Check its form."
        ) from error


def _patient(row: dict[str, Any]) -> dict[str, Any]:
    told = {name: (row.get(name) or "").strip() for name in COLUMNS}
    identifier = {"issuer": told["issuer"], "value": told["identifier"]}
    return {
        "name": told["name"],
        "birth_date": told["birth_date"].replace("-", ""),
        "sex": told["sex"],
        "identifiers": [identifier] if told["identifier"] else [],
    }
