"""Engines that generate: one protocol, one module a runtime."""
