"""A diagram of any cell, drawn from its equations: state lines, gates, element-wise operations."""

from gatewise.study.diagram.svg import diagram

__all__ = ["diagram"]
