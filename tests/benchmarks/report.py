"""`make performance`: writes the tables and the picture of docs/explanation/performance.md.

The results stand in docs/explanation/performance.jsonl, one a line, as the benchmarks print them.
`make performance RESULTS="FILE ..."` puts those of other files in their places first: of results of
one name, and of one benchmark where several have that name, the last one counts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = DOCS / "explanation" / "performance.jsonl"
PAGE = DOCS / "explanation" / "performance.md"
PICTURE = DOCS / "pictures" / "performance.svg"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"

TARGETS = {
    "ct_folder": ("CT from a folder", 0.70, 0.85),
    "tiny_folder": ("39 KB instances from a folder", 0.45, 0.65),
    "ct_stow_1": ("CT by STOW-RS, 1 connection", 1.2, 2.0),
    "ct_stow_4": ("CT by STOW-RS, 4 connections", 1.0, 1.5),
    "ct_cstore_1": ("CT by C-STORE, 1 association", 0.9, 1.0),
    "ct_cstore_4": ("CT by C-STORE, 4 associations", 1.5, 2.0),
    "serve_tls": ("Serving ciphertext", 0.9, 1.0),
    "node_to_node": ("Node to node, verified and stored", 0.35, 0.45),
    "node_to_node_orthanc": ("Node to node, 1 study", 2.5, 4.0),
    "node_to_node_orthanc_4": ("Node to node, 4 studies at once", 1.5, 2.0),
    "held_already_seconds": ("A study that is held already", 1.0, 2.0),
    "wado_local": ("WADO-RS, whole study", 0.7, 1.0),
    "wado_local_instance": ("WADO-RS, an instance a request", 1.0, 2.0),
    "wado_local_metadata": ("WADO-RS, metadata", 1.0, 5.0),
    "first_image_seconds": ("First image of a remote study", 1.0, 2.0),
    "peak_memory_mb": ("Peak memory", 1.0, 1.25),
}
"""What each result is, and the ratios to reach and to aim at: above 1 is better than `against`."""

ROW, LEFT, UNIT, MOST, TOP = 26, 270, 130, 3.5, 34
"""Pixels of the picture: a row, the names, a bar of 1; the longest bar shown; the heading."""


def key(result):
    return result["name"], result["detail"].get("of", "")


def read(*paths):
    """Return the results of files, of each name the last, in the order of TARGETS."""
    found = {}
    for path in paths:
        for line in path.read_text().splitlines():
            if line.startswith("{") and json.loads(line)["name"] in TARGETS:
                found[key(json.loads(line))] = json.loads(line)
    order = list(TARGETS)
    return sorted(found.values(), key=lambda result: (order.index(result["name"]), key(result)))


def title(result):
    of = result["detail"].get("of")
    return TARGETS[result["name"]][0] + (f" ({of})" if of else "")


def table(results):
    """Return the table of results in Markdown."""
    lines = [
        "| | name | median [range] | against | ratio | to reach | goal | runs | load |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        detail, (_, reach, goal) = each["detail"], TARGETS[each["name"]]
        ratio = "" if each["ratio"] is None else f"{each['ratio']:.2f}"
        mark = "" if each["ratio"] is None or each["ratio"] >= reach else " (missed)"
        against = "" if each["against"] is None else f"{each['against']:.4g}: {detail['limit']}"
        lines.append(
            f"| {title(each)} | `{each['name']}` | {each['value']:.4g} {each['unit']} "
            f"[{detail['lowest']:.4g} to {detail['highest']:.4g}] | {against} | "
            f"{ratio}{mark} | {reach} | {goal} | {len(detail['runs'])} | {detail['load']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def picture(results):
    """Return the ratios as bars in SVG; a bar of 1 is what was to be reached."""
    shown = [each for each in results if each["ratio"] is not None]
    width, height = LEFT + int(MOST * UNIT) + 60, TOP + ROW * len(shown) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">',
        '<g font-family="sans-serif" font-size="12">',
        "<title>Each result as a multiple of what was to be reached</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT + UNIT}" y="18" text-anchor="middle">to reach</text>',
        f'<path d="M{LEFT + UNIT} 24V{height - 6}" stroke="#444" stroke-dasharray="3 3"/>',
    ]
    for number, each in enumerate(shown):
        _, reach, goal = TARGETS[each["name"]]
        share, top = each["ratio"] / reach, TOP + ROW * number
        length = min(share, MOST) * UNIT
        colour = "#2f7d5b" if share >= 1 else "#b3452c"
        aim = LEFT + min(goal / reach, MOST) * UNIT
        parts += [
            f'<text x="{LEFT - 8}" y="{top + 13}" text-anchor="end">{title(each)}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{length:.0f}" height="17" fill="{colour}"/>',
            f'<path d="M{aim:.0f} {top - 2}v21" stroke="#222" stroke-width="2"/>',
            f'<text x="{LEFT + length + 5:.0f}" y="{top + 13}">{share:.2f}</text>',
        ]
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"


def page(text, results):
    """Return the page with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + table(results) + "\n" + END + rest.partition(END)[2]


def main():
    results = read(RESULTS, *map(Path, sys.argv[1:]))
    RESULTS.write_text("".join(json.dumps(each) + "\n" for each in results))
    PAGE.write_text(page(PAGE.read_text(), results))
    PICTURE.write_text(picture(results))


if __name__ == "__main__":
    main()
