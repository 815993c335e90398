"""The formula of a layer in its state_dict."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gatewise.compiler.cell import Cell

FORMULA_KEY = "_extra_state"


class FormulaInStateDict(nn.Module):
    """Layers that carry their cell's text in the state_dict, so that weights of one equation never load into another.

    A layer of torch's own formula exchanges weights with torch.nn freely: it overrides ``_carries_formula``.
    """

    cell: Cell

    def _carries_formula(self) -> bool:
        return True

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._carries_formula():
            destination[prefix + FORMULA_KEY] = torch.tensor(
                list(self.cell.text.encode()), dtype=torch.uint8, device="cpu"
            )

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
        formula = state_dict.pop(prefix + FORMULA_KEY, None)
        message = self._formula_problem(formula)
        if message:
            error_msgs.append(message)
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _formula_problem(self, formula: Any) -> str:
        if formula is None:
            if not self._carries_formula():
                return ""
            return (
                f"the state_dict carries no formula, as torch.nn's do, but this layer computes {self.cell.name}; load "
                "torch's weights into GRU(..., reset_after=True), LSTM or RNN"
            )
        try:
            text = bytes(torch.as_tensor(formula).tolist()).decode()
        except (ValueError, TypeError, UnicodeDecodeError):
            return "the formula in the state_dict is damaged: it is not the text of a cell"
        if text != self.cell.text:
            name = text.partition("(")[0].removeprefix("def ")
            return (
                f"the state_dict holds the weights of cell {name}, but this layer computes {self.cell.name}; build the "
                "layer with the cell the weights were trained with"
            )
        return ""
