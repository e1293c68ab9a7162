// Any bytes as the header of a kept text, with their checksum made right: either refused, or a text that can be used.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "node/kept_file.h"

namespace {

using namespace baton;
using namespace baton::node;

void check(bool promise) {
  if (!promise) std::abort();
}

KeptShape shape_of(std::uint32_t state_bytes, std::uint32_t window) {
  return {.model = {},
          .computed_by = "here",
          .cache_type = "f16",
          .vocabulary_size = 1000,
          .layers = {{.k_row_bytes = 64, .v_row_bytes = 64, .state_bytes = 0, .window = window},
                     {.k_row_bytes = 0, .v_row_bytes = 0, .state_bytes = state_bytes, .window = 0}}};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteSpan body = std::as_bytes(std::span(data, size));
  Bytes bytes(body.begin(), body.end());
  const std::uint64_t sum = checksum(bytes);
  const ByteSpan sum_bytes = std::as_bytes(std::span(&sum, 1));
  bytes.insert(bytes.end(), sum_bytes.begin(), sum_bytes.end());
  std::uint64_t file_bytes = 0;
  constexpr std::size_t kFileBytesAt = 16;
  if (bytes.size() >= kFileBytesAt + sizeof(file_bytes)) {
    std::memcpy(&file_bytes, bytes.data() + kFileBytesAt, sizeof(file_bytes));
  }
  for (const KeptShape& shape : {shape_of(0, 0), shape_of(128, 32)}) {
    const auto header = parse_kept_header(shape, bytes, file_bytes);
    if (!header) continue;
    const auto tokens = static_cast<std::uint32_t>(header->text.tokens.size());
    check(bytes.size() < file_bytes);
    check(last_position_to_continue(*header, tokens) <= tokens);
    check(is_kept_file_name(kept_file_name(header->text)));
  }
  return 0;
}
