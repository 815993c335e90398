// All that is CUDA's own: registers of the hardware, inline PTX, barriers. The rest of the skeleton is plain C++. The
// tests have a file of this name for the host, with the same functions, so that the same kernels run without a card.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define INLINE __device__ __forceinline__
// A kernel, with the threads of a block: the compiler shares out the registers accordingly.
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads, 1)
#define ARGUMENTS const __grid_constant__

// Why a kernel gave up; in pinned memory of the host, since after a trap nothing else can be read.
struct Report {
    u32 reason, block, step, event;
};

// --- who and where ---

INLINE int thread_index() { return threadIdx.x; }
INLINE int block_index() { return blockIdx.x; }

INLINE u8* shared_memory() {
    extern __shared__ __align__(1024) u8 memory[];
    return memory;
}
INLINE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// The compiler keeps the value in a register instead of computing it again.
INLINE u32 kept(u32 v) {
    asm volatile("" : "+r"(v));
    return v;
}

// --- memory ---

INLINE uint4 load_shared(u32 address) {
    uint4 v;
    asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3},[%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address));
    return v;
}

// So many times so many bytes further, in one instruction: the compiler takes three where it keeps a count in 64 bits.
INLINE u8* moved(u8* p, int count, int bytes) {
    u8* to;
    asm("mad.wide.s32 %0,%1,%2,%3;" : "=l"(to) : "r"(count), "r"(bytes), "l"(p));
    return to;
}
// What nobody writes while the kernel runs, and what nobody reads: of global memory, which the compiler cannot know of an
// address that it found in memory. Loads that might be of shared memory are slower.
INLINE u16 load_global(const u16* p) {
    u16 v;
    asm volatile("ld.global.nc.u16 %0,[%1];" : "=h"(v) : "l"(p));
    return v;
}
INLINE float load_global(const float* p) {
    float v;
    asm volatile("ld.global.nc.f32 %0,[%1];" : "=f"(v) : "l"(p));
    return v;
}
INLINE double load_global(const double* p) {
    double v;
    asm volatile("ld.global.nc.f64 %0,[%1];" : "=d"(v) : "l"(p));
    return v;
}
INLINE void store_global(u16* p, u16 v) { asm volatile("st.global.u16 [%0],%1;" ::"l"(p), "h"(v)); }
INLINE void store_global(float* p, float v) { asm volatile("st.global.f32 [%0],%1;" ::"l"(p), "f"(v)); }
INLINE void store_global(double* p, double v) { asm volatile("st.global.f64 [%0],%1;" ::"l"(p), "d"(v)); }
INLINE void store_global(uint4* p, uint4 v) {
    asm volatile("st.global.v4.b32 [%0],{%1,%2,%3,%4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w));
}

// Words that other blocks poll: each aligned word is written and read whole, in no order that is relied on.
INLINE void store_relaxed(void* p, uint4 v) {
    asm volatile("st.relaxed.gpu.global.v4.b32 [%0],{%1,%2,%3,%4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}
INLINE uint4 load_relaxed(const void* p) {
    uint4 v;
    asm volatile("ld.relaxed.gpu.global.v4.b32 {%0,%1,%2,%3},[%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}

// Bring memory into the second-level cache. One thread asks for a whole piece where the hardware can do so.
INLINE void prefetch(const void* p, u32 bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0],%1;" ::"l"(p), "r"(bytes) : "memory");
#else
    for (u32 i = 0; i < bytes; i += 128) asm volatile("prefetch.global.L2 [%0];" ::"l"((const u8*)p + i) : "memory");
#endif
}

// --- barriers ---

INLINE void block_barrier() { __syncthreads(); }
INLINE void warp_barrier() { __syncwarp(); }

#if __CUDA_ARCH__ >= 900
INLINE void cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// The same place in the shared memory of another block of the cluster.
INLINE u32 remote(u32 address, u32 rank) {
    u32 v;
    asm volatile("mapa.shared::cluster.u32 %0,%1,%2;" : "=r"(v) : "r"(address), "r"(rank));
    return v;
}
// A barrier that counts bytes: one arrival, by the thread that says how many bytes will come.
INLINE void counter_make(u32 counter) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0],%1;" ::"r"(counter), "r"(1) : "memory");
}
INLINE void counters_visible() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
INLINE void counter_expect(u32 counter, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _,[%0],%1;" ::"r"(counter), "r"(bytes) : "memory");
}
// Whether the phase of this parity is over.
INLINE bool counter_done(u32 counter, u32 parity) {
    u32 done;
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p,[%1],%2; selp.u32 %0,1,0,p;}"
                 : "=r"(done)
                 : "r"(counter), "r"(parity)
                 : "memory");
    return done;
}
// Write 16 bytes into another block's shared memory and count them on its barrier, in one instruction.
INLINE void send(u32 to, uint4 v, u32 counter) {
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0],{%1,%2,%3,%4},[%5];" ::"r"(to), "r"(v.x),
        "r"(v.y), "r"(v.z), "r"(v.w), "r"(counter)
        : "memory");
}
#else  // before Hopper there are no clusters; layouts for them are never chosen there
INLINE void cluster_barrier() { __trap(); }
INLINE u32 remote(u32 address, u32) { return address; }
INLINE void counter_make(u32) {}
INLINE void counters_visible() {}
INLINE void counter_expect(u32, u32) {}
INLINE bool counter_done(u32, u32) { return true; }
INLINE void send(u32, uint4, u32) {}
#endif

// End the kernel with an error; the host reads why.
INLINE void give_up(Report* report, u32 reason, u32 step, u32 event) {
    if (report) {
        volatile Report* said = report;
        said->block = blockIdx.x, said->step = step, said->event = event;
        __threadfence_system();
        said->reason = reason;
        __threadfence_system();
    }
    __trap();
}

// --- numbers ---

INLINE float bits_to_float(u32 v) { return __uint_as_float(v); }
INLINE u32 float_to_bits(float v) { return __float_as_uint(v); }
INLINE u32 lower_bits(double v) { return (u32)__double2loint(v); }
INLINE double without_last_bit(double v) { return __hiloint2double(__double2hiint(v), __double2loint(v) & ~1); }
INLINE u16 to_bfloat16(float v) {
    u16 out;
    asm("cvt.rn.bf16.f32 %0,%1;" : "=h"(out) : "f"(v));
    return out;
}
INLINE float from_half(u16 v) {
    float out;
    asm("cvt.f32.f16 %0,%1;" : "=f"(out) : "h"(v));
    return out;
}
INLINE u16 to_half(float v) {
    u16 out;
    asm("cvt.rn.f16.f32 %0,%1;" : "=h"(out) : "f"(v));
    return out;
}
INLINE u32 to_tf32(u32 v) {
    u32 out;
    asm("cvt.rna.tf32.f32 %0,%1;" : "=r"(out) : "f"(__uint_as_float(v)));
    return out;
}

// Point-wise functions. ``near`` ones are as good as 16-bit numbers need (error about 2^-11) and take one instruction.
INLINE float near_tanh(float x) {
    float y;
    asm("tanh.approx.f32 %0,%1;" : "=f"(y) : "f"(x));
    return y;
}
INLINE float near_exp(float x) { return __expf(x); }
INLINE float near_divide(float a, float b) { return __fdividef(a, b); }

// --- products: a warp's 16 units × 8 rows, over the columns that its lanes hold ---

#define GATEWISE_MMA(kind)                                                                          \
    asm volatile("mma.sync.aligned." kind " {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"     \
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                           \
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1))
INLINE void multiply_bfloat16(float (&sum)[4], const uint4& a, u32 b0, u32 b1) {
    GATEWISE_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
}
INLINE void multiply_half(float (&sum)[4], const uint4& a, u32 b0, u32 b1) {
    GATEWISE_MMA("m16n8k16.row.col.f32.f16.f16.f32");
}
INLINE void multiply_tf32(float (&sum)[4], const uint4& a, u32 b0, u32 b1) {
    GATEWISE_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}
#undef GATEWISE_MMA
INLINE void multiply_double(double (&sum)[4], const uint4& a, u32 b0, u32 b1) {
    const double b = __hiloint2double(b1, b0);
    const double first = __hiloint2double(a.y, a.x), second = __hiloint2double(a.w, a.z);
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1},{%2},{%3},{%0,%1};"
                 : "+d"(sum[0]), "+d"(sum[1])
                 : "d"(first), "d"(b));
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1},{%2},{%3},{%0,%1};"
                 : "+d"(sum[2]), "+d"(sum[3])
                 : "d"(second), "d"(b));
}
