#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>

namespace convsmith {
namespace {

class DefaultFloatingPoint {
  public:
    DefaultFloatingPoint() {
        std::fegetenv(&saved_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultFloatingPoint() { std::fesetenv(&saved_); }

  private:
    std::fenv_t saved_;
};

struct Job {
    void (*body)(void* context, size_t part, int worker);
    void* context;
    size_t parts;
    std::atomic<size_t> next{0};
    std::atomic<int> workers{0};

    void work() {
        const DefaultFloatingPoint environment;
        const int worker = workers.fetch_add(1, std::memory_order_relaxed);
        for (size_t part; (part = next.fetch_add(1, std::memory_order_relaxed)) < parts;) body(context, part, worker);
    }
};

// Turns of looking before sleep. About 25 microseconds for a helper without work: the layers of a network follow each
// other faster than a sleeping thread wakes. Ten times that for the caller while helpers end their last parts, when
// nothing else of it could run.
constexpr int kHelperTurns = 2000, kCallerTurns = 20000;

template <class Done>
void look_for(int turns, Done done) {
    for (int turn = 0; turn < turns && !done(); ++turn) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    }
}

// A sleeping thread of the pool. Linux may wake one on its caller's processor and leave both there for seconds while
// another processor idles (seen with 2 of them), so the caller says where not to wake.
struct Helper {
    pid_t thread = 0;
    bool asleep = false, narrowed = false;
    cpu_set_t allowed;

    void wake_elsewhere_than(int caller) {
        if (!asleep || narrowed || sched_getaffinity(thread, sizeof allowed, &allowed) != 0) return;
        cpu_set_t others = allowed;
        CPU_CLR(caller, &others);
        narrowed = CPU_COUNT(&others) > 0 && sched_setaffinity(thread, sizeof others, &others) == 0;
    }
    void widen() {
        if (narrowed) sched_setaffinity(0, sizeof allowed, &allowed);
        narrowed = false;
    }
};

class Pool {
  public:
    std::mutex in_use;

    void run(Job& job, int helpers) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            while (int(all_.size()) < helpers) {
                all_.emplace_back();
                std::thread(&Pool::serve, this, int(all_.size()) - 1).detach();
            }
            const int processor = sched_getcpu();
            for (int i = 0; i < helpers; ++i) all_[size_t(i)].wake_elsewhere_than(processor);
            job_ = &job;
            helpers_ = helpers;
            ++turn_;
        }
        wake_.notify_all();
        job.work();
        // No part is left: who has not begun by now finds no job, and is not waited for.
        {
            std::lock_guard<std::mutex> lock(mutex_);
            job_ = nullptr;
        }
        look_for(kCallerTurns, [this] { return active_ == 0; });
        std::unique_lock<std::mutex> lock(mutex_);
        idle_.wait(lock, [this] { return active_ == 0; });
    }

  private:
    void serve(int index) {
        unsigned long seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        Helper& self = all_[size_t(index)];
        self.thread = pid_t(syscall(SYS_gettid));
        for (;;) {
            lock.unlock();
            look_for(kHelperTurns, [&] { return turn_ != seen; });
            lock.lock();
            self.asleep = true;
            wake_.wait(lock, [&] { return turn_ != seen; });
            self.asleep = false;
            seen = turn_;
            if (index >= helpers_ || !job_) continue;
            Job* job = job_;
            ++active_;
            self.widen();
            lock.unlock();
            job->work();
            lock.lock();
            if (--active_ == 0) idle_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, idle_;
    Job* job_ = nullptr;
    std::deque<Helper> all_;
    int helpers_ = 0;
    std::atomic<unsigned long> turn_{0};
    std::atomic<int> active_{0};
};

// Never deleted: its threads sleep until the process ends. A forked child has none of them, and leaves the parent's
// copy behind.
Pool* pool = new Pool;

void forget_pool() { pool = new Pool; }

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, forget_pool);

}  // namespace

void parallel_parts(size_t parts, int threads, void (*body)(void* context, size_t part, int worker), void* context) {
    Job job{body, context, parts};
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
