"""Loads through PgBouncer in transaction mode, and what they leave behind on its connections.

`python -m tests.pooler` runs all combinations with many rows; tests/test_pooler.py with few.
"""
