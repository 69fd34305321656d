"""The table of small faults fits the code: every text is there once, and so are the tests.

Before a release, for code may change first and the table after it.
"""

from __future__ import annotations

import shlex

import pytest

from tests import ROOT, mutants


@pytest.mark.sweep
def test_every_fault_can_be_put_in() -> None:
    gone = [mutant.name for mutant in mutants.MUTANTS if mutants.place(mutant) is None]
    assert not gone, "tests/mutants.py: give these the code's new text, or take them out"


def test_the_tests_that_shall_notice_it_are_there() -> None:
    words = {word for mutant in mutants.MUTANTS for word in shlex.split(mutant.tests)}
    assert not [
        word for word in sorted(words) if word[:6] == "tests/" and not (ROOT / word).exists()
    ]
    assert all(mutant.old != mutant.new for mutant in mutants.MUTANTS)
