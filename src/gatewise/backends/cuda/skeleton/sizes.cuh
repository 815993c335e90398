// Sizes that follow from a cell and a layout, and how the shared memory of a block is divided.
#pragma once
#include "numbers.cuh"

template <int N> struct Int {
    static constexpr int value = N;
    constexpr INLINE operator int() const { return N; }
};
// f(Int<0>()), f(Int<1>()) …: loops whose index is a constant of the compiler.
template <int N, int I = 0, class F> INLINE void each(F f) {
    if constexpr (I < N) {
        f(Int<I>());
        each<N, I + 1>(f);
    }
}
constexpr INLINE int larger(int a, int b) { return a > b ? a : b; }
constexpr INLINE int smaller(int a, int b) { return a < b ? a : b; }
constexpr INLINE int parts(int n, int of) { return (n + of - 1) / of; }

// A product of a step: a vector that all units share times this block's rows of a weight.
struct Tile {
    int vector;
    int phase;  // the first phase that can take it: where its vector arrives
    int read;   // the phase whose epilogue reads the sum; where that is later, the product runs while values travel
    int sum;    // which of the sums of that epilogue it adds to
};
// What the blocks that share rows of the batch tell each other.
struct Vector {
    int event;     // the phase that it must arrive for; 0: published by the last phase of the step before
    bool carried;  // the value of a state: there is one more of it than there are steps
};

enum class Exchange {
    alone,    // one block has all units
    cluster,  // blocks of a cluster write into each other's shared memory
    cache,    // blocks write to memory and poll the second-level cache; values are their own flags
};

// Where an array lies: address of its slice for step 0, bytes from step to step and from row to row. The slice of step
// ``special`` lies elsewhere: the initial states, beside the values that steps have written. Strides have 32 bits, so that
// a product is one instruction: in every step each thread works out an address for each array.
struct Place {
    u8* base;  // 0: nowhere
    u8* special_base;
    int step, row, special_row, special;
};
INLINE u8* address(const Place& p, int step, int row) { return moved(moved(p.base, step, p.step), row, p.row); }
// As ``address``, of an array that has a special slice.
INLINE u8* address_before(const Place& p, int step, int row) {
    return step == p.special ? moved(p.special_base, row, p.special_row) : address(p, step, row);
}
// How far a row of a step is from the base: arrays with the same strides share it.
INLINE u64 distance(const Place& p, int step, int row) { return (u64)moved(moved((u8*)0, step, p.step), row, p.row); }
// A share of the rows of a step that lie side by side, as a block asks for them ahead.
struct Piece {
    u8* base;
    int step, special;
    u32 bytes;
};

template <class C, class L> struct Sizes {
    using N = typename L::Number;
    using real = typename N::real;
    static constexpr int width = parts(L::units, 16) * 16;        // units, and zeros behind them
    static constexpr int units = L::groups * 16;                  // units of a block
    // Columns that blocks tell each other, in whole pieces; what lies behind them stays zero.
    static constexpr int told = L::units % N::chunk == 0 ? L::units : width;
    static constexpr int warps = L::groups / L::together * L::shares, threads = warps * 32;
    static constexpr int spread = L::shares / L::together;        // warps that share the elements of a group
    static constexpr int bytes = sizeof(typename N::element);
    static constexpr int steps = parts(width, L::shares * N::depth);  // double tiles of columns that a warp multiplies
    static constexpr int columns = steps * L::shares * N::depth;
    // 64 bytes more than a multiple of 128: the eight rows that lanes read together then lie in different banks.
    static constexpr int stride = columns * bytes + (columns * bytes % 128 == 0 ? 64 : 0);
    static constexpr int rows = 8 * L::tiles, vector_bytes = rows * stride;
    static constexpr int chunks = units / N::chunk;               // 16-byte pieces of a block's row

    static constexpr INLINE int vectors(int event) {
        int n = 0;
        for (int v = 0; v < C::vectors; ++v) n += C::vector(v).event == event;
        return n;
    }
    static constexpr INLINE int nth(int event, int k) {
        for (int v = 0; v < C::vectors; ++v)
            if (C::vector(v).event == event && k-- == 0) return v;
        return 0;
    }
    static constexpr INLINE int most_vectors() {
        int n = 1;
        for (int e = 0; e < C::phases; ++e) n = larger(n, vectors(e));
        return n;
    }
    static constexpr INLINE int most_sums() {
        int n = 1;
        for (int p = 0; p < C::phases; ++p) n = larger(n, C::sums(p));
        return n;
    }
    static constexpr INLINE int most_outputs() {
        int n = 1;
        for (int p = 0; p <= C::phases; ++p) n = larger(n, C::outputs(p));
        return n;
    }
    static constexpr INLINE int outputs_before(int point) {
        int n = 0;
        for (int p = 0; p < point; ++p) n += C::outputs(p);
        return n;
    }

    // Two buffers where others write while this block may still read; see exchange.cuh.
    static constexpr int buffers = L::exchange == Exchange::cache ? 1 : 2;
    static constexpr int held = L::serial ? 1 : C::vectors;
    static constexpr int sum_reals = 160;  // of a tile's 16 × 8 sums: rows of 40, so that no two lanes meet in a bank
    static constexpr int operands = 0;
    static constexpr int weights = operands + buffers * held * vector_bytes;
    static constexpr int sums = weights + warps * L::together * C::tiles * (steps - L::resident) * 2 * 512;
    static constexpr int stage = sums + L::groups * L::shares * most_sums() * L::tiles * sum_reals * (int)sizeof(real);
    static constexpr int pieces = stage + most_vectors() * rows * units * bytes;
    static constexpr int counters = pieces + C::inputs * (int)sizeof(Piece);
    static constexpr int shared = counters + (L::exchange == Exchange::cluster ? C::phases * 2 * 8 : 0);

    static constexpr int own = parts(4 * L::tiles, spread);  // elements of a thread: one unit, some rows
    // A warp reads a part of the operands that no other warp reads, so that it need not wait for others.
    static constexpr bool apart = L::exchange == Exchange::cache && L::together == L::groups;

    static_assert(L::groups % L::together == 0 && L::shares % L::together == 0, "warps share out groups evenly");
    static_assert(L::resident <= steps, "no more double tiles in registers than there are");
    static_assert((L::blocks - 1) * units < width && L::blocks * units >= width, "every block has units");
    static_assert(L::exchange != Exchange::alone || L::blocks == 1 || C::vectors == 0, "alone is alone");
};

template <class C, class N> struct Arguments {
    using real = typename N::real;
    const uint4* weights;
    const real* constants;  // (constant, units)
    Report* report;
    int steps, rows;   // of the call
    int share, first;  // rows of a set, the first set of this launch
    int patience;      // how often a wait looks before it gives up
    int ahead;         // steps that inputs are fetched ahead into the second-level cache
    Place input[C::inputs > 0 ? C::inputs : 1];
    Place output[C::all_outputs > 0 ? C::all_outputs : 1];
    Place vector[C::vectors > 0 ? C::vectors : 1];  // a base of 0: not kept
    Place piece[C::inputs > 0 ? C::inputs : 1];     // rows that lie side by side, fetched ahead; up to a base of 0
    const real* initial[C::carries];                // (rows, units) each; 0: zeros
    real* final[C::carries];                        // 0: nobody wants it
};
