#include "dispatch.h"

#include <cstdlib>

#include "binary_reference.h"
#include "blocks_reference.h"
#include "convolution_reference.h"
#include "integer_reference.h"
#include "round_reference.h"
#include "rounded_reference.h"

namespace convsmith {

#define CONVSMITH_DECLARE(level)                                                                            \
    namespace level {                                                                                       \
    void round(const float*, float*, size_t, size_t, const Rounding&, const Scale&, const Key&);            \
    void round_wide(Numbers, Numbers, size_t, size_t, const WideRounding&, const Scale&, const Key&);       \
    void count(const float*, float*, size_t, size_t, const Rounding&, const Scale&, const Key&, Counts&);   \
    void round_blocks(Numbers, float*, size_t, size_t, const Blocks&, const Rounding&, const WideRounding&, \
                      const Key&);                                                                          \
    extern const BinaryTable kBinary;                                                                       \
    extern const ConvolutionTable kConvolutions;                                                            \
    extern const OperatorTable kOperators;                                                                  \
    extern const IntegerTable kIntegers;                                                                    \
    void rounded_wide(const RoundedPlan&, const RoundedTile&);                                              \
    void rounded_narrow(const RoundedPlan&, const RoundedTile&);                                            \
    void rounded_whole(const RoundedPlan&, const RoundedTile&);                                             \
    void rounded_survey(const float*, size_t, RoundedSurvey&);                                              \
    void resample(const Resample&);                                                                         \
    }
#define CONVSMITH_ROUNDED(level) {level::rounded_wide, level::rounded_narrow, level::rounded_whole}
CONVSMITH_DECLARE(portable)
#if defined(CONVSMITH_X86_LEVELS)
CONVSMITH_DECLARE(avx2)
CONVSMITH_DECLARE(avx512)
namespace avx512vnni {
extern const IntegerTable kIntegers;
}
#endif
#undef CONVSMITH_DECLARE
#if defined(CONVSMITH_X86_LEVELS)
namespace avx512vpopcntdq {
extern const BinaryTable kBinary;
}
#endif

namespace {

// The reference convolution, with the operators of the portable level.
const IntegerTable& reference_integers() {
    static const IntegerAlgorithm* const entries[] = {&kIntegerLoops};
    static const IntegerTable table = [] {
        IntegerTable made = portable::kIntegers;
        made.entries = entries;
        made.count = 1;
        return made;
    }();
    return table;
}

}  // namespace

const std::vector<Level>& levels() {
    static const std::vector<Level> found = [] {
        std::vector<Level> list = {
            {"reference",
             round_reference,
             round_wide_reference,
             count_reference,
             round_blocks_reference,
             &kReferenceConvolutions,
             &portable::kOperators,
             &reference_integers(),
             {rounded_reference, rounded_reference, rounded_reference},
             nullptr,
             resample_reference},
            {"portable", portable::round, portable::round_wide, portable::count, portable::round_blocks,
             &portable::kConvolutions, &portable::kOperators, &portable::kIntegers, CONVSMITH_ROUNDED(portable),
             portable::rounded_survey, portable::resample}};
#if defined(CONVSMITH_X86_LEVELS)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            list.push_back({"avx2", avx2::round, avx2::round_wide, avx2::count, avx2::round_blocks,
                            &avx2::kConvolutions, &avx2::kOperators, &avx2::kIntegers, CONVSMITH_ROUNDED(avx2),
                            avx2::rounded_survey, avx2::resample});
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            list.push_back({"avx512", avx512::round, avx512::round_wide, avx512::count, avx512::round_blocks,
                            &avx512::kConvolutions, &avx512::kOperators, &avx512::kIntegers, CONVSMITH_ROUNDED(avx512),
                            avx512::rounded_survey, avx512::resample});
        // Only kernels of codes differ from those of the level before.
        if (list.back().name == std::string("avx512") && __builtin_cpu_supports("avx512vnni")) {
            Level better = list.back();
            better.name = "avx512vnni";
            better.integers = &avx512vnni::kIntegers;
            list.push_back(better);
        }
#endif
        return list;
    }();
    return found;
}

const std::vector<const BinaryTable*>& binary_tables() {
    static const std::vector<const BinaryTable*> found = [] {
        std::vector<const BinaryTable*> list = {&kReferenceBinary, &portable::kBinary};
#if defined(CONVSMITH_X86_LEVELS)
        if (find_level("avx2")) list.push_back(&avx2::kBinary);
        if (find_level("avx512")) list.push_back(&avx512::kBinary);
        if (find_level("avx512") && __builtin_cpu_supports("avx512vpopcntdq"))
            list.push_back(&avx512vpopcntdq::kBinary);
#endif
        return list;
    }();
    return found;
}

const BinaryTable* find_binary(const std::string& name) {
    for (const BinaryTable* table : binary_tables())
        if (name == table->name) return table;
    return nullptr;
}

const Level* find_level(const std::string& name) {
    for (const Level& level : levels())
        if (name == level.name) return &level;
    return nullptr;
}

const ConvolutionAlgorithm* find_convolution(const Level& level, const std::string& name) {
    for (int i = 0; i < level.convolutions->count; ++i)
        if (name == level.convolutions->entries[i]->name) return level.convolutions->entries[i];
    return nullptr;
}

const IntegerAlgorithm* find_integer(const Level& level, const std::string& name) {
    for (int i = 0; i < level.integers->count; ++i)
        if (name == level.integers->entries[i]->name) return level.integers->entries[i];
    return nullptr;
}

const Level* default_level() {
    const char* name = std::getenv("CONVSMITH_ISA");
    return name && *name ? find_level(name) : &levels().back();
}

}  // namespace convsmith
