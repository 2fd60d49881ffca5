#include "packing.h"

#include <cstring>

// 64 codes of w bits are w words of 64 bits. Codes of up to 16 bits have a loop of their own for each width, in which
// all shifts are constants; wider ones share a loop.
namespace convsmith {
namespace {

constexpr size_t kGroup = 64;

uint64_t mask_of(int bits) { return bits == 64 ? ~uint64_t(0) : (uint64_t(1) << bits) - 1; }

template <typename Code>
void pack_group(const Code* codes, uint8_t* bytes, int bits) {
    uint64_t word = 0;
    int used = 0;
    for (size_t i = 0; i < kGroup; ++i) {
        word |= uint64_t(codes[i]) << used;
        used += bits;
        if (used < 64) continue;
        memcpy(bytes, &word, 8);
        bytes += 8;
        used -= 64;
        word = used ? uint64_t(codes[i]) >> (bits - used) : 0;
    }
}

template <typename Code>
void unpack_group(const uint8_t* bytes, Code* codes, int bits) {
    const uint64_t mask = mask_of(bits);
    uint64_t word = 0;
    int left = 0;
    for (size_t i = 0; i < kGroup; ++i) {
        uint64_t code = word;
        if (left < bits) {
            memcpy(&word, bytes, 8);
            bytes += 8;
            code |= word << left;
            const int taken = bits - left;
            word = taken == 64 ? 0 : word >> taken;
            left = 64 - taken;
        } else {
            word >>= bits;
            left -= bits;
        }
        codes[i] = Code(code & mask);
    }
}

// Eight codes are as many bytes as they have bits.
template <int Bits, typename Code>
void pack_groups(const Code* codes, uint8_t* bytes, size_t groups) {
    for (size_t g = 0; g < groups * (kGroup / 8); ++g, codes += 8, bytes += Bits) {
        uint64_t low = 0, high = 0;
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
            const int at = i * Bits;
            if (at < 64) low |= uint64_t(codes[i]) << (at & 63);
            if (at >= 64)
                high |= uint64_t(codes[i]) << (at & 63);
            else if (at + Bits > 64)
                high |= uint64_t(codes[i]) >> (64 - at);
        }
        memcpy(bytes, &low, Bits < 8 ? Bits : 8);
        if (Bits > 8) memcpy(bytes + 8, &high, Bits - 8);
    }
}

template <int Bits, typename Code>
void unpack_groups(const uint8_t* bytes, Code* codes, size_t groups) {
    constexpr uint64_t mask = (uint64_t(1) << Bits) - 1;
    for (size_t g = 0; g < groups * (kGroup / 8); ++g, codes += 8, bytes += Bits) {
        uint64_t low = 0, high = 0;
        memcpy(&low, bytes, Bits < 8 ? Bits : 8);
        if (Bits > 8) memcpy(&high, bytes + 8, Bits - 8);
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
            const int at = i * Bits;
            uint64_t code = at < 64 ? low >> (at & 63) : high >> (at & 63);
            if (at < 64 && at + Bits > 64) code |= high << (64 - at);
            codes[i] = Code(code & mask);
        }
    }
}

template <typename Code, int Bits, int Last>
bool pack_narrow(const Code* codes, uint8_t* bytes, size_t groups, int bits) {
    if (bits == Bits) return pack_groups<Bits>(codes, bytes, groups), true;
    if constexpr (Bits < Last) return pack_narrow<Code, Bits + 1, Last>(codes, bytes, groups, bits);
    return false;
}

template <typename Code, int Bits, int Last>
bool unpack_narrow(const uint8_t* bytes, Code* codes, size_t groups, int bits) {
    if (bits == Bits) return unpack_groups<Bits>(bytes, codes, groups), true;
    if constexpr (Bits < Last) return unpack_narrow<Code, Bits + 1, Last>(bytes, codes, groups, bits);
    return false;
}

}  // namespace

template <typename Code>
void pack(const Code* codes, uint8_t* bytes, size_t begin, size_t end, int bits) {
    const size_t groups = (end - begin) / kGroup, whole = begin + groups * kGroup;
    uint8_t* target = bytes + begin / 8 * size_t(bits);
    bool done = false;
    if constexpr (sizeof(Code) <= 2)
        done = pack_narrow<Code, sizeof(Code) == 1 ? 1 : 9, 8 * int(sizeof(Code))>(codes + begin, target, groups, bits);
    if (!done)
        for (size_t g = 0; g < groups; ++g) pack_group(codes + begin + g * kGroup, target + g * 8 * size_t(bits), bits);
    if (whole == end) return;
    Code last[kGroup] = {};
    uint8_t packed[8 * 64];
    memcpy(last, codes + whole, (end - whole) * sizeof(Code));
    pack_group(last, packed, bits);
    memcpy(bytes + whole / 8 * size_t(bits), packed, ((end - whole) * size_t(bits) + 7) / 8);
}

template <typename Code>
void unpack(const uint8_t* bytes, Code* codes, size_t begin, size_t end, int bits) {
    const size_t groups = (end - begin) / kGroup, whole = begin + groups * kGroup;
    const uint8_t* source = bytes + begin / 8 * size_t(bits);
    bool done = false;
    if constexpr (sizeof(Code) <= 2)
        done =
            unpack_narrow<Code, sizeof(Code) == 1 ? 1 : 9, 8 * int(sizeof(Code))>(source, codes + begin, groups, bits);
    if (!done)
        for (size_t g = 0; g < groups; ++g)
            unpack_group(source + g * 8 * size_t(bits), codes + begin + g * kGroup, bits);
    if (whole == end) return;
    Code last[kGroup];
    uint8_t packed[8 * 64] = {};
    memcpy(packed, bytes + whole / 8 * size_t(bits), ((end - whole) * size_t(bits) + 7) / 8);
    unpack_group(packed, last, bits);
    memcpy(codes + whole, last, (end - whole) * sizeof(Code));
}

#define CONVSMITH_PACKING(Code)                                     \
    template void pack(const Code*, uint8_t*, size_t, size_t, int); \
    template void unpack(const uint8_t*, Code*, size_t, size_t, int);
CONVSMITH_PACKING(uint8_t)
CONVSMITH_PACKING(uint16_t)
CONVSMITH_PACKING(uint32_t)
CONVSMITH_PACKING(uint64_t)
#undef CONVSMITH_PACKING

}  // namespace convsmith
