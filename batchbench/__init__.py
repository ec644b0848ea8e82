"""batchbench: benchmarking and chunk-size tuning for batch writes to PostgreSQL."""

__version__ = "0.1.0"
