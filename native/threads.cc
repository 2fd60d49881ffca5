#include "threads.h"

#include <pthread.h>

#include <atomic>
#include <cfenv>
#include <condition_variable>
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
    const std::function<void(size_t)>* body;
    size_t parts;
    std::atomic<size_t> next{0};

    void work() {
        const DefaultFloatingPoint environment;
        for (size_t part; (part = next.fetch_add(1, std::memory_order_relaxed)) < parts;) (*body)(part);
    }
};

class Pool {
  public:
    std::mutex in_use;

    void run(Job& job, int helpers) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            for (; started_ < helpers; ++started_) std::thread(&Pool::serve, this, started_).detach();
            job_ = &job;
            helpers_ = pending_ = helpers;
            ++turn_;
        }
        wake_.notify_all();
        job.work();
        std::unique_lock<std::mutex> lock(mutex_);
        idle_.wait(lock, [this] { return pending_ == 0; });
    }

  private:
    void serve(int index) {
        unsigned long seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return turn_ != seen; });
            seen = turn_;
            if (index >= helpers_) continue;
            Job* job = job_;
            lock.unlock();
            job->work();
            lock.lock();
            if (--pending_ == 0) idle_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, idle_;
    Job* job_ = nullptr;
    unsigned long turn_ = 0;
    int started_ = 0, helpers_ = 0, pending_ = 0;
};

// Never deleted: its threads sleep until the process ends. A forked child has none of them, and leaves the parent's
// copy behind.
Pool* pool = new Pool;

void forget_pool() { pool = new Pool; }

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, forget_pool);

}  // namespace

void parallel(size_t parts, int threads, const std::function<void(size_t)>& body) {
    Job job{&body, parts};
    const size_t helpers = threads > 1 && parts > 1 ? (parts < size_t(threads) ? parts : size_t(threads)) - 1 : 0;
    std::unique_lock<std::mutex> lock(pool->in_use, std::defer_lock);
    if (helpers > 0 && lock.try_lock())
        pool->run(job, int(helpers));
    else
        job.work();
}

}  // namespace convsmith
