"""ONNX Runtime: one GRU node, input and outputs bound to memory that lies ready."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from benches.peers.layout import biases, blocks
from benches.problem import Problem, Run
from benches.shapes import STEP

Arrays = dict[str, np.ndarray]


def start(problem: Problem, after: bool, threads: int) -> Run:
    """The node's state is an input, so that a step can hand it on without a copy."""
    made = session(problem, after, threads)
    (time, batch, _), units = problem.x.shape, problem.sizes[1]
    if problem.kind == STEP:
        return _steps(made, problem)
    y = np.empty((time, 1, batch, units), np.float32)
    state, final = np.zeros((1, batch, units), np.float32), np.empty((1, batch, units), np.float32)
    bound = Bound(made, {"X": problem.x.numpy(), "h": state}, {"Y": y, "Y_h": final})

    def results() -> dict[str, Tensor]:
        bound.run()
        return {"y": torch.from_numpy(y[:, 0].copy()), "final state 0": torch.from_numpy(final.copy())}

    return Run(bound.run, results)


class Bound:
    """A session with its arrays bound by address, which are kept with it."""

    def __init__(self, session: ort.InferenceSession, inputs: Arrays, outputs: Arrays) -> None:
        self._session, self._arrays = session, (inputs, outputs)
        self._binding = session.io_binding()
        for name, array in inputs.items():
            self._binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            self._binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Compute the outputs."""
        self._session.run_with_iobinding(self._binding)


def _steps(session: ort.InferenceSession, problem: Problem) -> Run:
    """Two bindings that hand the state to and fro."""
    row = np.array(problem.x[:1].numpy())
    states = [np.zeros((1, problem.x.shape[1], problem.sizes[1]), np.float32) for _ in range(2)]
    turns = [Bound(session, {"X": row, "h": states[k]}, {"Y_h": states[1 - k]}) for k in range(2)]

    def results() -> dict[str, Tensor]:
        outputs = []
        states[0][:] = 0
        for t, x in enumerate(problem.x.numpy()):
            row[0] = x
            turns[t % 2].run()
            outputs.append(states[1 - t % 2][0].copy())
        return {"y": torch.from_numpy(np.stack(outputs))}

    return Run(turns[0].run, results)


def session(problem: Problem, after: bool, threads: int) -> ort.InferenceSession:
    weights = {
        "W": blocks(problem.parameters["weight_ih_l0"], "zrn")[None],
        "R": blocks(problem.parameters["weight_hh_l0"], "zrn")[None],
        "B": np.concatenate([blocks(b, "zrn") for b in biases(problem.parameters)])[None],
    }
    (time, batch, width), units = problem.x.shape, problem.sizes[1]
    stream = problem.kind == STEP
    outputs = ["", "Y_h"] if stream else ["Y", "Y_h"]
    node = helper.make_node("GRU", ["X", *weights, "", "h"], outputs, hidden_size=units, linear_before_reset=int(after))
    steps, shapes = 1 if stream else time, {"Y_h": [1, batch, units]}
    if not stream:
        shapes = {"Y": [time, 1, batch, units], **shapes}
    real = TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "gru",
        [
            helper.make_tensor_value_info("X", real, [steps, batch, width]),
            helper.make_tensor_value_info("h", real, [1, batch, units]),
        ],
        [helper.make_tensor_value_info(name, real, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
