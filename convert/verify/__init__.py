"""Run an adapter in every runtime and compare the numbers."""
