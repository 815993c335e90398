"""Measurements: ``python -m benches.layers`` times the layers, ``python -m benches.report`` writes the page."""
