"""Forecasting: direct multi-horizon networks on the long table ``unique_id, ds, y``."""

from gatewise.tasks.forecast.forecaster import Forecaster

__all__ = ["Forecaster"]
