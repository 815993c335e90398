"""The formula of a layer in its state_dict."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import torch
from torch import nn

from gatewise.compiler.cell import Cell

FORMULA = re.compile(r"formula_(\w+)_([0-9a-f]{16})")
EARLIER_KEY = "_extra_state"
"""Under which the text itself lay as bytes: averages over the entries of state_dicts failed on it, or spoiled it."""


def formula_key(cell: Cell) -> str:
    """The entry that says whose weights these are: the name of the cell, and a digest of its text. It is its name that
    says it, so that averages, sums and noise leave it as it is."""
    return f"formula_{cell.name}_{hashlib.sha256(cell.text.encode()).hexdigest()[:16]}"


class FormulaInStateDict(nn.Module):
    """Layers that name their cell in the state_dict, so that weights of one equation never load into another.

    A layer of torch's own formula exchanges weights with torch.nn freely: it overrides ``_carries_formula``.
    """

    cell: Cell

    def _carries_formula(self) -> bool:
        return True

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._carries_formula():
            like = next(self.parameters(), torch.empty(0, device="cpu"))
            destination[prefix + formula_key(self.cell)] = torch.zeros((), dtype=like.dtype, device=like.device)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = [key for key in state_dict if key.startswith(prefix) and FORMULA.fullmatch(key, len(prefix))]
        problems = {self._other_formula(key[len(prefix) :]) for key in own}
        earlier = state_dict.pop(prefix + EARLIER_KEY, None)
        for key in own:
            del state_dict[key]
        if earlier is not None:
            problems.add(self._other_text(earlier))
        elif not own and self._carries_formula():
            problems.add(
                f"the state_dict carries no formula, as torch.nn's do, but this layer computes {self.cell.name}; load "
                "torch's weights into GRU(..., reset_after=True), LSTM or RNN"
            )
        problems.discard("")
        if problems:
            error_msgs.extend(sorted(problems))
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _other_formula(self, key: str) -> str:
        """What is wrong with the weights of the cell that has this entry; empty for the layer's own."""
        name = key.removeprefix("formula_").rpartition("_")[0]
        return "" if key == formula_key(self.cell) else self._another(name)

    def _other_text(self, formula: Any) -> str:
        """As ``_other_formula``, of the text as bytes."""
        try:
            text = bytes(torch.as_tensor(formula).tolist()).decode()
        except (ValueError, TypeError, UnicodeDecodeError):
            return "the formula in the state_dict is damaged: it is not the text of a cell"
        return "" if text == self.cell.text else self._another(text.partition("(")[0].removeprefix("def "))

    def _another(self, name: str) -> str:
        return (
            f"the state_dict holds the weights of cell {name}, but this layer computes {self.cell.name}; build the "
            "layer with the cell the weights were trained with"
        )
