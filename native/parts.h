// Loops over independent parts, as the kernels of one instruction set call them: no C++ library types.
#pragma once

#include <stddef.h>

namespace convsmith {

// Calls body(context, part, worker) for every part below `parts` on at most `threads` threads (see parallel in
// threads.h); `worker`, below min(parts, threads), is another one for each thread at work at a time: the number of its
// scratch memory.
void parallel_parts(size_t parts, int threads, void (*body)(void* context, size_t part, int worker), void* context);

// Sizes in bytes of one processor's data caches, as the system tells them, else usual ones.
struct Caches {
    size_t first, second;
};
const Caches& caches();

}  // namespace convsmith
