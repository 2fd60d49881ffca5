// Which compiled level of the kernels to use: the one choice by instruction set in the whole core.
#pragma once

#include <string>
#include <vector>

#include "binary.h"
#include "blocks.h"
#include "convolution.h"
#include "gradient.h"
#include "integer.h"
#include "operators.h"
#include "resample.h"
#include "round.h"
#include "rounded.h"
#include "speed.h"

namespace convsmith {

struct Level {
    const char* name;
    RoundRange round;
    RoundWideRange round_wide;
    CountRange count;
    RoundBlocks round_blocks;
    const ConvolutionTable* convolutions;
    const GradientTable* gradients;
    const OperatorTable* operators;
    const IntegerTable* integers;
    const BinaryTable* binary;
    RoundedRun rounded[kCarriers];  // by Carrier
    RoundedLook look;               // null for the reference, which needs no choice
    ResamplePicture resample;
    MultiplyAdds multiply_adds;
    Triad triad;
};

// The levels that this build has and this processor can run, the slowest ("reference", one element at a time) first.
const std::vector<Level>& levels();

// Null when there is none of that name.
const Level* find_level(const std::string& name);

// These throw std::invalid_argument when there is none of that name.
const Level& level_of(const std::string& name);
const ConvolutionAlgorithm& convolution_algorithm(const Level& level, const std::string& name);
const GradientAlgorithm& gradient_algorithm(const Level& level, const std::string& name);
const IntegerAlgorithm& integer_algorithm(const Level& level, const std::string& name);

// The level that the environment variable CONVSMITH_ISA names, null when there is none of that name; the best level
// when the variable is empty or not set.
const Level* default_level();

}  // namespace convsmith
