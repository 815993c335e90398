// The twin of the skeleton's machine.cuh: the same functions on the host, so that kernels run without a card.
//
// Threads are fibres, and every place where a real machine may go on with another thread is a switch (grid.h). Products,
// and barriers of a warp, wait for its 32 lanes. Shared memory of all blocks of a cluster is plain memory; what is sent to
// another block arrives later, in any order. Words that blocks poll are written and read one by one, in any order.
#pragma once
#include <math.h>
#include <string.h>

#include "grid.h"

#define INLINE inline
#define KERNEL(threads) void
#define ARGUMENTS const

struct Report {
    u32 reason, block, step, event;
};

inline int thread_index() { return grid().now().thread; }
inline int block_index() { return grid().first + grid().now().block; }
inline u8* shared_memory() { return grid().block().memory(); }
inline u32 shared_address(const void* p) { return grid().block().address(p); }
inline u32 kept(u32 v) { return v; }

// --- memory ---

inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return uint4{x, y, z, w}; }
inline uint4 load_shared(u32 address) {
    uint4 v;
    memcpy(&v, grid().block().at(address, 16), 16);
    return v;
}
inline u8* moved(u8* p, int count, int bytes) { return p + (long long)count * bytes; }
template <class T> inline T load_global(const T* p) { return *p; }
template <class T> inline void store_global(T* p, T v) { *p = v; }
inline void store_relaxed(void* p, uint4 v) {
    const u32 words[4] = {v.x, v.y, v.z, v.w};
    for (int k : grid().shuffled()) {
        grid().step_aside();
        ((volatile u32*)p)[k] = words[k];
    }
}
inline uint4 load_relaxed(const void* p) {
    u32 words[4];
    grid().look_again();
    for (int k : grid().shuffled()) {
        words[k] = ((const volatile u32*)p)[k];
        grid().maybe_aside();
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}
inline void prefetch(const void* p, u32 bytes) {
    if ((size_t)p % 16 || bytes % 16) grid().fail("a prefetch of a piece that is not made of 16 bytes");
    volatile u8 seen = 0;
    for (u32 i = 0; i < bytes; i += 16) seen = ((const u8*)p)[i];  // memory that is not there shows
    (void)seen;
}

// --- barriers ---

inline void block_barrier() { grid().block().barrier.wait(); }
inline void warp_barrier() { grid().warp().meet(Op::barrier, nullptr, [](void**) {}); }
inline void cluster_barrier() { grid().cluster().wait(); }
inline u32 remote(u32 address, u32 rank) { return grid().remote(address, rank); }
inline void counter_make(u32 counter) { grid().block().make_counter(counter); }
inline void counters_visible() {}
inline void counter_expect(u32 counter, u32 bytes) { grid().block().counter(counter).expect(bytes); }
inline bool counter_done(u32 counter, u32 parity) {
    grid().look_again();
    return (grid().block().counter(counter).phase & 1) != parity;
}
inline void send(u32 to, uint4 v, u32 counter) { grid().send(to, v, counter); }

inline void give_up(Report* report, u32 reason, u32 step, u32 event) {
    if (report) *report = {reason, (u32)block_index(), step, event};
    grid().trap();
}

// --- numbers ---

inline float bits_to_float(u32 v) {
    float f;
    memcpy(&f, &v, 4);
    return f;
}
inline u32 float_to_bits(float v) {
    u32 u;
    memcpy(&u, &v, 4);
    return u;
}
inline u32 lower_bits(double v) {
    u64 u;
    memcpy(&u, &v, 8);
    return (u32)u;
}
inline double without_last_bit(double v) {
    u64 u;
    memcpy(&u, &v, 8);
    u &= ~1ull;
    memcpy(&v, &u, 8);
    return v;
}
inline u16 to_bfloat16(float v) {
    const u32 u = float_to_bits(v);
    return v != v ? 0x7fff : (u16)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
inline float from_half(u16 v) {
    _Float16 h;
    memcpy(&h, &v, 2);
    return (float)h;
}
inline u16 to_half(float v) {
    const _Float16 h = (_Float16)v;
    u16 u;
    memcpy(&u, &h, 2);
    return v != v ? 0x7fff : u;
}
// As a card does: of what is no number the last bits are cut off.
inline u32 to_tf32(u32 v) { return (v & 0x7f800000) == 0x7f800000 ? v & ~0x1fffu : (v + 0x1000) & ~0x1fffu; }
inline float near_tanh(float x) { return tanhf(x); }
inline float near_exp(float x) { return expf(x); }
inline float near_divide(float a, float b) { return a / b; }

// --- products ---

// Of a warp: each lane's operands, in the places that the hardware gives them.
template <class Real> struct Operands {
    Real (&sum)[4];
    uint4 a;
    u32 b0, b1;
};

// ``depth`` columns; ``first`` and ``second`` give element k of row r of a, and of row r of b.
template <int depth, class Real, class First, class Second>
inline void multiplied(Op op, Real (&sum)[4], const uint4& a, u32 b0, u32 b1, First first, Second second) {
    Operands<Real> own{sum, a, b0, b1};
    grid().warp().meet(op, &own, [&](void** slots) {
        auto lane = [&](int i) -> Operands<Real>& { return *(Operands<Real>*)slots[i]; };
        double left[16][depth], right[8][depth];
        for (int k = 0; k < depth; ++k) {
            for (int r = 0; r < 16; ++r) left[r][k] = first(lane, r, k);
            for (int r = 0; r < 8; ++r) right[r][k] = second(lane, r, k);
        }
        for (int r = 0; r < 16; ++r)
            for (int c = 0; c < 8; ++c) {
                Real& out = lane(r % 8 * 4 + c / 2).sum[r / 8 * 2 + c % 2];
                double total = out;
                for (int k = 0; k < depth; ++k) total += left[r][k] * right[c][k];
                out = (Real)total;
            }
    });
}
inline u32 word(const uint4& v, int k) { return k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w; }

template <class Widen> inline void multiply_16(Op op, float (&sum)[4], const uint4& a, u32 b0, u32 b1, Widen widen) {
    auto half = [=](u32 v, int k) { return widen((u16)(k % 2 ? v >> 16 : v)); };
    multiplied<16>(
        op, sum, a, b0, b1,
        [=](auto lane, int r, int k) { return half(word(lane(r % 8 * 4 + k % 8 / 2).a, k / 8 * 2 + r / 8), k); },
        [=](auto lane, int r, int k) {
            auto& from = lane(r * 4 + k % 8 / 2);
            return half(k < 8 ? from.b0 : from.b1, k);
        });
}
inline void multiply_bfloat16(float (&sum)[4], const uint4& a, u32 b0, u32 b1) {
    multiply_16(Op::bfloat16, sum, a, b0, b1, [](u16 v) { return bits_to_float((u32)v << 16); });
}
inline void multiply_half(float (&sum)[4], const uint4& a, u32 b0, u32 b1) {
    multiply_16(Op::half, sum, a, b0, b1, from_half);
}
inline void multiply_tf32(float (&sum)[4], const uint4& a, u32 b0, u32 b1) {
    multiplied<8>(
        Op::tf32, sum, a, b0, b1,
        [](auto lane, int r, int k) {
            // The hardware reads 19 bits of each number and leaves the others out.
            return bits_to_float(word(lane(r % 8 * 4 + k % 4).a, k / 4 * 2 + r / 8) & ~0x1fffu);
        },
        [](auto lane, int r, int k) {
            auto& from = lane(r * 4 + k % 4);
            return bits_to_float((k < 4 ? from.b0 : from.b1) & ~0x1fffu);
        });
}
inline double joined(u32 low, u32 high) {
    const u64 u = (u64)high << 32 | low;
    double v;
    memcpy(&v, &u, 8);
    return v;
}
inline void multiply_double(double (&sum)[4], const uint4& a, u32 b0, u32 b1) {
    multiplied<4>(
        Op::float64, sum, a, b0, b1,
        [](auto lane, int r, int k) {
            const uint4& from = lane(r % 8 * 4 + k).a;
            return r < 8 ? joined(from.x, from.y) : joined(from.z, from.w);
        },
        [](auto lane, int r, int k) {
            auto& from = lane(r * 4 + k);
            return joined(from.b0, from.b1);
        });
}
