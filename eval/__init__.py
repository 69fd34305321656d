"""Scoring: a scorer a skill, statistics, the runner and reports."""
