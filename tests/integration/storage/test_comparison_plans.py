"""What a comparison asks costs by the study that it is of, not by what was ever measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage import queries
from storage.database import Database
from tests.integration.storage.test_query_plans import full, reads_all
from tests.sql import heard, plan

__all__ = ["full"]

ASKED: dict[str, Callable[[Database], object]] = {
    "a study's results": lambda db: queries.results(db, study="study", documents=False),
    "results of a kind": lambda db: queries.results(db, study="study", kind=("latency", "accuracy"), documents=False),
    "ceilings": queries.ceilings,
    "study names": queries.study_names,
    "whether a study has results": lambda db: queries.has_ended(db, queries.study_names(db)[0].id),
    "whether there is much": lambda db: queries.more_than(db, 100),
}


@pytest.mark.slow
def test_no_question_of_a_comparison_reads_every_job(full: Database) -> None:
    for name, ask in ASKED.items():
        with heard(full) as said:
            ask(full)
        questions = [(statement, given) for statement, given in said if statement.startswith("SELECT")]
        assert questions, name
        for statement, given in questions:
            how = plan(full, statement, given)
            assert not reads_all(how), f"{name}: {statement}\n{how}"
