"""Evaluations: summaries of all, and whole records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query

from livery.serve import evaluations, runs
from livery.serve.api.problems import from_root
from livery.serve.api.services import Livery
from livery.serve.evaluations import Summary

router = APIRouter(prefix="/api/evaluations", tags=["evaluations"])


@dataclass(frozen=True)
class EvaluationList:
    """Summaries, the newest first."""

    evaluations: list[Summary]


@router.get("")
def list_evaluations(
    livery: Livery, limit: Annotated[int, Query(ge=1, le=1000)] = 200
) -> EvaluationList:
    """Evaluations of all adapters."""
    found = [
        one for folder in runs.adapters(livery.settings) for one in evaluations.of_adapter(folder)
    ]
    return EvaluationList(sorted(found, key=lambda one: -one.written)[:limit])


@router.get("/{adapter}/{file}")
def one_evaluation(adapter: str, file: str, livery: Livery) -> dict[str, Any]:
    """A whole record: every case with its prompt, what was expected and what was answered."""
    record = evaluations.read(livery.settings.adapters, adapter, file)
    # What was asked and answered stays as it was.
    about = {key: value for key, value in record.items() if key != "cases"}
    return record | from_root(about, livery.settings)
