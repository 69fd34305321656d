"""report.md, report.html and what a terminal shows."""
