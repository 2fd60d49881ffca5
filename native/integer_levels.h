// The integer kernels of one instruction set.
#pragma once

#include "integer.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

extern const IntegerAlgorithm kIntegerGemm, kIntegerDirect, kIntegerDepthwise;
constexpr int kIntegerWinogradForms = 2;
extern const IntegerAlgorithm kIntegerWinograd[kIntegerWinogradForms];

void quantise(const Quantisation&, const float* x, uint8_t* y, long first, long last);
void dequantise(const Quantisation&, const uint8_t* x, float* y, long first, long last);
void look_up(const LookUp&, const uint8_t* x, const uint8_t* table, uint8_t* y, long first, long last);
void add_codes(const IntegerSum&, const uint8_t* a, const uint8_t* b, uint8_t* y, long first, long last);
void pool_codes(const IntegerPooling&, const uint8_t* x, uint8_t* y, long first, long last);
void copy_codes(const Copy&, const uint8_t* a, uint8_t* y, long first, long last);

extern const IntegerTable kIntegers;

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
