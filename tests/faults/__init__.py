"""Fault tests: a catalogue of faults, run against the real engine, checked by reading the table.

`python -m tests.faults --seeds 1,2,3` runs all of it; `tests/test_faults.py` a sample. Everything
that is drawn at random comes from the seed and the case's name, so a run can be repeated alone:
`python -m tests.faults --seeds 3 --only cut_commit_after`.
"""
