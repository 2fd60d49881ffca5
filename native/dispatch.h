// Which compiled level of the kernels to use: the one choice by instruction set in the whole core.
#pragma once

#include <string>
#include <vector>

#include "blocks.h"
#include "convolution.h"
#include "operators.h"
#include "round.h"
#include "rounded.h"

namespace convsmith {

struct Level {
    const char* name;
    RoundRange round;
    RoundWideRange round_wide;
    CountRange count;
    RoundBlocks round_blocks;
    const ConvolutionTable* convolutions;
    const OperatorTable* operators;
    RoundedRun rounded[kCarriers];  // by Carrier
    RoundedLook look;               // null for the reference, which needs no choice
};

// The levels that this build has and this processor can run, the slowest ("reference", one element at a time) first.
const std::vector<Level>& levels();

// Both null when there is none of that name.
const Level* find_level(const std::string& name);
const ConvolutionAlgorithm* find_convolution(const Level& level, const std::string& name);

// The level that the environment variable CONVSMITH_ISA names, null when there is none of that name; the best level
// when the variable is empty or not set.
const Level* default_level();

}  // namespace convsmith
