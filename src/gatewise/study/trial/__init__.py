"""The literature's claims on trial: each tried out, with a verdict that may be "fails"."""

from gatewise.study.trial.run import trial

__all__ = ["trial"]
