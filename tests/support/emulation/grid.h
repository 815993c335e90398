// A grid of thread blocks on one thread of the host: fibres, and a scheduler that chooses by chance who goes on.
//
// A fibre switches where a thread of a GPU may be overtaken: at barriers, products, polls and relaxed accesses. Which one
// goes on is random, or for ``eager`` runs always of the warp that ran last, as long as it can: so that who leaves out a
// barrier is overtaken in one run or runs ahead in the other. Shared memory is not cleared, it begins as NaN.
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include <vector>  // few headers: each test compiles kernels of its own

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
struct alignas(16) uint4 {
    u32 x, y, z, w;
};

class Grid;
inline Grid& grid();

enum class Op { none, barrier, bfloat16, half, tf32, float64 };
enum class Outcome { done = 0, gave_up = 1, stuck = 2, fault = 3 };

struct Fibre {
    ucontext_t context;
    u8* stack = nullptr;
    int block = 0, thread = 0;
    bool finished = false;
    ~Fibre() { free(stack); }
};

// Fibres that wait until all of them are there.
struct Barrier {
    int members = 0;
    std::vector<Fibre*> waiting;
    void wait();
};

// A warp's collective operations: the last lane to come does the work of all.
struct Warp {
    Op op = Op::none;
    int count = 0;
    void* slots[32];
    std::vector<Fibre*> waiting;
    template <class Work> void meet(Op what, void* slot, Work work);
};

// A barrier that counts bytes (mbarrier with one arrival).
struct Counter {
    int pending = 1;
    long bytes = 0;
    u32 phase = 0;
    void expect(u32 more) {
        bytes += more, --pending;
        settle();
    }
    void arrived(u32 fewer) {
        bytes -= fewer;
        settle();
    }
    void settle() {
        if (pending == 0 && bytes == 0) ++phase, pending = 1;
    }
};

struct Block {
    static constexpr u32 base = 1024;  // so that no address is 0
    std::vector<u8> held;
    int size;
    std::vector<u32> places;  // of the counters
    std::vector<Counter> counters;
    Barrier barrier;
    std::vector<Warp> warps;

    u8* memory() { return (u8*)(((size_t)held.data() + 1023) / 1024 * 1024); }
    u32 address(const void* p) { return (u32)((const u8*)p - memory()) + base; }
    u8* at(u32 address, u32 bytes);
    Counter& counter(u32 address);
    void make_counter(u32 address);
};

struct Letter {
    int block;
    u32 to, counter;
    uint4 value;
};

class Grid {
  public:
    Grid(int blocks, int threads, int cluster, int shared, u64 seed, bool eager)
        : blocks_(blocks), clusters_((blocks + cluster - 1) / cluster), fibres_(blocks * threads), cluster_(cluster), eager_(eager), state_(seed * 2 + 1) {
        for (Block& block : blocks_) {
            block.held.assign(shared + 1024, 0xff), block.size = shared;
            block.barrier.members = threads, block.warps.resize(threads / 32);
        }
        for (Barrier& one : clusters_) one.members = threads * cluster;
        for (int i = 0; i < blocks * threads; ++i) {
            fibres_[i].block = i / threads, fibres_[i].thread = i % threads;
            ready_.push_back(&fibres_[i]);
        }
    }

    Outcome run(void (*kernel)(const void*), const void* arguments) {
        kernel_ = kernel, arguments_ = arguments;
        for (Fibre& fibre : fibres_) {
            fibre.stack = (u8*)malloc(stack_bytes);
            getcontext(&fibre.context);
            fibre.context.uc_stack.ss_sp = fibre.stack;
            fibre.context.uc_stack.ss_size = stack_bytes;
            fibre.context.uc_link = &main_;
            makecontext(&fibre.context, (void (*)())start, 0);
        }
        while (!over_) {
            if (!letters_.empty() && (ready_.empty() || chance(3))) {
                deliver();
                continue;
            }
            Fibre* next = choose();
            if (!next) break;
            current_ = last_ = next;
            swapcontext(&main_, &next->context);
        }
        if (over_) return outcome_;
        for (Fibre& fibre : fibres_)
            if (!fibre.finished) return Outcome::stuck;
        return Outcome::done;
    }

    int first = 0;  // block, of a kernel whose blocks run one after another

    Fibre& now() { return *current_; }
    Block& block() { return blocks_[current_->block]; }
    Warp& warp() { return block().warps[current_->thread / 32]; }
    Barrier& cluster() { return clusters_[current_->block / cluster_]; }
    u32 remote(u32 address, u32 rank) {
        if ((int)rank >= cluster_) fail("an address in a block that is not in the cluster");
        return (rank + 1) << 24 | address;
    }
    void send(u32 to, uint4 value, u32 counter) {
        if (to >> 24 == 0 || to >> 24 != counter >> 24) fail("a value goes to one block and its count to another");
        const int target = current_->block / cluster_ * cluster_ + (to >> 24) - 1;
        letters_.push_back({target, to & 0xffffff, counter & 0xffffff, value});
    }

    u32 random() {  // xorshift64*
        state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
        return (u32)(state_ * 2685821657736338717ull >> 32);
    }
    bool chance(int of) { return random() % of == 0; }
    struct Order {
        int of[4] = {0, 1, 2, 3};
        const int* begin() const { return of; }
        const int* end() const { return of + 4; }
    };
    Order shuffled() {
        Order order;
        for (int k = 3; k > 0; --k) exchange(order.of[k], order.of[random() % (k + 1)]);
        return order;
    }
    // Let others go on, who may do anything in between.
    void step_aside() {
        ready_.push_back(current_);
        leave();
    }
    void maybe_aside() {
        if (chance(4)) step_aside();
    }
    // A look at what others will write: whoever can work goes first, mostly.
    void look_again() {
        looking_.push_back(current_);
        leave();
    }
    void wake(std::vector<Fibre*>& waiting) {
        for (Fibre* fibre : waiting)
            if (fibre != current_) ready_.push_back(fibre);
        waiting.clear();
    }
    void leave() { swapcontext(&current_->context, &main_); }
    [[noreturn]] void trap() { end(Outcome::gave_up); }
    [[noreturn]] void fail(const char* why) {
        fprintf(stderr, "emulation: block %d, thread %d: %s\n", current_->block, current_->thread, why);
        end(Outcome::fault);
    }

  private:
    static constexpr int stack_bytes = 96 << 10;

    static void start();
    template <class T> static void exchange(T& a, T& b) {
        const T c = a;
        a = b, b = c;
    }
    [[noreturn]] void end(Outcome outcome) {
        over_ = true, outcome_ = outcome;
        leave();
        abort();  // nobody comes back
    }
    void deliver() {
        exchange(letters_[random() % letters_.size()], letters_.back());
        const Letter letter = letters_.back();
        letters_.pop_back();
        Block& to = blocks_[letter.block];
        *(uint4*)to.at(letter.to, 16) = letter.value;
        to.counter(letter.counter).arrived(16);
    }
    Fibre* choose() {
        std::vector<Fibre*>& from = ready_.empty() || (!looking_.empty() && chance(16)) ? looking_ : ready_;
        if (from.empty()) return nullptr;
        size_t k = random() % from.size();
        if (eager_ && last_ && &from == &ready_)  // among those that look, one may wait for another
            for (size_t i = from.size(); i-- > 0;)
                if (from[i]->block == last_->block && from[i]->thread / 32 == last_->thread / 32) {
                    k = i;
                    break;
                }
        exchange(from[k], from.back());
        Fibre* next = from.back();
        from.pop_back();
        return next;
    }

    std::vector<Block> blocks_;
    std::vector<Barrier> clusters_;
    std::vector<Fibre> fibres_;
    std::vector<Fibre*> ready_, looking_;
    std::vector<Letter> letters_;
    void (*kernel_)(const void*) = nullptr;
    const void* arguments_ = nullptr;
    int cluster_;
    bool eager_, over_ = false;
    Outcome outcome_ = Outcome::done;
    u64 state_;
    Fibre *current_ = nullptr, *last_ = nullptr;
    ucontext_t main_;
};

inline Grid* running = nullptr;
inline Grid& grid() { return *running; }
inline void Grid::start() {
    grid().kernel_(grid().arguments_);
    grid().current_->finished = true;
}

inline void Barrier::wait() {
    Grid& g = grid();
    waiting.push_back(&g.now());
    if ((int)waiting.size() == members) {
        g.wake(waiting);
        g.step_aside();
    } else
        g.leave();
}

template <class Work> void Warp::meet(Op what, void* slot, Work work) {
    Grid& g = grid();
    if (count > 0 && what != op) g.fail("lanes of a warp meet at different operations");
    op = what, slots[g.now().thread % 32] = slot;
    if (++count < 32) {
        waiting.push_back(&g.now());
        g.leave();
        return;
    }
    work(slots);
    count = 0;
    g.wake(waiting);
}

inline u8* Block::at(u32 address, u32 bytes) {
    if (address < base || address + bytes > base + size) grid().fail("an address outside of shared memory");
    if (address % bytes) grid().fail("an address that is not aligned");
    return memory() + (address - base);
}

inline void Block::make_counter(u32 address) {
    at(address, 8);
    places.push_back(address), counters.push_back(Counter());
}
inline Counter& Block::counter(u32 address) {
    for (size_t k = 0; k < places.size(); ++k)
        if (places[k] == address) return counters[k];
    grid().fail("a barrier that nobody has made");
}
