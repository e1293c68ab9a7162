#include "plan/device_profiles.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <format>
#include <string>

namespace baton::plan {

namespace {

// Effective rates are fitted to the published row of each machine alone, Llama-3.1-8B in F16, 8,192 tokens read and 32
// written: 131.94 TFLOP in 1.47 s and in 5.57 s; 31 steps of 498.5 GB together in 2.87 s and in 0.85 s.
constexpr std::string_view kRow = "https://blog.exolabs.net/nvidia-dgx-spark";
constexpr double kSparkCompute = 131.94 / 1.47 / 100;
constexpr double kSparkMemory = 498.5 / 2.87 / 273;
constexpr double kM3UltraCompute = 131.94 / 5.57 / 26;
constexpr double kM3UltraMemory = 498.5 / 0.85 / 819;

constexpr std::string_view kFittedRow = "fitted to that machine's own row of https://blog.exolabs.net/nvidia-dgx-spark";
constexpr std::string_view kAsSpark = "assumed to be the DGX Spark's: no measurement was fitted";
constexpr std::string_view kAsM3Ultra = "assumed to be the M3 Ultra's: no measurement was fitted";
// Metal's recommendedMaxWorkingSetSize of large machines.
constexpr std::string_view kMetalLimit =
    "three quarters, what Metal recommends "
    "(https://stencel.io/posts/apple-silicon-limitations-with-usage-on-local-llm%20.html)";
constexpr std::string_view kOwnMemory = "assumed: 5% for driver and display";
constexpr std::string_view kSystemMemory = "assumed: a tenth for the system";

// Measured by us on two Zen 5 cores (docs/performance.md): 273 GFLOPS of F32 products a core at best, of which a
// prefill of an F16 model of 1.1 G weights (112.8 tokens/s, 2.3 GFLOP a token) reached 0.26 TFLOPS; decoding it (18.6
// tokens/s, 2.2 GB a token) read 41 of 50 GB/s.
constexpr std::string_view kZen5 = "measured by us on two Zen 5 cores, docs/performance.md";
constexpr double kZen5CoreTeraflops = 0.273;
constexpr double kZen5Compute = 0.26 / (2 * kZen5CoreTeraflops);
constexpr double kZen5Memory = 41.0 / 50;

constexpr std::array kProfiles = {
    DeviceProfile{"spark", "NVIDIA DGX Spark (GB10)", 100, 273, kSparkCompute, kSparkMemory, 128, 0.9, kRow, kFittedRow,
                  kSystemMemory},
    DeviceProfile{"m3ultra", "Apple M3 Ultra, 80 GPU cores, 512 GB", 26, 819, kM3UltraCompute, kM3UltraMemory, 512,
                  0.75, kRow, kFittedRow, kMetalLimit},
    DeviceProfile{"m4max", "Apple M4 Max, 40 GPU cores, 128 GB", 18.03, 546, kM3UltraCompute, kM3UltraMemory, 128, 0.75,
                  "F32 rate of exo's table of devices (https://github.com/exo-explore/exo); memory: "
                  "https://techmoran.com/2024/10/31/apple-unveils-its-most-powerful-chips-the-m4-pro-and-m4-max/",
                  kAsM3Ultra, kMetalLimit},
    DeviceProfile{"m4pro", "Apple M4 Pro, 16 GPU cores, 64 GB", 6.02, 273, kM3UltraCompute, kM3UltraMemory, 64, 0.75,
                  "https://hmc-tech.com/gpu/apple-8-core-m4-fl-vs-apple-16-core-m4-pro; memory: "
                  "https://techmoran.com/2024/10/31/apple-unveils-its-most-powerful-chips-the-m4-pro-and-m4-max/",
                  kAsM3Ultra, kMetalLimit},
    DeviceProfile{"strix-halo", "AMD Ryzen AI Max+ 395 (Radeon 8060S), 128 GB", 59.4, 256, 36.9 / 59.4, 212.0 / 256,
                  128, 110.0 / 128, "https://llm-tracker.info/_TOORG/Strix-Halo",
                  "products of large matrices and a copy of memory, not a model: "
                  "https://llm-tracker.info/_TOORG/Strix-Halo",
                  "the 110 GB given to the GPU there: https://llm-tracker.info/_TOORG/Strix-Halo"},
    // GeForce: F16 with F32 sums is half of F16 with F16 sums.
    DeviceProfile{"rtx3090", "NVIDIA GeForce RTX 3090, 24 GB", 71, 936, kSparkCompute, kSparkMemory, 24, 0.95,
                  "half of the 142 TFLOPS of F16 in "
                  "https://holynerdvana.blogspot.com/2022/10/nvidia-geforce-rtx-3090-specifications.html",
                  kAsSpark, kOwnMemory},
    DeviceProfile{"rtx4090", "NVIDIA GeForce RTX 4090, 24 GB", 165.15, 1008, kSparkCompute, kSparkMemory, 24, 0.95,
                  "https://waredb.com/processor/nvidia-geforce-rtx-4090", kAsSpark, kOwnMemory},
    DeviceProfile{"rtx5090", "NVIDIA GeForce RTX 5090, 32 GB", 209.6, 1792, kSparkCompute, kSparkMemory, 32, 0.95,
                  "a quarter (dense, F32 sums) of the 838.4 TFLOPS of F16 in "
                  "https://www.spheron.network/blog/nvidia-rtx-5090-specs/",
                  kAsSpark, kOwnMemory},
    DeviceProfile{"h100", "NVIDIA H100 SXM, 80 GB", 989.4, 3350, kSparkCompute, kSparkMemory, 80, 0.95,
                  "https://glennklockwood.com/garden/processors/h100", kAsSpark, kOwnMemory},
    DeviceProfile{"cpu-2", "2 Zen 5 cores of a server, 16 GB", 2 * kZen5CoreTeraflops, 50, kZen5Compute, kZen5Memory,
                  16, 0.9, kZen5, kZen5, kSystemMemory},
    DeviceProfile{"cpu-16", "16 Zen 5 cores, two channels of DDR5-5600, 64 GB", 16 * kZen5CoreTeraflops, 89.6,
                  kZen5Compute, kZen5Memory, 64, 0.9, "our core's rate times 16; 2 x 8 bytes x 5.6 GT/s",
                  "assumed to be what we measured on two Zen 5 cores", kSystemMemory},
    DeviceProfile{"cpu-64", "64 Zen 5 cores, twelve channels of DDR5-6000, 384 GB", 64 * kZen5CoreTeraflops, 576,
                  kZen5Compute, kZen5Memory, 384, 0.9, "our core's rate times 64; 12 x 8 bytes x 6 GT/s",
                  "assumed to be what we measured on two Zen 5 cores", kSystemMemory},
};

// Ethernet frames of 1500 bytes carry 1448 of payload in 1538 on the wire; a latency within a room.
constexpr double kEthernetPayload = 1448.0 / 1538;
constexpr double kEthernetLatencySeconds = 0.1e-3;
constexpr std::string_view kEthernet = "IEEE 802.3 rate, frames of 1500 bytes with TCP headers; latency assumed";

constexpr LinkProfile ethernet(std::string_view name, double gigabits) {
  return {name, gigabits * 1e9 / 8 * kEthernetPayload, kEthernetLatencySeconds, kEthernet};
}

constexpr std::array kLinks = {ethernet("1gbe", 1),    ethernet("2.5gbe", 2.5), ethernet("5gbe", 5),
                               ethernet("10gbe", 10),  ethernet("25gbe", 25),   ethernet("100gbe", 100),
                               ethernet("200gbe", 200)};

template <typename Profiles>
std::string names_of(const Profiles& profiles) {
  std::string names;
  for (const auto& profile : profiles) names += (names.empty() ? "" : ", ") + std::string(profile.name);
  return names;
}

std::optional<double> positive(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0) || value > 1e6) return std::nullopt;
  return value;
}

}  // namespace

Device DeviceProfile::device(std::uint16_t node) const {
  Device device;
  device.name = name;
  device.node = node;
  device.flops_per_second = peak_teraflops * 1e12 * compute_efficiency;
  device.bytes_per_second = peak_gigabytes_per_second * 1e9 * memory_efficiency;
  device.memory_bytes = memory_gigabytes * 1e9 * usable_memory;
  return device;
}

std::span<const DeviceProfile> device_profiles() { return kProfiles; }

Result<DeviceProfile> find_device_profile(std::string_view name) {
  const auto found = std::ranges::find(kProfiles, name, &DeviceProfile::name);
  if (found != kProfiles.end()) return *found;
  return fail(ErrorCode::kNotFound,
              std::format("no profile of a device '{}'; there are {}", name, names_of(kProfiles)));
}

std::span<const LinkProfile> link_profiles() { return kLinks; }

Result<LinkProfile> find_link_profile(std::string_view text) {
  if (const auto found = std::ranges::find(kLinks, text, &LinkProfile::name); found != kLinks.end()) return *found;
  const std::size_t colon = text.find(':');
  const auto gigabits = positive(text.substr(0, colon));
  const auto latency_ms = colon == std::string_view::npos ? std::optional(0.0) : positive(text.substr(colon + 1));
  if (!gigabits || *gigabits == 0 || !latency_ms) {
    return fail(
        ErrorCode::kInvalidArgument,
        std::format("'{}' is no link: give GBIT[:LATENCY_MS], such as 10:0.2, or one of {}", text, names_of(kLinks)));
  }
  return LinkProfile{"given", *gigabits * 1e9 / 8, *latency_ms / 1e3, "given"};
}

}  // namespace baton::plan
