"""Measurements: ``layers``, ``cells`` and ``scaling`` time, ``python -m benches.report docs`` writes the page."""
