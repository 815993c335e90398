"""The shapes that are measured, and the work and the traffic they cannot do without."""

from __future__ import annotations

from dataclasses import dataclass

GATES = {"gru_after": 3, "gru_before": 3, "lstm": 4}
"""Blocks of rows in the weights of each formula."""

INFERENCE = "inference"
TRAIN = "train"
STEP = "step"
"""One step of a stream: weights are prepared once, and the state lies ready."""
CALL, TRAIN_CALL = "call", "train-call"
"""A layer called with a few steps, as decoders and reinforcement learning do."""
CELL, TRAIN_CELL = "cell", "train-cell"
"""A call of ``GRUCell`` or ``LSTMCell``."""
SHORT = (CALL, TRAIN_CALL, CELL, TRAIN_CELL)
"""Kinds that have a table of their own and no floor: most of their time is no arithmetic."""
TRAINED = (TRAIN, TRAIN_CALL, TRAIN_CELL)
ONE_STEP = (STEP, CELL, TRAIN_CELL)
_KINDS = (INFERENCE, TRAIN, STEP, *SHORT)
_FORMS = (
    "B,T,I,H or KIND:B,T,I,H with a kind of train, call, train-call, or of one step (T = 1): step, cell, train-cell"
)


@dataclass(frozen=True)
class Shape:
    """Batch, time, input and hidden size of one layer, and what is done with it."""

    batch: int
    time: int
    input: int
    hidden: int
    kind: str = INFERENCE

    @property
    def training(self) -> bool:
        return self.kind in TRAINED

    def __str__(self) -> str:
        sizes = f"{self.batch},{self.time},{self.input},{self.hidden}"
        return sizes if self.kind == INFERENCE else f"{self.kind} {sizes}"

    @classmethod
    def read(cls, text: str) -> Shape:
        """The shape printed as ``8,200,128,256`` or ``train 8,200,128,256`` (a colon may stand for the space).

        Raises:
            ValueError: when the text is no shape.
        """
        kind, _, sizes = text.replace(":", " ").strip().rpartition(" ")
        try:
            batch, time, width, hidden = (int(size) for size in sizes.split(","))
        except ValueError:
            raise ValueError(f"a shape must read {_FORMS}, got {text!r}") from None
        known = kind in ("", *_KINDS) and (kind not in ONE_STEP or time == 1)
        if not known or min(batch, time, width, hidden) < 1:
            raise ValueError(f"a shape must read {_FORMS} with sizes of at least 1, got {text!r}")
        return cls(batch, time, width, hidden, kind or INFERENCE)

    def operations(self, formula: str) -> float:
        """Floating-point operations of the products; training also computes two gradients of each."""
        forward = 2.0 * GATES[formula] * self.batch * self.time * self.hidden * (self.input + self.hidden)
        return 3 * forward if self.training else forward

    def recurrent_bytes(self, formula: str) -> int:
        """Weights that every step reads: those of the state."""
        return 4 * GATES[formula] * self.hidden * self.hidden

    def input_bytes(self, formula: str) -> int:
        """Weights that a layer may read once for all steps: those of the input."""
        return 4 * GATES[formula] * self.hidden * self.input


STEP_SHAPES = (
    Shape(1, 1, 64, 96, STEP),
    Shape(1, 1, 128, 256, STEP),
    Shape(1, 1, 256, 512, STEP),
    Shape(1, 1, 512, 1024, STEP),
)
INFERENCE_SHAPES = (
    Shape(1, 1, 64, 96),
    Shape(1, 1, 128, 256),
    Shape(1, 1, 256, 512),
    Shape(1, 1, 512, 1024),
    Shape(1, 100, 128, 256),
    Shape(1, 1000, 40, 512),
    Shape(8, 200, 128, 256),
    Shape(32, 100, 256, 512),
    Shape(64, 50, 512, 1024),
    Shape(256, 24, 1, 128),
)
TRAIN_SHAPES = (
    Shape(32, 100, 128, 256, TRAIN),
    Shape(64, 24, 1, 64, TRAIN),
    Shape(32, 200, 256, 512, TRAIN),
    Shape(64, 50, 650, 650, TRAIN),
    Shape(128, 35, 200, 200, TRAIN),
)
CALL_SHAPE = Shape(1, 1, 1, 1, CALL)
"""Computes almost nothing: its time is that of a call from Python."""
SHORT_BATCHES, SHORT_UNITS = (1, 8, 64), (64, 256, 512, 1024)
SHORT_STEPS = {CALL: (1, 2, 4, 8), TRAIN_CALL: (1, 4), CELL: (1,), TRAIN_CELL: (1,)}
SHORT_SHAPES = tuple(
    Shape(batch, steps, units, units, kind)
    for kind, times in SHORT_STEPS.items()
    for batch in SHORT_BATCHES
    for units in SHORT_UNITS
    for steps in times
)
"""The input as wide as the state."""
