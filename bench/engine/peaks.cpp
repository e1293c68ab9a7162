// What this processor can do at most: sums of products a second in registers, and bytes read a second from memory.
// Prints "NAME VALUE" lines: f32_gflops, bf16_gflops, int8_gflops (two operations for each product), read_gbps.
//
//     peaks THREADS
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace {

constexpr int kChains = 12;  // independent sums, enough to hide the latency of any of the instructions
// A tenth of a second and more: threads that have just been made may share a core for the first hundredth.
constexpr int kSteps = 20'000'000;
constexpr int kTrials = 8;
constexpr std::size_t kReadBytes = std::size_t{256} << 20U;  // of each thread, beyond any cache

// Where results go, so that no loop is thought useless.
std::atomic<float> sink;

__attribute__((target("avx512f"))) void f32_products() {
  __m512 sums[kChains] = {};
  __m512 factor = _mm512_set1_ps(1e-9F);
  for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (__m512& sum : sums) {
      sum = _mm512_fmadd_ps(factor, factor, sum);
      asm volatile("" : "+v"(sum));
    }
  }
  for (const __m512& sum : sums) sink = sink + _mm512_reduce_add_ps(sum);
}

__attribute__((target("avx512f,avx512bf16"))) void bf16_products() {
  __m512 sums[kChains] = {};
  const __m512i bits = _mm512_set1_epi16(0x3000);
  __m512bh factor;
  std::memcpy(&factor, &bits, sizeof(factor));
  for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (__m512& sum : sums) {
      sum = _mm512_dpbf16_ps(sum, factor, factor);
      asm volatile("" : "+v"(sum));
    }
  }
  for (const __m512& sum : sums) sink = sink + _mm512_reduce_add_ps(sum);
}

__attribute__((target("avx512f,avx512vnni"))) void int8_products() {
  __m512i sums[kChains] = {};
  const __m512i factor = _mm512_set1_epi8(1);
  for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (__m512i& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, factor, factor);
      asm volatile("" : "+v"(sum));
    }
  }
  for (const __m512i& sum : sums) sink = sink + static_cast<float>(_mm512_reduce_add_epi32(sum));
}

__attribute__((target("avx512f"))) void read(const std::vector<std::byte>& bytes) {
  __m512i sum = _mm512_setzero_si512();
  for (std::size_t at = 0; at + 64 <= bytes.size(); at += 64) {
    sum = _mm512_xor_si512(sum, _mm512_loadu_si512(bytes.data() + at));
  }
  sink = sink + static_cast<float>(_mm512_reduce_add_epi32(sum));
}

// The shortest of several trials in which all threads work at once.
double seconds_of(int threads, const std::function<void(int)>& work) {
  double best = 1e9;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::barrier start(threads + 1);
    std::vector<std::jthread> workers;
    for (int thread = 0; thread < threads; ++thread) {
      workers.emplace_back([&, thread] {
        start.arrive_and_wait();
        work(thread);
      });
    }
    start.arrive_and_wait();
    const baton::TimePoint begin = baton::now();
    workers.clear();  // joins them
    best = std::min(best, baton::seconds(baton::now() - begin));
  }
  return best;
}

void print_products(const char* name, int threads, int products, void (*work)()) {
  const double operations = 2.0 * products * kChains * kSteps * threads;
  std::printf("%s %.1f\n", name, operations / seconds_of(threads, [&](int) { work(); }) / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 0;
  const std::string_view text = argc == 2 ? argv[1] : "";
  if (std::from_chars(text.data(), text.data() + text.size(), threads).ec != std::errc() || threads < 1) {
    std::fputs("usage: peaks THREADS\n", stderr);
    return 2;
  }
  if (!__builtin_cpu_supports("avx512f")) {
    std::fputs("peaks measures with AVX-512 only, which this processor has not\n", stderr);
    return 1;
  }
  print_products("f32_gflops", threads, 16, f32_products);
  if (__builtin_cpu_supports("avx512bf16")) print_products("bf16_gflops", threads, 32, bf16_products);
  if (__builtin_cpu_supports("avx512vnni")) print_products("int8_gflops", threads, 64, int8_products);
  const std::vector<std::vector<std::byte>> memory(static_cast<std::size_t>(threads),
                                                   std::vector<std::byte>(kReadBytes, std::byte{1}));
  const double seconds = seconds_of(threads, [&](int thread) { read(memory[static_cast<std::size_t>(thread)]); });
  std::printf("read_gbps %.1f\n", static_cast<double>(kReadBytes) * threads / seconds / 1e9);
  return 0;
}
