// The recurrent products: weights that stay on the chip for all steps, times the vectors of a step.
//
// A warp multiplies ``together`` groups of 16 units by its share of the columns, for all tiles of the cell; the warps of
// a group then add their sums in shared memory. Weights are the first operand of the hardware's product (rows = units of
// one gate), rows of the batch are the second one's columns.
#pragma once
#include "sizes.cuh"

template <class C, class L> struct Products {
    using N = typename L::Number;
    using real = typename N::real;
    using S = Sizes<C, L>;
    static constexpr int in_shared = S::steps - L::resident;

    uint4 resident[L::together][larger(C::tiles, 1)][larger(L::resident, 1)][2];
    real sums[L::together][larger(C::tiles, 1)][L::tiles][4];
    const uint4* shared;  // what does not fit into registers
    int lane, group, part;  // the first group of this warp, its part of the columns

    INLINE Products(u8* memory, int warp, int lane)
        : lane(lane), group(warp / L::shares * L::together), part(warp % L::shares) {
        shared = (const uint4*)(memory + S::weights) + warp * L::together * C::tiles * in_shared * 64 + lane;
    }

    // ``weights`` lie in the order in which lanes hold them: block, warp, group, tile, step, half, lane (see pack.py).
    INLINE void load(const uint4* weights, int rank, int warp) {
        const uint4* from = weights + (u64)(rank * S::warps + warp) * L::together * C::tiles * S::steps * 64 + lane;
        uint4* to = (uint4*)shared;
        each<L::together * C::tiles>([&](auto i) {
#pragma unroll
            for (int k = 0; k < S::steps; ++k)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const uint4 v = from[((i * S::steps + k) * 2 + half) * 32];
                    if (k < L::resident) resident[i / C::tiles][i % C::tiles][k < L::resident ? k : 0][half] = v;
                    else to[((i * in_shared + k - L::resident) * 2 + half) * 32] = v;
                }
        });
    }

    // Whether a tile is the first of those that add to a sum.
    static constexpr INLINE bool begins(int i) {
        for (int j = 0; j < i; ++j)
            if (C::tile(j).read == C::tile(i).read && C::tile(j).sum == C::tile(i).sum) return false;
        return true;
    }
    static constexpr INLINE bool taken(Tile t, int phase, bool late, int only) {
        return t.phase == phase && (t.read > t.phase) == late && (only < 0 || t.vector == only);
    }
    // Whether the tile before this one, among those that are taken, has the same vector: then its values are at hand.
    static constexpr INLINE bool same_vector(int i, int phase, bool late, int only) {
        for (int j = i - 1; j >= 0; --j)
            if (taken(C::tile(j), phase, late, only)) return C::tile(j).vector == C::tile(i).vector;
        return false;
    }

    // The products of a phase before its epilogue, or the late ones; ``only`` those of one vector (-1: all).
    template <int phase, bool late, int only> INLINE void take(u32 operands) {
        each<C::tiles>([&](auto i) {
            if constexpr (taken(C::tile(i), phase, late, only))
#pragma unroll
                for (int m = 0; m < L::together; ++m)
#pragma unroll
                    for (int n = 0; n < L::tiles; ++n)
#pragma unroll
                        for (int j = 0; j < 4; ++j) sums[m][i][n][j] = 0;
        });
#pragma unroll
        for (int k = 0; k < S::steps; ++k) {
            uint4 b[L::tiles];
            each<C::tiles>([&](auto i) {
                constexpr Tile t = C::tile(i);
                if constexpr (taken(t, phase, late, only)) {
                    if constexpr (!same_vector(i, phase, late, only)) {
                        const u32 from = operands + (L::serial ? 0 : t.vector * S::vector_bytes) + k * N::depth * S::bytes;
#pragma unroll
                        for (int n = 0; n < L::tiles; ++n) b[n] = load_shared(from + n * 8 * S::stride);
                    }
#pragma unroll
                    for (int half = 0; half < 2; ++half)
#pragma unroll
                        for (int m = 0; m < L::together; ++m) {
                            uint4 a;
                            if (k < L::resident) a = resident[m][i][k < L::resident ? k : 0][half];
                            else a = shared[(((m * C::tiles + i) * in_shared + k - L::resident) * 2 + half) * 32];
#pragma unroll
                            for (int n = 0; n < L::tiles; ++n)
                                N::multiply(sums[m][i][n], a, half ? b[n].z : b[n].x, half ? b[n].w : b[n].y);
                        }
                }
            });
        }
    }

    // This warp's share of the sums that the epilogue of a phase reads.
    template <int phase> INLINE void put(real* to) const {
        to += (group * L::shares + part) * S::most_sums() * L::tiles * S::sum_reals;
#pragma unroll
        for (int m = 0; m < L::together; ++m)
            each<C::sums(phase)>([&](auto which) {
                constexpr int o = decltype(which)::value;
#pragma unroll
                for (int n = 0; n < L::tiles; ++n) {
                    real v[4] = {0, 0, 0, 0};
                    each<C::tiles>([&](auto i) {
                        if constexpr (C::tile(i).read == phase && C::tile(i).sum == o)
#pragma unroll
                            for (int j = 0; j < 4; ++j) v[j] = begins(i) ? sums[m][i][n][j] : v[j] + sums[m][i][n][j];
                    });
                    real* p = to + ((m * L::shares * S::most_sums() + o) * L::tiles + n) * S::sum_reals;
                    p += (lane & 3) * 40 + (lane >> 2) * 2;
                    p[0] = v[0], p[1] = v[1], p[16] = v[2], p[17] = v[3];
                }
            });
    }

    // A sum of one element: all warps' shares, in a fixed order. ``unit`` within its group.
    static INLINE real sum(const real* from, int group, int o, int row, int unit) {
        const real* p = from + ((group * L::shares * S::most_sums() + o) * L::tiles + (row >> 3)) * S::sum_reals;
        p += ((row & 7) >> 1) * 40 + unit * 2 + (row & 1);
        real total = p[0];
#pragma unroll
        for (int k = 1; k < L::shares; ++k) total += p[k * S::most_sums() * L::tiles * S::sum_reals];
        return total;
    }
};
