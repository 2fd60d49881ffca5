#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace convsmith {
namespace {

// Only the control register of vector arithmetic matters on x86, and reading it costs a few cycles, not hundreds.
class DefaultFloatingPoint {
#if defined(__SSE2__)
  public:
    DefaultFloatingPoint() : saved_(_mm_getcsr()) {
        constexpr unsigned kFlags = 0x3f, kDefault = 0x1f80;
        if ((saved_ & ~kFlags) != kDefault) _mm_setcsr(kDefault);
    }
    ~DefaultFloatingPoint() { _mm_setcsr(saved_); }

  private:
    unsigned saved_;
#else
  public:
    DefaultFloatingPoint() {
        std::fegetenv(&saved_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultFloatingPoint() { std::fesetenv(&saved_); }

  private:
    std::fenv_t saved_;
#endif
};

struct Job {
    void (*body)(void* context, size_t part, int worker);
    void* context;
    size_t parts;
    int processor;  // where the caller runs
    std::atomic<size_t> next{0};
    std::atomic<int> workers{0};

    void work() {
        const DefaultFloatingPoint environment;
        const int worker = workers.fetch_add(1, std::memory_order_relaxed);
        for (size_t part; (part = next.fetch_add(1, std::memory_order_relaxed)) < parts;) body(context, part, worker);
    }
};

// Turns of looking before sleep, 12 to 40 nanoseconds each. A helper looks for some 40 microseconds, because the layers
// of a network follow each other faster than a sleeping thread wakes; not longer, since another library's threads may
// need the processor (0.2 milliseconds made training in torch under a plan a fifth slower). The caller looks longer
// while helpers end their last parts, when nothing else of it could run.
constexpr int kHelperTurns = 1600, kCallerTurns = 16000;

std::atomic<int> patient{0};

template <class Done>
bool look_for(int turns, Done done) {
    for (int turn = 0; turn < turns; ++turn) {
        if (done()) return true;
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    }
    return done();
}

// Keeps a thread off one processor if it may use another; `allowed` becomes what it might use before.
bool keep_off(pthread_t thread, int processor, cpu_set_t& allowed) {
    if (processor < 0 || pthread_getaffinity_np(thread, sizeof allowed, &allowed) != 0) return false;
    cpu_set_t others = allowed;
    CPU_CLR(processor, &others);
    return CPU_COUNT(&others) > 0 && pthread_setaffinity_np(thread, sizeof others, &others) == 0;
}

void let_use(pthread_t thread, const cpu_set_t& allowed) { pthread_setaffinity_np(thread, sizeof allowed, &allowed); }

// One job at a time. Helpers join it as long as it has tickets; the caller takes those left away when no part is left,
// so that nobody waits for a helper that did not wake in time. A scheduler can leave a helper on its caller's processor
// for seconds, which takes longer than the caller alone would: it is moved away, and then free to go where it may.
class Pool {
  public:
    std::mutex in_use;

    void run(Job& job, int helpers) {
        job.processor = sched_getcpu();
        if (int(helpers_.size()) < helpers) start(helpers);
        job_ = &job;
        state_ = (turn(state_) + 1) << 32 | uint64_t(helpers) << 16;
        if (asleep_ > 0) wake(job.processor);
        job.work();
        state_ &= ~kTickets;
        const auto alone = [this] { return (state_ & kWorking) == 0; };
        if (look_for(kCallerTurns, alone)) return;
        std::unique_lock<std::mutex> lock(mutex_);
        waits_ = true;
        idle_.wait(lock, alone);
        waits_ = false;
    }

  private:
    struct Helper {
        pthread_t thread{};
        int processor = -1;  // where it fell asleep
        bool moved = false;  // before it woke
        cpu_set_t allowed{};
    };

    static constexpr uint64_t kWorking = 0xffff, kTickets = 0xffff0000;
    static uint64_t turn(uint64_t state) { return state >> 32; }

    void start(int helpers) {
        std::lock_guard<std::mutex> lock(mutex_);
        while (int(helpers_.size()) < helpers) {
            helpers_.emplace_back();
            std::thread thread(&Pool::serve, this, &helpers_.back());
            helpers_.back().thread = thread.native_handle();
            thread.detach();
        }
    }

    void wake(int processor) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            for (Helper& helper : helpers_)
                if (helper.processor == processor && !helper.moved)
                    helper.moved = keep_off(helper.thread, processor, helper.allowed);
        }
        wake_.notify_all();
    }

    // Takes a ticket of the job at hand; no other job can come while a helper is at work.
    bool join() {
        uint64_t state = state_;
        while (state & kTickets)
            if (state_.compare_exchange_weak(state, state + 1 - (uint64_t(1) << 16))) return true;
        return false;
    }

    void serve(Helper* self) {
        uint64_t seen = 0;
        for (;;) {
            const auto called = [&] { return turn(state_) != seen; };
            if (!look_for(patient ? kCallerTurns : kHelperTurns, called)) sleep(*self, called);
            seen = turn(state_);
            if (!join()) continue;
            seen = turn(state_);
            cpu_set_t allowed;
            if (sched_getcpu() == job_->processor && keep_off(pthread_self(), job_->processor, allowed))
                let_use(pthread_self(), allowed);
            job_->work();
            if (((state_ -= 1) & (kWorking | kTickets)) == 0) {
                std::lock_guard<std::mutex> lock(mutex_);
                if (waits_) idle_.notify_one();
            }
        }
    }

    template <class Called>
    void sleep(Helper& self, Called called) {
        std::unique_lock<std::mutex> lock(mutex_);
        self.processor = sched_getcpu();
        ++asleep_;
        wake_.wait(lock, called);
        --asleep_;
        if (self.moved) let_use(self.thread, self.allowed);
        self.moved = false;
        self.processor = -1;
    }

    std::mutex mutex_;
    std::condition_variable wake_, idle_;
    std::deque<Helper> helpers_;  // that do not move
    Job* job_ = nullptr;
    bool waits_ = false;
    std::atomic<int> asleep_{0};
    std::atomic<uint64_t> state_{0};  // from above: number of the job, tickets left, helpers at work
};

// Never deleted: its threads sleep until the process ends. A forked child has none of them, and leaves the parent's
// copy behind.
Pool* pool = new Pool;

void forget_pool() { pool = new Pool; }

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, forget_pool);

}  // namespace

Patience::Patience() { ++patient; }
Patience::~Patience() { --patient; }

void parallel_parts(size_t parts, int threads, void (*body)(void* context, size_t part, int worker), void* context) {
    Job job{body, context, parts, -1};
    const size_t helpers = threads > 1 && parts > 1 ? (parts < size_t(threads) ? parts : size_t(threads)) - 1 : 0;
    std::unique_lock<std::mutex> lock(pool->in_use, std::defer_lock);
    if (helpers > 0 && lock.try_lock())
        pool->run(job, int(helpers));
    else
        job.work();
}

void parallel(size_t parts, int threads, const std::function<void(size_t)>& body) {
    const auto call = [](void* context, size_t part, int) {
        (*static_cast<const std::function<void(size_t)>*>(context))(part);
    };
    parallel_parts(parts, threads, call, const_cast<std::function<void(size_t)>*>(&body));
}

const Caches& caches() {
    static const Caches found = [] {
        long first = 0, second = 0;
#if defined(_SC_LEVEL1_DCACHE_SIZE)
        first = sysconf(_SC_LEVEL1_DCACHE_SIZE);
        second = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
        return Caches{first > 0 ? size_t(first) : size_t(32) << 10, second > 0 ? size_t(second) : size_t(512) << 10};
    }();
    return found;
}

int default_threads() {
    for (const char* name : {"CONVSMITH_THREADS", "OMP_NUM_THREADS"}) {
        const char* text = std::getenv(name);
        char* end = nullptr;
        const long count = text ? std::strtol(text, &end, 10) : 0;
        if (count > 0 && count <= 1 << 16 && *end == '\0') return int(count);
    }
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
    const unsigned processors = std::thread::hardware_concurrency();
    return processors ? int(processors) : 1;
}

}  // namespace convsmith
