// The numbers that a kernel can work on: how they lie in memory, how they are multiplied, and their point-wise functions.
//
// ``element`` is what lies in memory, ``real`` what sums and states are. A lane reads 16 neighbouring bytes of an operand,
// ``chunk`` elements, which serve two products; the four lanes that share a row of the batch read ``depth`` columns.
#pragma once
#include "machine.cuh"

template <class Real> struct Plain {
    static INLINE Real relu(Real x) { return x <= 0 ? Real(0) : x; }  // a NaN passes, as in torch
    static INLINE Real clipped(Real x) { return x <= 0 ? Real(0) : x >= 1 ? Real(1) : x; }
    static INLINE Real minimum(Real a, Real b) { return a < b || a != a ? a : b; }
    static INLINE Real maximum(Real a, Real b) { return a > b || a != a ? a : b; }
};

// For results that are rounded to 16 bits.
struct Near : Plain<float> {
    static INLINE float tanh(float x) { return near_tanh(x); }
    static INLINE float sigmoid(float x) { return fmaf(near_tanh(0.5f * x), 0.5f, 0.5f); }
    static INLINE float exp(float x) { return near_exp(x); }
    static INLINE float log(float x) { return logf(x); }
    static INLINE float softplus(float x) { return x > 20 ? x : log1pf(expf(x)); }
};

struct Bfloat16 : Near {
    using element = u16;
    using real = float;
    static constexpr int chunk = 8, depth = 32;
    static INLINE real widen(element v) { return bits_to_float((u32)v << 16); }
    static INLINE element narrow(real v) { return to_bfloat16(v); }
    static INLINE element factor(element v) { return v; }
    static INLINE uint4 factor(uint4 v) { return v; }
    static INLINE void multiply(real (&sum)[4], const uint4& a, u32 b0, u32 b1) { multiply_bfloat16(sum, a, b0, b1); }
};

struct Half : Near {
    using element = u16;
    using real = float;
    static constexpr int chunk = 8, depth = 32;
    static INLINE real widen(element v) { return from_half(v); }
    static INLINE element narrow(real v) { return to_half(v); }
    static INLINE element factor(element v) { return v; }
    static INLINE uint4 factor(uint4 v) { return v; }
    static INLINE void multiply(real (&sum)[4], const uint4& a, u32 b0, u32 b1) { multiply_half(sum, a, b0, b1); }
};

// float32 in memory; products of numbers that are rounded to the 11 bits of TF32.
struct Tf32 : Plain<float> {
    using element = float;
    using real = float;
    static constexpr int chunk = 4, depth = 16;
    static INLINE real widen(element v) { return v; }
    // All ones is the mark of what nobody has written yet: the same NaN with another sign takes its place.
    static INLINE element narrow(real v) { return float_to_bits(v) == ~0u ? bits_to_float(0x7fffffffu) : v; }
    // The rounding cuts the last bits of a NaN off, and makes an infinity of one that has no others (seen on an H200).
    // Arithmetic never gives such a NaN, a weight may be one.
    static INLINE element factor(element v) {
        return bits_to_float(v != v ? 0x7fffffffu : to_tf32(float_to_bits(v)));
    }
    static INLINE uint4 factor(uint4 v) { return make_uint4(to_tf32(v.x), to_tf32(v.y), to_tf32(v.z), to_tf32(v.w)); }
    static INLINE void multiply(real (&sum)[4], const uint4& a, u32 b0, u32 b1) { multiply_tf32(sum, a, b0, b1); }
    static INLINE float sigmoid(float x) { return near_divide(1.f, 1.f + near_exp(-x)); }
    static INLINE float tanh(float x) {
        const float e = near_exp(-2.f * fabsf(x));
        return copysignf(near_divide(1.f - e, 1.f + e), x);
    }
    static INLINE float exp(float x) { return expf(x); }
    static INLINE float log(float x) { return logf(x); }
    static INLINE float softplus(float x) { return x > 20 ? x : log1pf(expf(x)); }
};

// float64 throughout: what tests compare with the reference to its last digits.
struct Double : Plain<double> {
    using element = double;
    using real = double;
    static constexpr int chunk = 2, depth = 8;
    static INLINE real widen(element v) { return v; }
    // No word may be the mark of what nobody has written: a number whose lower half is all ones loses its last bit.
    static INLINE element narrow(real v) {
        return v != v ? real(bits_to_float(0x7fffffffu)) : lower_bits(v) == ~0u ? without_last_bit(v) : v;
    }
    static INLINE element factor(element v) { return v; }
    static INLINE uint4 factor(uint4 v) { return v; }
    static INLINE void multiply(real (&sum)[4], const uint4& a, u32 b0, u32 b1) { multiply_double(sum, a, b0, b1); }
    static INLINE double sigmoid(double x) { return 1 / (1 + ::exp(-x)); }
    static INLINE double tanh(double x) { return ::tanh(x); }
    static INLINE double exp(double x) { return ::exp(x); }
    static INLINE double log(double x) { return ::log(x); }
    static INLINE double softplus(double x) { return x > 20 ? x : log1p(::exp(x)); }
};
