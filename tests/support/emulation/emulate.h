// Behind a kernel's source: how tests run it. 0: done; 1: it gave up; 2: fibres wait for each other; 3: a fault.
#pragma once

static void run_kernel(const void* arguments) { gatewise_kernel(*(const Arguments<Cell, Number>*)arguments); }

extern "C" int emulate(const void* arguments, int blocks, int threads, int cluster, int shared, u64 seed, int eager) {
    if (threads != Sizes<Cell, Layout>::threads || shared != Sizes<Cell, Layout>::shared) return 4;
    Grid here(blocks, threads, cluster, shared, seed, eager);
    running = &here;
    const Outcome outcome = here.run(run_kernel, arguments);
    running = nullptr;
    return (int)outcome;
}
extern "C" int arguments_bytes() { return sizeof(Arguments<Cell, Number>); }
