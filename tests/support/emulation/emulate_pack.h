// Behind the source of the kernel that packs weights: how tests run it, block after block. The numbers are as in emulate.h.
#pragma once

static void run_kernel(const void* arguments) { gatewise_kernel(*(const Packing*)arguments); }

extern "C" int emulate(const void* arguments, int blocks) {
    Outcome outcome = Outcome::done;
    for (int block = 0; block < blocks && outcome == Outcome::done; ++block) {
        Grid here(1, pack_threads, 1, 0, 0, false);
        here.first = block;
        running = &here;
        outcome = here.run(run_kernel, arguments);
    }
    running = nullptr;
    return (int)outcome;
}
extern "C" int arguments_bytes() { return sizeof(Packing); }
