"""Speech recognition: sound in, text out, by recurrent layers and connectionist temporal classification."""

from gatewise.tasks.transcribe.transcriber import Transcriber

__all__ = ["Transcriber"]
