// Codes of any width packed into bytes, low bits first.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convsmith {

// Bit j of code i is bit (i * bits + j) % 8 of byte (i * bits + j) / 8. Works on codes begin to end, begin a multiple
// of 64; bits that belong to no code are zero. Code is the narrowest unsigned type of `bits` bits.
template <typename Code>
void pack(const Code* codes, uint8_t* bytes, size_t begin, size_t end, int bits);
template <typename Code>
void unpack(const uint8_t* bytes, Code* codes, size_t begin, size_t end, int bits);

}  // namespace convsmith
