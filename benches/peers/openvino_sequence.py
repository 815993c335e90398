"""OpenVINO: one GRUSequence held to float32, on tensors that lie ready."""

from __future__ import annotations

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from openvino import properties
from torch import Tensor

from benches.peers.layout import biases, blocks
from benches.problem import Problem, Run
from benches.shapes import STEP


def start(problem: Problem, after: bool, threads: int) -> Run:
    """Batch first, as the operation wants it. A step is a sequence of one."""
    units, stream = problem.sizes[1], problem.kind == STEP
    rows = np.ascontiguousarray(problem.x.numpy().swapaxes(0, 1))
    x = np.array(rows[:, :1]) if stream else rows
    state = np.zeros((len(rows), 1, units), np.float32)
    request = _compiled(problem, x.shape, after, threads).create_infer_request()
    for k, array in enumerate((x, state)):
        request.set_input_tensor(k, ov.Tensor(array, shared_memory=True))

    def final() -> np.ndarray:
        return np.array(request.get_output_tensor(1).data)

    def results() -> dict[str, Tensor]:
        request.infer()
        y = request.get_output_tensor(0).data[:, 0].swapaxes(0, 1)
        return {"y": torch.from_numpy(np.array(y)), "final state 0": torch.from_numpy(final().swapaxes(0, 1))}

    def streamed() -> dict[str, Tensor]:
        outputs = []
        state[:] = 0
        for t in range(rows.shape[1]):
            x[:] = rows[:, t : t + 1]
            request.infer()
            state[:] = final()
            outputs.append(state[:, 0].copy())
        return {"y": torch.from_numpy(np.stack(outputs))}

    return Run(lambda: (request.infer(), x, state), streamed if stream else results)  # keeps the shared memory


def _compiled(problem: Problem, shape: tuple[int, ...], after: bool, threads: int) -> ov.CompiledModel:
    units = problem.sizes[1]
    own, other = (blocks(b, "zrn") for b in biases(problem.parameters))
    # With the reset behind the product the candidate keeps a bias for each half.
    summed = np.concatenate([(own + other)[: 2 * units], own[2 * units :], other[2 * units :]]) if after else own
    x = ops.parameter(list(shape), np.float32)
    h = ops.parameter([shape[0], 1, units], np.float32)
    weights = [blocks(problem.parameters[name], "zrn")[None] for name in ("weight_ih_l0", "weight_hh_l0")]
    lengths = np.full(shape[0], shape[1], np.int64)
    node = ops.gru_sequence(x, h, lengths, *weights, summed[None], units, "forward", linear_before_reset=after)
    settings = {
        properties.hint.inference_precision(): ov.Type.f32,  # bfloat16 otherwise, where the processor has it
        properties.inference_num_threads(): threads,
        properties.num_streams(): 1,
        properties.hint.enable_cpu_pinning(): False,  # a thread bound to a core cannot give way to the other columns
    }
    return ov.Core().compile_model(ov.Model(node.outputs(), [x, h]), "CPU", settings)
