"""From a plan to LLVM IR: its phases, and the loop over steps and threads around them."""

from __future__ import annotations

import llvmlite.ir as ir

from gatewise.backends.cpu.lanes import I32, I64, PTR, Code
from gatewise.backends.cpu.phase import KernelOptions
from gatewise.backends.cpu.products import KINDS
from gatewise.backends.kernels import frame as slots
from gatewise.backends.kernels.frame import Frame
from gatewise.compiler.schedule import Plan

ENTRIES = ("run", "steps")


def emit(plan: Plan, options: KernelOptions) -> str:
    """The IR of a module with the entries ``run(frame)`` and ``steps(frame, thread, threads)``, one thread's share."""
    module = ir.Module("gatewise")
    writer = _Module(module, plan, options)
    phases = [writer.phase(p) for p in range(len(plan.phases))]
    writer.body(phases)
    writer.entry()
    return str(module)


class _Module:
    def __init__(self, module: ir.Module, plan: Plan, options: KernelOptions) -> None:
        self.module, self.plan, self.options, self.products = module, plan, options, KINDS[options.products]
        self.frame = Frame.of(plan, bool(options.straight))
        self.has_prelude = bool(plan.phases[0].stores)
        void = ir.VoidType()
        region = ir.FunctionType(void, [PTR])
        self.parallel = ir.Function(module, ir.FunctionType(void, [PTR, PTR, I32, I32]), "gatewise_parallel")
        self.barrier = ir.Function(module, ir.FunctionType(void, []), "gatewise_barrier")
        self.thread_num = ir.Function(module, ir.FunctionType(I32, []), "gatewise_thread_num")
        self.num_threads = ir.Function(module, ir.FunctionType(I32, []), "gatewise_num_threads")
        self.region = ir.Function(module, region, "region")
        self.run = ir.Function(module, region, "run")
        self.steps = ir.Function(module, ir.FunctionType(void, [PTR, I64, I64]), "steps")
        self.region.linkage = "internal"

    def code(self, function: ir.Function) -> Code:
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        return Code(builder, self.options.dtype, self.options.vector_bytes)

    def phase(self, index: int) -> ir.Function:
        kind = ir.FunctionType(ir.VoidType(), [PTR, I64, I64, I64, I64, I64, I64])
        function = ir.Function(self.module, kind, f"phase{index}")
        function.linkage = "internal"
        function.attributes.add("noinline")
        writer = self.products.straight if self.options.straight else self.products.writer
        assert writer is not None, self.options
        writer(self, index, function).write()
        return function

    def entry(self) -> None:
        """``run``: alone, or in a parallel region of torch's own OpenMP."""
        c = self.code(self.run)
        (frame,) = self.run.args
        threads = c.slot(frame, slots.THREADS)
        with c.b.if_else(c.b.icmp_signed(">", threads, c.i64(1))) as (many, one):
            with many:
                count = c.b.trunc(threads, I32)
                c.b.call(self.parallel, [self.region, frame, count, ir.Constant(I32, 0)])
            with one:
                c.b.call(self.steps, [frame, c.i64(0), c.i64(1)])
        c.b.ret_void()
        c = self.code(self.region)
        (frame,) = self.region.args
        # Asked inside the region: OMP_THREAD_LIMIT and OMP_DYNAMIC give fewer threads than were asked for.
        number = c.b.zext(c.b.call(self.thread_num, []), I64)
        count = c.b.zext(c.b.call(self.num_threads, []), I64)
        c.b.call(self.steps, [frame, number, count])
        c.b.ret_void()

    def body(self, phases: list[ir.Function]) -> None:
        """``steps``: one thread's share of every phase of every step."""
        c = self.code(self.steps)
        with self.products.around(c):
            self._body(c, phases)
        c.b.ret_void()

    def _body(self, c: Code, phases: list[ir.Function]) -> None:
        frame, number, count = self.steps.args
        rows, units = c.slot(frame, slots.ROWS), c.slot(frame, slots.UNITS)
        by_units = c.b.icmp_signed("!=", c.slot(frame, slots.BY_UNITS), c.i64(0))
        self.waits = c.b.and_(by_units, c.b.icmp_signed(">", count, c.i64(1)))

        def share(total: ir.Value, shared: ir.Value) -> tuple[ir.Value, ir.Value]:
            low = c.b.udiv(c.b.mul(total, number), count)
            high = c.b.udiv(c.b.mul(total, c.b.add(number, c.i64(1))), count)
            return c.b.select(shared, low, c.i64(0)), c.b.select(shared, high, total)

        low, high = share(rows, c.b.not_(by_units))
        blocks = [share(c.ceil_div(units, t.vectors * c.length), by_units) for t in self.options.tiles]

        def call(index: int, step: ir.Value) -> None:
            c.b.call(phases[index], [frame, step, number, low, high, *blocks[index]])
            with c.b.if_then(self.waits):
                c.b.call(self.barrier, [])

        steps = c.slot(frame, slots.STEPS)
        if len(phases) == 1:
            with c.loop(c.i64(0), steps) as s:
                call(0, s)
        else:
            if self.has_prelude:
                call(0, c.i64(0))
            with c.loop(c.i64(0), steps) as s:
                for index in range(1, len(phases)):
                    call(index, s)
