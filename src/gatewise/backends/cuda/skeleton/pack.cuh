// Weights in the order in which the lanes of a warp hold them, as ``Products::load`` reads them: block, warp, group, tile,
// step, half, lane, and a lane's 16 bytes. Every thread makes one such piece.
//
// The hardware's product takes 16 units × some columns from the registers of 32 lanes. Lane (g, t) of the second operand
// reads 16 neighbouring bytes of row g, so the columns are permuted within the ``depth`` columns that four lanes read
// together, and here alike. Units and columns behind the last are zeros.
#pragma once
#include "numbers.cuh"

constexpr int pack_threads = 256, most_weights = 32;

// A square of a parameter, or its transpose: the address of its first number, and how many numbers lie between rows and
// between columns.
struct Weight {
    const u8* base;
    long long row, column;
};

// As ``Weights.launches`` in pack.py writes it.
struct Packing {
    uint4* to;
    u32 pieces;                           // that this launch makes
    u32 units, together, shares, steps;   // as in a layout
    u32 tiles, first, here;               // of the cell; of this launch: the first, and how many
    u32 wide;                             // whether weights lie in memory as float32
    Weight weight[most_weights];
};

// A number as products read it, from one of the kernel's own or from float32.
template <class N, class Source> INLINE typename N::element weight_of(Source v) {
    if constexpr (sizeof(Source) > sizeof(typename N::element)) return N::narrow(v);
    else return N::factor(typename N::element(v));
}

// The piece of a lane: of rows ``row`` and ``row + 8``, from ``column`` on.
template <class N, class Source> INLINE uint4 piece(const Weight& w, int units, int row, int column) {
    using element = typename N::element;
    constexpr int pair = sizeof(element) == 2 ? 2 : 1;  // numbers of a register; one of 64 bits takes two registers
    const Source* from = (const Source*)w.base + row * w.row + column * w.column;
    alignas(16) element held[N::chunk];
#pragma unroll
    for (int k = 0; k < N::chunk; ++k) {
        const int down = k / pair % 2 * 8, right = k / (2 * pair) * pair + k % pair;
        const bool there = row + down < units && column + right < units;
        held[k] = there ? weight_of<N>(from[down * w.row + right * w.column]) : element(0);
    }
    return *(const uint4*)held;
}

template <class N> INLINE void pack(const Packing& a) {
    const u32 i = block_index() * pack_threads + thread_index();
    if (i >= a.pieces) return;
    const u32 lane = i % 32, half = i / 32 % 2, step = i / 64 % a.steps, tile = i / 64 / a.steps % a.here;
    // Blocks and their warps stand in the order of their units, so that nothing need know where a block ends.
    const u32 place = i / 64 / a.steps / a.here, group = place % a.together;
    const u32 warp = place / a.together, share = warp % a.shares;
    const int row = (warp / a.shares * a.together + group) * 16 + lane / 4;
    const int column = ((share * a.steps + step) * 4 + lane % 4) * N::chunk + half * (N::chunk / 2);
    const Weight& w = a.weight[tile];
    a.to[((u64)(place * a.tiles + a.first + tile) * a.steps + step) * 64 + i % 64] =
        a.wide ? piece<N, float>(w, a.units, row, column) : piece<N, typename N::element>(w, a.units, row, column);
}
