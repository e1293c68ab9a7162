// A GGUF file, versions 2 and 3, read without trusting a byte of it.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "base/result.h"
#include "model/tensor_type.h"

namespace baton::model {

// The types of metadata values, with the numbers of the specification.
enum class ValueType : std::uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

inline constexpr std::uint32_t kMaxTensorDimensions = 4;

struct TensorInfo {
  std::string name;
  TensorType type = TensorType::kF32;
  // Elements along each dimension, the fastest first, so [0] is a row's length; unused dimensions are 1. None is 0,
  // and the product of all fits in 63 bits.
  std::array<std::uint64_t, kMaxTensorDimensions> shape{1, 1, 1, 1};
  std::uint32_t dimensions = 0;  // how many the file states
  std::uint32_t part = 0;        // which file of a split model
  std::uint64_t offset = 0;      // of the first byte, from the start of that file; a multiple of the alignment
  std::uint64_t bytes = 0;

  std::uint64_t elements() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
};

// An open GGUF file: its metadata by key and its tensors by name. A model split into several files
// ("name-00001-of-00003.gguf") is opened by its first and then looks like one.
//
// Opening checks all there is: after success every key, string and array lies inside the file, keys and tensor names
// are unique, every tensor has a known type, whole blocks, and a byte range inside the file that overlaps no other.
// Meaning (is this head count plausible?) is for the reader of a key. Immutable and safe to read from any thread.
// Every error names the file (in its context) and the key or tensor: kCorrupt for a file that contradicts itself or is
// cut short, kUnsupported for a version, byte order or type that this build does not read, kNotFound for a missing key.
// Spans and string_views borrow from the mapping and live as long as the GgufFile (moving it keeps them valid).
class GgufFile {
 public:
  // Opens all parts of a split model. A part that is missing, another model's, cut short or there twice is an error
  // that names it; so is opening any part but the first.
  static Result<GgufFile> open(const std::filesystem::path& path);
  // Reads a file that is in memory already and stays there; `name` is used in errors.
  static Result<GgufFile> parse(ByteSpan bytes, std::string name);

  const std::string& name() const { return name_; }
  std::uint32_t version() const { return version_; }
  std::uint64_t alignment() const { return alignment_; }
  // One for a file that is whole.
  std::size_t part_count() const { return 1 + others_.size(); }
  ByteSpan part_bytes(std::size_t part) const { return part == 0 ? bytes_ : others_[part - 1].bytes_; }
  std::filesystem::path part_path(std::size_t part) const { return part == 0 ? name_ : others_[part - 1].name_; }
  // The whole (first) file, and the part after the header that holds the tensors.
  ByteSpan bytes() const { return bytes_; }
  ByteSpan tensor_section() const { return bytes_.subspan(data_begin_); }

  bool has(std::string_view key) const { return values_.contains(key); }
  // A value's type, kArray for arrays; nullopt where the key is missing.
  std::optional<ValueType> type_of(std::string_view key) const;
  // All keys in file order.
  std::span<const std::string_view> keys() const { return keys_; }

  // A scalar. T is bool, an integer of 8 to 64 bits, float, double or std::string_view.
  // Any integer type is accepted for an integer where the value fits, F32 and F64 for either float type; bool and
  // strings only for themselves. A missing key is kNotFound, another type or a value that does not fit kCorrupt.
  template <typename T>
  Result<T> get(std::string_view key) const;
  // The same, but `fallback` for a missing key. A present key of the wrong type is still an error.
  template <typename T>
  Result<T> get_or(std::string_view key, T fallback) const {
    if (!has(key)) return fallback;
    return get<T>(key);
  }
  // The same, but nullopt for a missing key.
  template <typename T>
  Result<std::optional<T>> find(std::string_view key) const {
    if (!has(key)) return std::nullopt;
    return TRY(get<T>(key));
  }

  // The number of elements of an array; kCorrupt where the value is none.
  Result<std::uint64_t> array_size(std::string_view key) const;
  // A whole array, each element converted as get() does. At most eight times the array's bytes in memory.
  template <typename T>
  Result<std::vector<T>> get_array(std::string_view key) const;
  // What some files state once for all layers and others per layer (head counts): a scalar repeated `count` times, or
  // an array of exactly `count` elements.
  template <typename T>
  Result<std::vector<T>> get_per_layer(std::string_view key, std::uint32_t count) const;

  // In file order.
  std::span<const TensorInfo> tensors() const { return tensors_; }
  // nullptr where there is none of that name. The pointer lives as long as the GgufFile is not moved from.
  const TensorInfo* find_tensor(std::string_view tensor_name) const;
  // The tensor's data in the mapping, exactly info.bytes long. `info` must come from this file.
  ByteSpan tensor_bytes(const TensorInfo& info) const { return part_bytes(info.part).subspan(info.offset, info.bytes); }
  // Tells the system that these mapped bytes are not needed soon (they are read again from the file if touched).
  void release(ByteSpan part) const;

  // An error about this file, for readers of its keys: fail(kCorrupt, ...) with the file as context.
  std::unexpected<Error> error(ErrorCode code, std::string message) const {
    return fail(code, std::move(message), name_);
  }

 private:
  friend class GgufParser;

  struct Value {
    ValueType type = ValueType::kU8;          // kArray for arrays
    ValueType element_type = ValueType::kU8;  // of an array; else the same as `type`
    std::uint64_t count = 1;                  // elements of an array
    ByteSpan content;  // the scalar's or the elements' bytes; a string's with its length before it
  };

  GgufFile() = default;
  static Result<GgufFile> open_one(const std::filesystem::path& path);
  Result<void> open_other_parts(const std::filesystem::path& path);
  Result<void> take_tensors_of(GgufFile part);
  std::string_view name_of_tensor(std::string_view tensor_name) const;
  Result<const Value*> find_value(std::string_view key) const;

  std::string name_;
  std::optional<MappedFile> file_;
  ByteSpan bytes_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = 32;
  std::uint64_t data_begin_ = 0;
  std::vector<std::string_view> keys_;
  std::unordered_map<std::string_view, Value> values_;
  std::vector<GgufFile> others_;  // the parts after the first
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, std::size_t> tensor_index_;  // views of the names inside the file's bytes
};

}  // namespace baton::model
