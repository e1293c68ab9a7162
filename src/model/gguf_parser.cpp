// Everything that is checked of a GGUF file before anyone uses it. Counts and lengths are compared with the bytes left
// before anything is allocated for them, so a file can make us use no more memory than a few times its own size.
#include <algorithm>
#include <bit>
#include <format>
#include <limits>
#include <numeric>

#include "model/gguf.h"

namespace baton::model {

namespace {

constexpr std::uint32_t kMagic = 0x46554747;   // "GGUF"
constexpr std::uint64_t kMaxKeyBytes = 65535;  // both limits are the specification's
constexpr std::uint64_t kMaxTensorNameBytes = 64;
constexpr std::uint64_t kMinAlignment = 8;
constexpr std::uint64_t kMaxAlignment = 1 << 20;
constexpr int kMaxArrayDepth = 4;
// The fewest bytes a key with its value, and an entry of the tensor table, can have.
constexpr std::uint64_t kMinKeyBytes = 8 + 4 + 1;
constexpr std::uint64_t kMinTensorInfoBytes = 8 + 4 + 4 + 8;

// Size of a value of fixed size; 0 for strings and arrays; nullopt for a type that does not exist.
std::optional<std::uint64_t> fixed_size(std::uint32_t type) {
  switch (static_cast<ValueType>(type)) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool: return 1;
    case ValueType::kU16:
    case ValueType::kI16: return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32: return 4;
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64: return 8;
    case ValueType::kString:
    case ValueType::kArray: return 0;
  }
  return std::nullopt;
}

// A name out of the file for an error message: no control characters, no more than a line.
std::string shown(std::string_view name) {
  constexpr std::size_t kMaxShown = 80;
  std::string text;
  for (const char c : name.substr(0, kMaxShown)) text += c >= ' ' && c <= '~' ? c : '?';
  if (name.size() > kMaxShown) text += "...";
  return text;
}

// 912384 -> "912,384"
std::string grouped(std::uint64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

bool multiply_overflows(std::uint64_t a, std::uint64_t b, std::uint64_t& product) {
  return __builtin_mul_overflow(a, b, &product);
}

}  // namespace

class GgufParser {
 public:
  GgufParser(GgufFile& file) : file_(file), reader_(file.bytes_) {}

  Result<void> run() {
    TRY(read_start());
    for (std::uint64_t i = 0; i < key_count_; ++i) TRY(read_key(i));
    TRY(read_alignment());
    for (std::uint64_t i = 0; i < tensor_count_; ++i) TRY(read_tensor_info(i));
    return place_tensors();
  }

 private:
  std::unexpected<Error> corrupt(std::string message) const {
    return file_.error(ErrorCode::kCorrupt, std::move(message));
  }
  std::unexpected<Error> cut_short(std::string_view what) const {
    return corrupt(std::format("{} goes beyond the end of the file at byte {}: it is cut short or damaged", what,
                               grouped(file_.bytes_.size())));
  }

  template <typename T>
  Result<T> read(std::string_view what) {
    auto value = reader_.read<T>();
    if (!value) return cut_short(what);
    return *value;
  }

  Result<std::string_view> read_string(std::string_view what) {
    auto text = reader_.read_string<std::uint64_t>();
    if (!text) return cut_short(what);
    return *text;
  }

  Result<void> read_start() {
    if (file_.bytes_.empty()) return corrupt("is empty (0 bytes): nothing of the model was downloaded");
    const auto magic = reader_.read<std::uint32_t>();
    if (!magic || *magic != kMagic) {
      if (magic && std::byteswap(*magic) == kMagic) return big_endian();
      return corrupt("is not a GGUF file: it does not begin with 'GGUF'");
    }
    file_.version_ = TRY(read<std::uint32_t>("the header"));
    const std::uint32_t version = file_.version_;
    if (version != 2 && version != 3) {
      // A version is a small number: where only its high half is set, its bytes stand the other way round.
      if (version != 0 && (version & 0xFFFF) == 0) return big_endian();
      return file_.error(
          ErrorCode::kUnsupported,
          std::format("is GGUF version {}, but versions 2 and 3 are supported: convert the model anew", version));
    }
    tensor_count_ = TRY(read<std::uint64_t>("the header"));
    key_count_ = TRY(read<std::uint64_t>("the header"));
    if (key_count_ > reader_.remaining() / kMinKeyBytes) {
      return too_few_bytes_for(key_count_, "keys");
    }
    if (tensor_count_ > reader_.remaining() / kMinTensorInfoBytes) {
      return too_few_bytes_for(tensor_count_, "tensors");
    }
    return {};
  }

  std::unexpected<Error> too_few_bytes_for(std::uint64_t count, std::string_view what) const {
    return corrupt(std::format("has {} bytes, too few for the {} {} that it states: it is cut short or damaged",
                               grouped(file_.bytes_.size()), grouped(count), what));
  }

  std::unexpected<Error> big_endian() const {
    return file_.error(ErrorCode::kUnsupported,
                       "is a big-endian GGUF file, and only little-endian ones are supported: convert the model anew");
  }

  Result<void> read_key(std::uint64_t index) {
    const std::string_view key = TRY(read_string(std::format("the name of key {}", index)));
    const std::string what = std::format("key '{}'", shown(key));
    if (key.empty() || key.size() > kMaxKeyBytes) {
      return corrupt(std::format("the name of key {} has {} bytes, but 1 to {} are allowed", index, grouped(key.size()),
                                 grouped(kMaxKeyBytes)));
    }
    const auto type = TRY(read<std::uint32_t>(what));
    GgufFile::Value value{
        .type = static_cast<ValueType>(type), .element_type = static_cast<ValueType>(type), .count = 1, .content = {}};
    std::size_t start = reader_.position();
    if (value.type == ValueType::kArray) {
      const auto element_type = TRY(read<std::uint32_t>(what));
      value.count = TRY(read<std::uint64_t>(what));
      value.element_type = static_cast<ValueType>(element_type);
      start = reader_.position();
      TRY(skip(element_type, value.count, what, 1));
    } else {
      TRY(skip(type, 1, what, 0));
    }
    value.content = file_.bytes_.subspan(start, reader_.position() - start);
    if (!file_.values_.emplace(key, value).second) return corrupt(std::format("{} appears twice", what));
    file_.keys_.push_back(key);
    return {};
  }

  // Passes over `count` values of a type, checking each.
  Result<void> skip(std::uint32_t type, std::uint64_t count, std::string_view what, int depth) {
    const auto size = fixed_size(type);
    if (!size) return corrupt(std::format("{} has the unknown value type {}", what, type));
    // A string is at least its length, an array its type and count.
    const std::uint64_t least = *size != 0 ? *size : type == static_cast<std::uint32_t>(ValueType::kString) ? 8 : 12;
    if (count > reader_.remaining() / least) {
      return corrupt(
          std::format("{} needs {} elements, but only {} bytes are left in the file: it is cut short or damaged", what,
                      grouped(count), grouped(reader_.remaining())));
    }
    if (*size != 0) {
      const ByteSpan content = TRY(reader_.read_bytes(count * *size));
      const auto is_bool = [](std::byte byte) { return std::to_integer<unsigned>(byte) <= 1; };
      if (type == static_cast<std::uint32_t>(ValueType::kBool) && !std::ranges::all_of(content, is_bool)) {
        return corrupt(std::format("{} has a bool that is neither 0 nor 1", what));
      }
      return {};
    }
    if (type == static_cast<std::uint32_t>(ValueType::kString)) {
      for (std::uint64_t i = 0; i < count; ++i) TRY(read_string(what));
      return {};
    }
    if (depth >= kMaxArrayDepth) return corrupt(std::format("{} nests arrays deeper than {}", what, kMaxArrayDepth));
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto element_type = TRY(read<std::uint32_t>(what));
      const auto elements = TRY(read<std::uint64_t>(what));
      TRY(skip(element_type, elements, what, depth + 1));
    }
    return {};
  }

  Result<void> read_alignment() {
    file_.alignment_ = TRY(file_.get_or<std::uint64_t>("general.alignment", 32));
    const std::uint64_t alignment = file_.alignment_;
    if (!std::has_single_bit(alignment) || alignment < kMinAlignment || alignment > kMaxAlignment) {
      return corrupt(std::format("key 'general.alignment' is {}, but must be a power of two from {} to {}",
                                 grouped(alignment), kMinAlignment, grouped(kMaxAlignment)));
    }
    return {};
  }

  Result<void> read_tensor_info(std::uint64_t index) {
    const std::string_view name = TRY(read_string(std::format("the name of tensor {}", index)));
    if (name.empty() || name.size() > kMaxTensorNameBytes) {
      return corrupt(std::format("the name of tensor {} has {} bytes, but 1 to {} are allowed", index,
                                 grouped(name.size()), kMaxTensorNameBytes));
    }
    const std::string what = std::format("tensor '{}'", shown(name));
    TensorInfo info;
    info.name = name;
    info.dimensions = TRY(read<std::uint32_t>(what));
    if (info.dimensions > kMaxTensorDimensions) {
      return corrupt(
          std::format("{} has {} dimensions, but at most {} are allowed", what, info.dimensions, kMaxTensorDimensions));
    }
    std::uint64_t elements = 1;
    for (std::uint32_t i = 0; i < info.dimensions; ++i) {
      info.shape[i] = TRY(read<std::uint64_t>(what));
      if (info.shape[i] == 0) return corrupt(std::format("dimension {} of {} is 0", i, what));
      if (multiply_overflows(elements, info.shape[i], elements) ||
          elements > std::numeric_limits<std::int64_t>::max()) {
        return corrupt(std::format("{} has more elements than can be counted", what));
      }
    }
    const auto type_number = TRY(read<std::uint32_t>(what));
    const auto type = find_tensor_type(type_number);
    if (!type) {
      return file_.error(ErrorCode::kUnsupported,
                         std::format("{} has the unknown or withdrawn type {}", what, type_number));
    }
    info.type = type->type;
    if (info.shape[0] % type->block_size != 0) {
      return corrupt(std::format("{} has rows of {} elements, which are no whole blocks of {} ({})", what,
                                 grouped(info.shape[0]), type->block_size, type->name));
    }
    if (multiply_overflows(elements / type->block_size, type->block_bytes, info.bytes)) {
      return corrupt(std::format("{} has more bytes than can be counted", what));
    }
    info.offset = TRY(read<std::uint64_t>(what));
    if (info.offset % file_.alignment_ != 0) {
      return corrupt(std::format("{} begins at byte {} of the data, which is no multiple of the alignment {}", what,
                                 grouped(info.offset), file_.alignment_));
    }
    if (!file_.tensor_index_.emplace(name, file_.tensors_.size()).second)
      return corrupt(std::format("{} appears twice", what));
    file_.tensors_.push_back(std::move(info));
    return {};
  }

  // Turns offsets in the data section into offsets in the file, now that its begin is known.
  Result<void> place_tensors() {
    const std::uint64_t size = file_.bytes_.size();
    const std::uint64_t aligned = (reader_.position() + file_.alignment_ - 1) / file_.alignment_ * file_.alignment_;
    file_.data_begin_ = std::min(aligned, size);
    for (TensorInfo& info : file_.tensors_) {
      std::uint64_t end = 0;
      if (__builtin_add_overflow(info.offset, aligned, &info.offset) ||
          __builtin_add_overflow(info.offset, info.bytes, &end)) {
        return corrupt(std::format("tensor '{}' lies beyond any file's end", shown(info.name)));
      }
      if (end > size) {
        return corrupt(std::format("tensor '{}' ends at byte {} but the file has {}: the download is incomplete",
                                   shown(info.name), grouped(end), grouped(size)));
      }
    }
    return check_overlap();
  }

  Result<void> check_overlap() const {
    std::vector<std::size_t> order(file_.tensors_.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::sort(order, {}, [&](std::size_t i) { return file_.tensors_[i].offset; });
    for (std::size_t i = 1; i < order.size(); ++i) {
      const TensorInfo& before = file_.tensors_[order[i - 1]];
      const TensorInfo& after = file_.tensors_[order[i]];
      if (before.offset + before.bytes > after.offset) {
        return corrupt(std::format("tensors '{}' and '{}' overlap at byte {}", shown(before.name), shown(after.name),
                                   grouped(after.offset)));
      }
    }
    return {};
  }

  GgufFile& file_;
  ByteReader reader_;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t key_count_ = 0;
};

Result<GgufFile> GgufFile::parse(ByteSpan bytes, std::string name) {
  GgufFile file;
  file.name_ = std::move(name);
  file.bytes_ = bytes;
  TRY(GgufParser(file).run());
  return file;
}

}  // namespace baton::model
