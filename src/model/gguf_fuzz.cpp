// Feeds arbitrary bytes to the GGUF reader and, where it accepts them, to all that reads what it promised.
#include <cstdint>
#include <cstdlib>

#include "model/gguf.h"
#include "model/vocabulary.h"

namespace {

using baton::model::GgufFile;

void check(bool promise) {
  if (!promise) std::abort();
}

template <typename T>
void read_key(const GgufFile& file, std::string_view key) {
  static_cast<void>(file.get<T>(key));
  static_cast<void>(file.get_array<T>(key));
  static_cast<void>(file.get_per_layer<T>(key, 3));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const baton::ByteSpan bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto file = GgufFile::parse(bytes, "fuzz");
  if (!file) {
    check(!file.error().message.empty());
    return 0;
  }
  for (const std::string_view key : file->keys()) {
    check(file->has(key));
    read_key<bool>(*file, key);
    read_key<std::int8_t>(*file, key);
    read_key<std::uint64_t>(*file, key);
    read_key<double>(*file, key);
    read_key<std::string_view>(*file, key);
  }
  volatile unsigned sum = 0;  // so that the bytes are really read
  for (const auto& info : file->tensors()) {
    check(file->find_tensor(info.name) == &info);
    for (const std::byte byte : file->tensor_bytes(info)) sum = sum + std::to_integer<unsigned>(byte);
  }
  static_cast<void>(baton::model::read_vocabulary(*file));
  return 0;
}
