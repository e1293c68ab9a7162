// Writes a GGUF file, version 3, without holding its tensors in memory.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "base/bytes.h"
#include "base/result.h"
#include "model/gguf.h"

namespace baton::model {

// First state keys and tensors, then begin(), then write the data of all tensors in the order they were added, in
// pieces of any size, then finish(). The file appears under its name at finish() and not before; a writer destroyed
// earlier leaves nothing. Not thread-safe.
class GgufWriter {
 public:
  // T is bool, an integer of 8 to 64 bits, float, double or std::string_view.
  template <typename T>
  void set(std::string_view key, T value);
  template <typename T>
  void set_array(std::string_view key, std::span<const T> values);
  void set_strings(std::string_view key, std::span<const std::string> values);

  // `shape` has 1 to 4 dimensions, the fastest first; a row must be whole blocks.
  Result<void> add_tensor(std::string_view name, TensorType type, std::span<const std::uint64_t> shape);

  // The bytes of all tensors with their padding, to compare with the free space.
  std::uint64_t data_bytes() const { return next_offset_; }

  Result<void> begin(const std::filesystem::path& path);
  Result<void> write(ByteSpan part);
  // kInternal when the data written are not what the tensors need; kIo when the disk refuses.
  Result<void> finish();

  // The header alone, as begin() writes it: metadata, tensor table and padding.
  Bytes header() const;

 private:
  struct Tensor {
    std::uint64_t offset;  // in the data section
    std::uint64_t bytes;
  };

  void start_value(std::string_view key);

  ByteWriter values_;
  std::uint64_t value_count_ = 0;
  ByteWriter infos_;
  std::vector<Tensor> tensors_;
  std::uint64_t next_offset_ = 0;

  std::optional<AtomicFile> file_;
  std::size_t current_ = 0;    // the tensor being written
  std::uint64_t written_ = 0;  // bytes of the data section written so far
};

}  // namespace baton::model
