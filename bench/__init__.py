"""Benchmarks: each prints, last, one line `{"bench": NAME, "figures": {...}, "peer": {...}}`."""
