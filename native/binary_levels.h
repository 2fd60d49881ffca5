// The functions on packed signs of one instruction set.
#pragma once

#include "binary.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

bool pack_signs(const float* x, long rows, int channels, long pitch, uint64_t* packed);
size_t prepared_words(const BinaryProduct&);
void prepare_product(const BinaryProduct&, const uint64_t* b, uint64_t* prepared);
void multiply_signs(const BinaryProduct&, const uint64_t* a, const uint64_t* prepared, const int32_t* base, int32_t* c,
                    int threads);
size_t binary_workspace_bytes(const BinaryConvolution&, int threads);
void convolve_signs(const BinaryConvolution&, const uint64_t* x, const uint64_t* prepared, void* y,
                    const BinaryEpilogue&, void* workspace, int threads);
void pool_signs(const SignPooling&, const uint64_t* x, const uint64_t* smallest, uint64_t* y, long first, long last);
void unpack_signs(const SignRows&, const uint64_t* x, float* y, long first, long last);

extern const BinaryTable kBinary;

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
