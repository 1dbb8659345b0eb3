"""docs/explanation/performance.md and its picture say what the results beside them say."""

from __future__ import annotations

import json

from tests.benchmarks.report import (
    BEGIN,
    END,
    PAGE,
    PICTURE,
    RESULTS,
    TARGETS,
    page,
    picture,
    read,
    table,
)


def test_the_page_and_its_picture_are_those_of_the_results():
    results, text = read(RESULTS), PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text == page(text, results), "make performance"
    assert PICTURE.read_text() == picture(results), "make performance"


def test_a_later_result_takes_the_place_of_an_earlier_one(tmp_path):
    def line(value, ratio, **more):
        detail = {"runs": [1.0], "lowest": 1.0, "highest": 1.0, "load": 0.5, "limit": "it", **more}
        return json.dumps(
            {"name": "serve_tls", "value": value, "unit": "MB/s", "against": 2.0, "ratio": ratio,
             "detail": detail},
        )  # fmt: skip

    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text(line(1.0, 0.5) + "\n" + line(7.0, 3.5, of="other") + "\n")
    new.write_text("what a tool says besides\n" + line(3.0, 1.5) + "\n")
    results = read(old, new)
    assert [each["value"] for each in results] == [3.0, 7.0]
    assert "1.50 |" in table(results)
    assert "0.50 (missed)" in table(read(old))
    reach = TARGETS["serve_tls"][1]
    assert f">{1.5 / reach:.2f}<" in picture(results)
