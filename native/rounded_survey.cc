// What the choice of a carrier must know of an array of factors. Compiled once per instruction set.
#include "lanes.h"
#include "rounded.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

void rounded_survey(const float* values, size_t count, RoundedSurvey& found) {
    I largest = {};
    U used = {};
    F lowest_bit = all(__builtin_inff());
    for (size_t i = 0; i < count; i += kLanes) {
        F v = {};
        memcpy(&v, values + i, (count - i < kLanes ? count - i : kLanes) * sizeof(float));
        const U size = bits(v) & 0x7fffffffu;
        largest = (I)size > largest ? (I)size : largest;
        used |= size;
        // Without its lowest fraction bit a number is smaller by just that bit.
        const F whole = value(size), rest = value(size & (size - 1));
        const F bit = (size & 0x007fffffu) != 0 ? whole - rest : whole;
        lowest_bit = (size != 0) & (bit < lowest_bit) ? bit : lowest_bit;
    }
    found = {0, 0, __builtin_inff()};
    for (int lane = 0; lane < kLanes; ++lane) {
        if (uint32_t(largest[lane]) > found.largest) found.largest = uint32_t(largest[lane]);
        found.used |= used[lane];
        if (lowest_bit[lane] < found.lowest_bit) found.lowest_bit = lowest_bit[lane];
    }
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
