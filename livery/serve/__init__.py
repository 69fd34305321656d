"""Serving: jobs, an API and a page over Livery's own commands, run as processes."""
