"""Translation: recurrent encoder and decoder, with attention or by the final state alone."""

from gatewise.tasks.translate.translator import Translation, Translator

__all__ = ["Translation", "Translator"]
