#include "dispatch.h"

#include "round_reference.h"

namespace convsmith {

#define CONVSMITH_DECLARE(level)                                                                 \
    namespace level {                                                                            \
    void round(const float*, float*, size_t, size_t, const Rounding&, const Scale&, const Key&); \
    }
CONVSMITH_DECLARE(portable)
#if defined(CONVSMITH_X86_LEVELS)
CONVSMITH_DECLARE(avx2)
CONVSMITH_DECLARE(avx512)
#endif
#undef CONVSMITH_DECLARE

const std::vector<Level>& levels() {
    static const std::vector<Level> found = [] {
        std::vector<Level> list = {{"reference", round_reference}, {"portable", portable::round}};
#if defined(CONVSMITH_X86_LEVELS)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx2")) list.push_back({"avx2", avx2::round});
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            list.push_back({"avx512", avx512::round});
#endif
        return list;
    }();
    return found;
}

const Level* find_level(const std::string& name) {
    for (const Level& level : levels())
        if (name == level.name) return &level;
    return nullptr;
}

}  // namespace convsmith
