"""Measurements: `python -m benchmarks` runs them, `python -m benchmarks.tables` puts the results into the documents."""
