"""The speed limits of this machine, float32 and bytes: multiply-adds on registers, compiled for it and run on all threads."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = r"""
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>
#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float F __attribute__((vector_size(4 * kLanes)));
constexpr int kSums = 12;
constexpr long kTurns = 20000000;
#if defined(DOT)
#include <immintrin.h>
constexpr int kOperations = 2 * 4 * kLanes;
static void work() {
    __m512i sums[kSums] = {}, a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-2);
    for (long turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 16
        for (int i = 0; i < kSums; ++i) sums[i] = _mm512_dpbusd_epi32(sums[i], a, b);
        for (int i = 0; i < kSums; ++i) asm volatile("" : "+v"(sums[i]));
    }
}
#else
constexpr int kOperations = 2 * kLanes;
static void work() {
    F sums[kSums] = {}, a, b;
    for (int i = 0; i < kLanes; ++i) a[i] = 0.999f, b[i] = 0.001f;
    for (long turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 16
        for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * a + b;
        for (int i = 0; i < kSums; ++i) asm volatile("" : "+v"(sums[i]));
    }
}
#endif
int main(int count, char**) {
    double best = 1e30;
    for (int round = 0; round < 5; ++round) {
        const auto start = std::chrono::steady_clock::now();
        std::vector<std::thread> threads;
        for (int i = 1; i < count; ++i) threads.emplace_back(work);
        for (auto& thread : threads) thread.join();
        const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (s < best) best = s;
    }
    std::printf("%.1f\n", 1.0 * (count - 1) * kTurns * kSums * kOperations / best * 1e-9);
}
"""


def fma_gflops(threads: int) -> float:
    """Return billions of operations a second (a multiply-add counts as 2), the best of 5 rounds."""
    return rate(threads)


def dot_gops(threads: int) -> float:
    """Return billions of operations a second of byte products (VPDPBUSD), which needs AVX-512 VNNI."""
    return rate(threads, "-DDOT")


def rate(threads: int, *flags: str) -> float:
    compiler = shutil.which("g++") or shutil.which("c++")
    assert compiler, "a C++ compiler is needed to measure the limit"
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "peak.cc", Path(folder) / "peak"
        source.write_text(SOURCE)
        subprocess.run([compiler, "-O3", "-march=native", "-Wno-psabi", *flags, "-o", program, source, "-pthread"], check=True)
        return float(subprocess.run([program, *["-"] * threads], check=True, capture_output=True, text=True).stdout)
