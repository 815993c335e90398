"""What is done to a text before it is cut into pieces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# After the punctuation normaliser of Moses: one form for quotes, dashes, dots and spaces.
FORMS = [
    (re.compile("[«»“”„″]|``|''"), '"'),
    (re.compile("[‘’‚´`′]"), "'"),
    (re.compile("[–—―]"), "-"),
    (re.compile("…"), "..."),
    (re.compile("\\s+"), " "),
    (re.compile(" ([?!:;%,.])(?= |$)"), "\\1"),
]


def prepare(texts: Iterable[str], lowercase: bool, normalise: bool) -> list[str]:
    """The texts in Unicode's composed form with single spaces; lower-cased and with plain punctuation where asked."""
    found = []
    for text in texts:
        plain = " ".join(unicodedata.normalize("NFC", text).split())
        if normalise:
            for pattern, form in FORMS:
                plain = pattern.sub(form, plain)
        found.append(plain.lower() if lowercase else plain)
    return found
