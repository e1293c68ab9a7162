// How fast this machine's memory can be read, by loops that do nothing else: what generation is held against.
// Usage: read_loop MIB THREADS; one line of JSON, the best of several rounds of each loop, in GB/s.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "base/memory.h"

namespace {

constexpr std::size_t kLine = 64;
constexpr int kRounds = 6;

// Eight sums at a time, so that the processor waits for memory and for nothing else.
using Lanes = std::uint64_t __attribute__((vector_size(kLine)));

std::uint64_t read(const std::byte* from, const std::byte* end, std::size_t ahead) {
  Lanes sums[4] = {};
  for (; from + 4 * kLine <= end; from += 4 * kLine) {
    for (std::size_t line = 0; line < 4; ++line) {
      if (ahead != 0) __builtin_prefetch(from + line * kLine + ahead);
      sums[line] ^= *reinterpret_cast<const Lanes*>(from + line * kLine);
    }
  }
  const Lanes all = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
  return all[0] ^ all[7];
}

double best_rate(const std::vector<std::byte>& memory, unsigned threads, std::size_t ahead) {
  double best = 0;
  std::vector<std::uint64_t> results(threads);
  const auto* begin = memory.data() + (kLine - reinterpret_cast<std::uintptr_t>(memory.data()) % kLine) % kLine;
  const std::size_t share = (memory.size() - kLine) / threads / kLine * kLine;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    {
      std::vector<std::jthread> readers;
      for (unsigned thread = 1; thread < threads; ++thread) {
        readers.emplace_back(
            [&, thread] { results[thread] = read(begin + thread * share, begin + (thread + 1) * share, ahead); });
      }
      results[0] = read(begin, begin + share, ahead);
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(share * threads) / took.count() / 1e9);
  }
  // What nobody looks at, a compiler need not read.
  for (const std::uint64_t result : results) {
    if (result == 1) std::fputs("", stderr);
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const long mebibytes = argc == 3 ? std::atol(argv[1]) : 0;
  const long threads = argc == 3 ? std::atol(argv[2]) : 0;
  if (mebibytes < 1 || mebibytes > 1 << 20 || threads < 1 || threads > 1024) {
    std::fputs("usage: read_loop MIB THREADS\n", stderr);
    return 2;
  }
  std::vector<std::byte> memory;
  memory.reserve(static_cast<std::size_t>(mebibytes) << 20U);
  baton::advise_large_pages({memory.data(), memory.capacity()});
  memory.resize(memory.capacity(), std::byte{1});
  std::printf("{\"plain\":%.2f,\"prefetch_1k\":%.2f,\"prefetch_4k\":%.2f}\n",
              best_rate(memory, static_cast<unsigned>(threads), 0),
              best_rate(memory, static_cast<unsigned>(threads), 1024),
              best_rate(memory, static_cast<unsigned>(threads), 4096));
}
