// How blocks that share rows of the batch tell each other their units' values.
//
// Values of an event are put into the staging area by the threads that compute them; ``publish`` hands them on in pieces
// of 16 bytes, ``arrive`` waits until the values of all units lie in this block's shared memory.
//
// Why nothing hangs. Blocks of a cluster are scheduled together and wait for no other cluster. Blocks that poll memory
// are launched together or not at all, no more of them than there is room for at once, and two such kernels take turns
// (turns.py). Phases of counters are
// parities of the step, polled words belong to one step: there is nothing that could be reset too late. Every wait
// counts, and ends the kernel with a reason when it has waited too long.
#pragma once
#include "sizes.cuh"

enum Reason { counter_waits = 1, poll_waits = 2 };

template <class C, class L> struct Mail {
    using N = typename L::Number;
    using element = typename N::element;
    using S = Sizes<C, L>;
    using A = Arguments<C, N>;
    static constexpr bool cluster = L::exchange == Exchange::cluster, cache = L::exchange == Exchange::cache;
    // Pieces that a thread sends for one vector: to each block of the cluster, rows × pieces of a row.
    static constexpr int sends = cluster ? parts(L::blocks * S::rows * S::chunks, S::threads) : 1;

    const A& a;
    u8* memory;
    int thread, lane, warp, rank, first_row, rows, chunks;
    u32 operands, counters;
    u32 from[sends], to[sends], at[sends];

    INLINE Mail(const A& a, u8* memory, int thread, int rank, int first_row, int rows)
        : a(a), memory(memory), thread(thread), lane(thread & 31), warp(thread >> 5), rank(rank), first_row(first_row),
          rows(rows) {
        chunks = smaller(S::units, S::told - rank * S::units) / N::chunk;
        operands = kept(shared_address(memory + S::operands)), counters = kept(shared_address(memory + S::counters));
        if constexpr (cluster) {
            // Neighbouring lanes send neighbouring pieces to one block: a store whose lanes go to many blocks is several
            // times slower. Which piece goes where is the same for every event, and worked out once.
#pragma unroll
            for (int j = 0; j < sends; ++j) {
                const int i = thread + j * S::threads, block = i / (rows * S::chunks), piece = i % (rows * S::chunks);
                const int row = piece / S::chunks, column = piece % S::chunks;
                const bool mine = block < L::blocks && column < chunks;
                to[j] = remote(operands + row * S::stride + rank * S::units * S::bytes + column * 16, mine ? block : 0);
                at[j] = remote(counters, mine ? block : 0);
                from[j] = mine ? operands + S::stage + row * S::units * S::bytes + column * 16 : 0;
            }
        }
    }

    static constexpr INLINE u32 counter(int event, int parity) { return (event * 2 + parity) * 8; }
    INLINE u32 expected(int event) const { return S::vectors(event) * rows * S::told * S::bytes; }

    // Before the first event: no block may send before all have made their counters.
    INLINE void open() {
        if constexpr (cluster) {
            if (thread == 0) {
                for (int i = 0; i < C::phases * 2; ++i) counter_make(counters + i * 8);
                counters_visible();
            }
            block_barrier();
            if (thread == 0)
                for (int e = 0; e < C::phases; ++e)
                    for (int parity = 0; parity < 2; ++parity)
                        if (S::vectors(e)) counter_expect(counters + counter(e, parity), expected(e));
            cluster_barrier();
        } else
            block_barrier();
    }
    // Behind the last: nobody may leave while others still write into its memory.
    INLINE void close() {
        if constexpr (cluster) cluster_barrier();
    }

    // One element of this block, into the staging area; where there is nobody else, also where products read it.
    template <int event> INLINE void put(int k, int row, int unit, typename N::real value, int parity) {
        const element v = N::narrow(value);
        ((element*)(memory + S::stage))[(k * S::rows + row) * S::units + unit] = v;
        if constexpr (L::exchange == Exchange::alone) {
            u8* vector = memory + S::operands + (parity * C::vectors + S::nth(event, k)) * S::vector_bytes;
            *(element*)(vector + row * S::stride + unit * S::bytes) = N::factor(v);
        }
    }

    // Hand on the values of an event: to the other blocks where a step follows (``more``), and to memory, there for step
    // ``index``. Of an event between steps only states have a value behind the last step.
    template <int event, bool first = false> INLINE void publish(int index, int parity, bool more) {
        constexpr int count = S::vectors(event);
        block_barrier();
        if constexpr (cluster) {
            if (more)
                each<count>([&](auto k) {
                    constexpr int v = S::nth(event, k);
                    uint4 w[sends];
#pragma unroll
                    for (int j = 0; j < sends; ++j)
                        if (from[j]) w[j] = load_shared(from[j] + k * S::rows * S::units * S::bytes);
#pragma unroll
                    for (int j = 0; j < sends; ++j)
                        if (from[j])
                            send(to[j] + (parity * C::vectors + v) * S::vector_bytes, N::factor(w[j]),
                                 at[j] + counter(event, parity));
                });
        }
#pragma unroll
        for (int j = 0; j < parts(count * S::rows * S::chunks, S::threads); ++j) {
            const int i = thread + j * S::threads, k = i / (S::rows * S::chunks);
            const int row = i / S::chunks % S::rows, column = i % S::chunks;
            u8* base = 0;
            int step_stride = 0, row_stride = 0;
            each<count>([&](auto n) {
                constexpr int v = S::nth(event, n);
                const Place& place = a.vector[v];
                if (k == n && (more || C::vector(v).carried)) {
                    // Only values before the first step lie elsewhere, and those of a state alone.
                    const bool special = first && C::vector(v).carried && place.special == index;
                    base = special ? place.special_base : place.base;
                    step_stride = special ? 0 : place.step, row_stride = special ? place.special_row : place.row;
                }
            });
            if (!base || row >= rows || column >= chunks) continue;
            u8* p = moved(moved(base, index, step_stride), first_row + row, row_stride);
            p += rank * S::units * S::bytes + column * 16;
            const uint4 w = load_shared(operands + S::stage + ((k * S::rows + row) * S::units + column * N::chunk) * S::bytes);
            if constexpr (cache) store_relaxed(p, w);
            else store_global((uint4*)p, w);
        }
    }

    // Wait until the values of an event of this step lie in shared memory.
    template <int event> INLINE void arrive(int step) {
        if constexpr (cluster && S::vectors(event) > 0) {
            const u32 at = counters + counter(event, step & 1);
            for (int looks = 0; !counter_done(at, (step >> 1) & 1); ++looks)
                if (looks > a.patience) give_up(a.report, counter_waits, step, event);
            if (thread == 0) counter_expect(at, expected(event));
        } else if constexpr (cache && !L::serial) {
            each<C::vectors>([&](auto v) {
                if constexpr (C::vector(v).event == event) poll<v>(step);
            });
            wait_for_readers();
        }
    }

    // Between polling and products, and between products and polling into the same memory.
    INLINE void wait_for_readers() {
        if constexpr (S::apart) warp_barrier();
        else block_barrier();
    }

    // Read a vector of a step from memory, as soon as every block has written it: what is not written is all ones.
    template <int v> INLINE void poll(int step) {
        constexpr int width = S::told / N::chunk;
        constexpr int pieces = S::apart ? S::steps * N::depth / N::chunk : width;  // of a row, for a warp or for all
        constexpr int stride = S::apart ? 32 : S::threads;
        const int first = S::apart ? warp % L::shares * pieces : 0;
        const Place& place = a.vector[v];
        const bool special = C::vector(v).carried && step == place.special;
        const int row_stride = special ? place.special_row : place.row;
        u8* base = special ? place.special_base : moved(place.base, step, place.step);
        base = moved(base, first_row, row_stride) + first * 16;
        u8* to = memory + S::operands + (L::serial ? 0 : v * S::vector_bytes) + first * 16;
        auto wanted = [&](int i) { return i < rows * pieces && (!S::apart || first + i % pieces < width); };
        for (int start = S::apart ? lane : thread; start < rows * pieces; start += stride * L::flight) {
            uint4 d[L::flight];
            bool missing = true;
            for (int looks = 0; missing; ++looks) {
                missing = false;
#pragma unroll
                for (int j = 0; j < L::flight; ++j) {
                    const int i = start + j * stride;
                    d[j] = make_uint4(0, 0, 0, 0);
                    if (wanted(i)) d[j] = load_relaxed(moved(base, i / pieces, row_stride) + i % pieces * 16);
                }
#pragma unroll
                for (int j = 0; j < L::flight; ++j)
                    missing |= d[j].x == ~0u || d[j].y == ~0u || d[j].z == ~0u || d[j].w == ~0u;
                if (looks > a.patience) give_up(a.report, poll_waits, step, v);
            }
#pragma unroll
            for (int j = 0; j < L::flight; ++j) {
                const int i = start + j * stride;
                if (wanted(i)) *(uint4*)(to + i / pieces * S::stride + i % pieces * 16) = N::factor(d[j]);
            }
        }
    }
};
