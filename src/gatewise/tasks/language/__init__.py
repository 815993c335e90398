"""Language models: texts as tokens, a recurrent network that predicts the next one, and what it writes."""

from gatewise.tasks.language.language_model import LanguageModel

__all__ = ["LanguageModel"]
