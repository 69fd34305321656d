"""docs/data.md says what becomes of the rows it shows."""

from __future__ import annotations

import json
import re

import pytest

from livery.dataset.columns import ANNOTATIONS, FIELDS, read_columns
from livery.dataset.conversation import RowError
from livery.dataset.packed import FORMATS, PACKED
from livery.dataset.rows import nothing_to_learn, read_row
from livery.dataset.turns import ROLES
from livery.paths import HOME

PAGE = (HOME / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```jsonl (used|dropped|refused) ?(\S*)\n(.*?)```", PAGE, re.S)
ROWS = [
    (verdict, columns, row)
    for verdict, columns, rows in BLOCKS
    for row in rows.splitlines()
]  # fmt: skip


@pytest.mark.parametrize(("verdict", "columns", "row"), ROWS)
def test_the_rows_of_the_page(verdict: str, columns: str, row: str) -> None:
    mapping = read_columns(filter(None, columns.split(",")))
    try:
        found = read_row(json.loads(row), "page", mapping)
    except RowError:
        assert verdict == "refused"
        return
    assert verdict == ("dropped" if nothing_to_learn(found) else "used")


def test_the_page_shows_every_verdict() -> None:
    assert {verdict for verdict, _, _ in ROWS} == {"used", "dropped", "refused"}
    assert len(ROWS) > 30


def test_the_page_names_all_there_is() -> None:
    for name in (*ANNOTATIONS, *FIELDS, *FORMATS, *PACKED):
        assert f"`{name}`" in PAGE, name
    for role in ROLES:
        assert re.search(rf"\b{role}\b", PAGE), role
