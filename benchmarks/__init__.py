"""Benchmarks: each figure beside a baseline that was measured in the same run, on the same disk."""
