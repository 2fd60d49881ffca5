// Philox4x32 with 7 rounds: counter-based random words (Salmon et al. 2011, doi 10.1145/2063384.2063405).
#pragma once

#include <stdint.h>

namespace convsmith {

constexpr int kPhiloxRounds = 7;
constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53, kPhiloxMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9, kPhiloxWeyl1 = 0xBB67AE85;

}  // namespace convsmith
