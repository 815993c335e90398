// All steps of a recurrent cell in one kernel.
//
// What differs from cell to cell is the struct C, written from its plan; what differs from card to card and size to size
// is L, a layout. A block owns ``groups`` × 16 units with all their gates, and shares some rows of the batch with the
// other blocks of its set. A step: wait for the vectors; products; every warp puts its sums into shared memory; barrier;
// each thread adds up the sums of its own elements (one unit, some rows), runs the point-wise part with the states in its
// registers, and puts new values into the staging area; barrier; the values travel; loads for the next step; products
// whose sums nobody has read yet.
//
// Sums are taken in a fixed order and nothing is added atomically: the same bits at every run.
#pragma once
#include "exchange.cuh"
#include "products.cuh"

// Whether some product of this kind multiplies a vector.
template <class C> constexpr INLINE bool multiplied(int phase, bool late, int vector) {
    for (int i = 0; i < C::tiles; ++i) {
        const Tile t = C::tile(i);
        if (t.phase == phase && (t.read > t.phase) == late && t.vector == vector) return true;
    }
    return false;
}

template <class C, class L> INLINE void recurrent(const Arguments<C, typename L::Number>& a) {
    using N = typename L::Number;
    using real = typename N::real;
    using element = typename N::element;
    using S = Sizes<C, L>;
    const int thread = thread_index(), lane = thread & 31, warp = thread >> 5;
    const int rank = block_index() % L::blocks, first_row = (block_index() / L::blocks + a.first) * a.share;
    const int rows = smaller(a.share, a.rows - first_row);
    u8* memory = shared_memory();

    Products<C, L> products(memory, warp, lane);
    products.load(a.weights, rank, warp);
    // Columns and rows that nobody writes are multiplied too.
    for (int i = thread; i < S::weights / 16; i += S::threads) ((uint4*)memory)[i] = make_uint4(0, 0, 0, 0);
    Mail<C, L> mail(a, memory, thread, rank, first_row, rows);
    mail.open();

    // The elements of this thread. A warp has 16 units of two rows: no bank conflicts on the sums.
    const int group = warp % L::groups, unit_here = group * 16 + (lane & 15), unit = rank * S::units + unit_here;
    const bool real_unit = unit < L::units;
    auto row = [&](int e) { return (warp / L::groups + e * S::spread) * 2 + (lane >> 4); };
    auto mine = [&](int e) { return row(e) < rows && real_unit; };
    // Whole warps skip rows that are not there; where tiles are even all are computed, so that latencies overlap.
    constexpr bool even = S::own > 1 && 4 * L::tiles % S::spread == 0;
    auto busy = [&](int e) { return even || (warp / L::groups + e * S::spread) * 2 < rows; };

    typename C::State states[S::own];
    element inputs[S::own][larger(C::inputs, 1)];
    real constants[larger(C::constants, 1)];
    each<C::constants>([&](auto i) { constants[i] = real_unit ? a.constants[i * L::units + unit] : real(0); });

    auto fetch = [&](int step) {  // used a step later
        if (step >= a.steps) return;
#pragma unroll
        for (int e = 0; e < S::own; ++e)
            if (mine(e)) {
                u64 far[larger(C::inputs, 1)];
                each<C::inputs>([&](auto i) {
                    constexpr int like = C::input_like(i), size = C::wide(i) ? S::bytes : 0;
                    if constexpr (like == i) far[i] = distance(a.input[i], step, first_row + row(e)) + unit * size;
                    u8* from = a.input[i].base + far[like];
                    if constexpr (C::before(i)) from = address_before(a.input[i], step, first_row + row(e)) + unit * size;
                    inputs[e][i] = load_global((const element*)from);
                });
            }
    };
    // Memory answers later than a step takes: without this, loads that are pending hold the products up as well. The rows
    // of a step are one piece of memory in each array, and each block asks for its share: a lane of the last warp for each
    // array. Which share that is, is worked out once, and kept in shared memory since registers are scarce.
    const bool asks = thread >= S::threads - 32 && lane < C::inputs;
    Piece* piece = (Piece*)(memory + S::pieces) + lane;
    if (asks) {
        const Place& all = a.piece[lane];
        const u32 size = rows * all.row, share = parts(parts(size, L::blocks), 128) * 128, start = rank * share;
        const bool any = all.base && start < size;
        *piece = {all.base + (long long)first_row * all.row + start, all.step, all.special,
                  any ? (u32)smaller(share, size - start) : 0u};
    }
    auto ask = [&](int step) {
        if (!asks || step >= a.steps) return;
        const Piece mine = *piece;
        if (mine.bytes && step != mine.special) prefetch(moved(mine.base, step, mine.step), mine.bytes);
    };
    auto value = [&](int e, real (&x)[larger(C::inputs, 1)]) {
        each<C::inputs>([&](auto i) { x[i] = mine(e) ? N::widen(inputs[e][i]) : real(0); });
    };
    // Units that are only there to fill a group are zero for whoever multiplies them.
    auto put = [&](auto next, int e, const real* v, int parity) {
        constexpr int event = decltype(next)::value;
        if (row(e) < rows)
            each<S::vectors(event)>([&](auto k) {
                mail.template put<event>(k, row(e), unit_here, real_unit ? v[k] : real(0), parity);
            });
    };
    auto store = [&](auto where, int e, const real* y, int step) {
        constexpr int point = decltype(where)::value;
        if (mine(e)) {
            u64 far[larger(C::all_outputs, 1)];
            each<C::outputs(point)>([&](auto k) {
                constexpr int i = S::outputs_before(point) + k, like = C::output_like(i);
                if constexpr (like == i) far[i] = distance(a.output[i], step, first_row + row(e)) + unit * S::bytes;
                store_global((element*)(a.output[i].base + far[like]), N::narrow(y[k]));
            });
        }
    };

    for (int i = 1; i < a.ahead; ++i) ask(i);
    if constexpr (C::lead == 1) fetch(0);
#pragma unroll
    for (int e = 0; e < S::own; ++e)
        if (busy(e)) {
            real x[larger(C::inputs, 1)], v[S::most_vectors()], y[S::most_outputs()], first[C::carries];
            each<C::carries>([&](auto i) {
                first[i] = mine(e) && a.initial[i] ? a.initial[i][(u64)(first_row + row(e)) * L::units + unit] : real(0);
            });
            value(e, x);
            C::begin(states[e], first);
            C::carried(states[e], v);
            C::start(states[e], x, constants, v, y);
            put(Int<0>(), e, v, 0);
            store(Int<0>(), e, y, 0);
        }
    mail.template publish<0, true>(0, 0, true);
    fetch(C::lead);

    // Where lanes of a product find the first vector.
    const u32 operands = mail.operands + (lane >> 2) * S::stride + (lane & 3) * 16 + products.part * S::steps * N::depth * S::bytes;
    real* sums = (real*)(memory + S::sums);
    for (int step = 0; step < a.steps; ++step) {
        const bool more = step + 1 < a.steps;
        const u32 here = operands + (S::buffers == 2 ? (step & 1) * C::vectors * S::vector_bytes : 0);
        auto multiply = [&](auto which, auto when) {
            constexpr int phase = decltype(which)::value;
            constexpr bool late = decltype(when)::value;
            if constexpr (!L::serial) products.template take<phase, late, -1>(here);
            else
                each<C::vectors>([&](auto v) {  // one vector at a time in the one buffer
                    if constexpr (multiplied<C>(phase, late, v)) {
                        mail.wait_for_readers();
                        mail.template poll<v>(step);
                        mail.wait_for_readers();
                        products.template take<phase, late, v>(here);
                    }
                });
        };
        each<C::phases>([&](auto which) {
            constexpr int phase = decltype(which)::value;
            constexpr bool last = phase == C::phases - 1;
            constexpr int next = last ? 0 : phase + 1, point = phase + 1;
            mail.template arrive<phase>(step);
            multiply(which, Int<0>());
            products.template put<phase>(sums);
            block_barrier();
#pragma unroll
            for (int e = 0; e < S::own; ++e)
                if (busy(e)) {
                    real x[larger(C::inputs, 1)], sum[S::most_sums()], v[S::most_vectors()];
                    real y[S::most_outputs()], ahead[S::most_outputs()];
                    value(e, x);
                    each<C::sums(phase)>([&](auto o) { sum[o] = Products<C, L>::sum(sums, group, o, row(e), lane & 15); });
                    C::epilogue(Int<phase>(), states[e], sum, x, constants, v, y);
                    if constexpr (last) {
                        C::carried(states[e], v);
                        if (more) C::start(states[e], x, constants, v, ahead);
                    }
                    // Others wait for these values, and nobody for those that are only kept.
                    put(Int<next>(), e, v, last ? (step + 1) & 1 : step & 1);
                    store(Int<point>(), e, y, step);
                    if (last && more) store(Int<0>(), e, ahead, step + 1);
                }
            if constexpr (last) mail.template publish<0>(step + 1, (step + 1) & 1, more);
            else mail.template publish<next>(step, step & 1, true);
            if constexpr (last) {
                fetch(step + 1 + C::lead);
                ask(step + a.ahead);
            }
            multiply(which, Int<1>());
        });
    }
#pragma unroll
    for (int e = 0; e < S::own; ++e)
        if (mine(e)) {
            real last[C::carries];
            C::end(states[e], last);
            each<C::carries>([&](auto i) {
                if (a.final[i]) a.final[i][(u64)(first_row + row(e)) * L::units + unit] = last[i];
            });
        }
    mail.close();
}
