#include "handoff/codec.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <format>

#include "handoff/codec_kernels.h"

namespace baton::handoff {

namespace {

struct Format {
  std::string_view name;
  std::size_t block_values;
  std::size_t block_bytes;
};

// Indexed by DType.
constexpr std::array<Format, 6> kFormats = {
    {{"none", 1, 0}, {"f32", 1, 4}, {"f16", 1, 2}, {"bf16", 1, 2}, {"q8_0", 32, 34}, {"q4_0", 32, 18}}};

const Format& format_of(DType dtype) { return kFormats[static_cast<std::size_t>(dtype)]; }

// Values that go through the f32 buffer at once: small enough to stay in the first-level cache.
constexpr std::size_t kStepValues = 1024;

}  // namespace

std::string_view dtype_name(DType dtype) { return format_of(dtype).name; }

Result<DType> find_dtype(std::string_view name) {
  for (std::size_t i = 1; i < kFormats.size(); ++i) {
    if (kFormats[i].name == name) return static_cast<DType>(i);
  }
  return fail(ErrorCode::kInvalidArgument,
              std::format("'{}' is not a number format: f32, f16, bf16, q8_0 or q4_0", name));
}

std::size_t block_values(DType dtype) { return format_of(dtype).block_values; }

std::size_t encoded_size(DType dtype, std::size_t values) {
  return values / format_of(dtype).block_values * format_of(dtype).block_bytes;
}

Result<void> convert(DType from, ByteSpan source, DType to, std::span<std::byte> target) {
  const Format& source_format = format_of(from);
  const Format& target_format = format_of(to);
  if (source_format.block_bytes == 0 || target_format.block_bytes == 0) {
    return fail(ErrorCode::kInvalidArgument, "cannot convert from or to no number format");
  }
  const std::size_t values = source.size() / source_format.block_bytes * source_format.block_values;
  if (source.size() % source_format.block_bytes != 0 || values % target_format.block_values != 0 ||
      encoded_size(to, values) != target.size()) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("{} bytes of {} do not convert to {} bytes of {}", source.size(), source_format.name,
                            target.size(), target_format.name));
  }
  if (from == to) {
    if (!source.empty()) std::memcpy(target.data(), source.data(), source.size());
    return {};
  }

  const kernels::Kernels& kernels = kernels::best();
  alignas(64) std::array<float, kStepValues> buffer;
  for (std::size_t done = 0; done < values;) {
    const std::size_t count = std::min(kStepValues, values - done);
    const std::byte* in = source.data() + encoded_size(from, done);
    std::byte* out = target.data() + encoded_size(to, done);
    kernels.decode[static_cast<std::size_t>(from)](in, buffer.data(), count);
    kernels.encode[static_cast<std::size_t>(to)](buffer.data(), out, count);
    done += count;
  }
  return {};
}

}  // namespace baton::handoff
