#include "dispatch.h"

#include <cstdlib>
#include <stdexcept>

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
    extern const GradientTable kGradients;                                                                  \
    extern const OperatorTable kOperators;                                                                  \
    extern const IntegerTable kIntegers;                                                                    \
    void rounded_wide(const RoundedPlan&, const RoundedTile&);                                              \
    void rounded_narrow(const RoundedPlan&, const RoundedTile&);                                            \
    void rounded_whole(const RoundedPlan&, const RoundedTile&);                                             \
    void rounded_survey(const float*, size_t, RoundedSurvey&);                                              \
    void resample(const Resample&);                                                                         \
    int multiply_adds(size_t);                                                                              \
    void triad(const float*, const float*, float*, float, size_t, size_t);                                  \
    }
#define CONVSMITH_ROUNDED(level) {level::rounded_wide, level::rounded_narrow, level::rounded_whole}
CONVSMITH_DECLARE(portable)
#if defined(CONVSMITH_X86_LEVELS)
CONVSMITH_DECLARE(avx2)
CONVSMITH_DECLARE(avx512)
namespace avx512vnni {
extern const IntegerTable kIntegers;
void resample(const Resample&);
}  // namespace avx512vnni
namespace avx512bf16 {
extern const ConvolutionAlgorithm kBfloat16Gemm;
}
namespace avx512vpopcntdq {
extern const BinaryTable kBinary;
}
#endif
#undef CONVSMITH_DECLARE

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

#if defined(CONVSMITH_X86_LEVELS)
// The convolutions of the level avx512 and the one in bfloat16.
const ConvolutionTable& with_bfloat16() {
    static const std::vector<const ConvolutionAlgorithm*> entries = [] {
        const ConvolutionTable& before = avx512::kConvolutions;
        std::vector<const ConvolutionAlgorithm*> list(before.entries, before.entries + before.count);
        list.push_back(&avx512bf16::kBfloat16Gemm);
        return list;
    }();
    static const ConvolutionTable table = {entries.data(), int(entries.size())};
    return table;
}
#endif

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
             &kReferenceGradients,
             &portable::kOperators,
             &reference_integers(),
             &kReferenceBinary,
             {rounded_reference, rounded_reference, rounded_reference},
             nullptr,
             resample_reference,
             portable::multiply_adds,
             portable::triad},
            {"portable", portable::round, portable::round_wide, portable::count, portable::round_blocks,
             &portable::kConvolutions, &portable::kGradients, &portable::kOperators, &portable::kIntegers,
             &portable::kBinary, CONVSMITH_ROUNDED(portable), portable::rounded_survey, portable::resample,
             portable::multiply_adds, portable::triad}};
#if defined(CONVSMITH_X86_LEVELS)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            list.push_back({"avx2", avx2::round, avx2::round_wide, avx2::count, avx2::round_blocks,
                            &avx2::kConvolutions, &avx2::kGradients, &avx2::kOperators, &avx2::kIntegers,
                            &avx2::kBinary, CONVSMITH_ROUNDED(avx2), avx2::rounded_survey, avx2::resample,
                            avx2::multiply_adds, avx2::triad});
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            list.push_back({"avx512", avx512::round, avx512::round_wide, avx512::count, avx512::round_blocks,
                            &avx512::kConvolutions, &avx512::kGradients, &avx512::kOperators, &avx512::kIntegers,
                            &avx512::kBinary, CONVSMITH_ROUNDED(avx512), avx512::rounded_survey, avx512::resample,
                            avx512::multiply_adds, avx512::triad});
        // Only kernels of codes, of pictures, of packed signs where the processor counts bits, and one of bfloat16,
        // differ from those of the level before: no processor of this level counts bits without the former.
        if (list.back().name == std::string("avx512") && __builtin_cpu_supports("avx512vnni")) {
            Level better = list.back();
            better.name = "avx512vnni";
            better.integers = &avx512vnni::kIntegers;
            better.resample = avx512vnni::resample;
            if (__builtin_cpu_supports("avx512bf16")) better.convolutions = &with_bfloat16();
            if (__builtin_cpu_supports("avx512vpopcntdq")) better.binary = &avx512vpopcntdq::kBinary;
            list.push_back(better);
        }
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

const Level& level_of(const std::string& name) {
    const Level* found = find_level(name);
    if (!found) throw std::invalid_argument("no such level: " + name);
    return *found;
}

namespace {

template <class Table>
const auto& algorithm_of(const Level& level, const Table& table, const std::string& name) {
    for (int i = 0; i < table.count; ++i)
        if (name == table.entries[i]->name) return *table.entries[i];
    throw std::invalid_argument("no algorithm " + name + " at level " + level.name);
}

}  // namespace

const ConvolutionAlgorithm& convolution_algorithm(const Level& level, const std::string& name) {
    return algorithm_of(level, *level.convolutions, name);
}

const GradientAlgorithm& gradient_algorithm(const Level& level, const std::string& name) {
    return algorithm_of(level, *level.gradients, name);
}

const IntegerAlgorithm& integer_algorithm(const Level& level, const std::string& name) {
    return algorithm_of(level, *level.integers, name);
}

const Level* default_level() {
    const char* name = std::getenv("CONVSMITH_ISA");
    return name && *name ? find_level(name) : &levels().back();
}

}  // namespace convsmith
