"""Telemetry: what an operator sees of a running service: log lines, metrics and traces. See docs/operations.md.

The engine knows nothing of it; whatever runs the engine (delivery and everything above) tells it what happens.
"""
