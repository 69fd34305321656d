"""Scoring: a scorer for each skill, statistics, the runner and reports.

from eval import Request, evaluate

record = evaluate(Request("date-keys", adapter="adapters/date-keys"))
"""

from eval.evaluate import Request as Request
from eval.evaluate import evaluate as evaluate

__all__ = ["Request", "evaluate"]
