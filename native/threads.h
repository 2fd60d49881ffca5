// A pool of sleeping threads for loops over independent parts.
#pragma once

#include <cstddef>
#include <functional>

#include "parts.h"

namespace convsmith {

// Calls body(part) for every part below `parts`, on at most `threads` threads with the caller as one of them, and
// returns when all are done. Each thread computes in the default floating-point environment (round to nearest,
// subnormals kept), whatever the caller's is. Parts are handed out as threads come free, so results must not depend on
// who does what. Callers may overlap and processes may fork: while the pool serves another caller, a call runs on its
// own thread alone, and a forked child starts a new pool.
void parallel(size_t parts, int threads, const std::function<void(size_t)>& body);

// While one lives, the pool's helpers look longer for work before they sleep: for the steps of one network, between
// which a step on one thread may lie.
class Patience {
  public:
    Patience();
    ~Patience();
};

// How many threads to use where nobody says: the environment variable CONVSMITH_THREADS, else OMP_NUM_THREADS, else the
// processors that this process may use.
int default_threads();

}  // namespace convsmith
