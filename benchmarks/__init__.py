"""Peers and batchbench load the same rows, against what the server does with no client at all.

`python -m benchmarks --help`, or `make bench`.
"""
