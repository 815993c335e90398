"""Cards to choose layouts for, where none is at hand."""

from gatewise.backends.cuda.card import Card

H200 = Card("sm_90a", 132, 231424, {2: 66, 4: 30, 8: 15, 16: 7})
"""As its driver answered, with one block on a multiprocessor."""
A100 = Card("sm_80", 108, 166912)
B200 = Card("sm_100", 148, 231424, {2: 72, 4: 34, 8: 16, 16: 7})
"""Multiprocessors and shared memory as NVIDIA writes; how many clusters fit was measured by nobody, and is here only so
that layouts with clusters are compiled."""
CARDS = {card.architecture: card for card in (A100, H200, B200)}
