// Models split into several files, as llama.cpp's gguf-split writes them: keys split.no (from 0), split.count and
// split.tensors.count in each, all other keys in the first, and names that end in "-00001-of-00003.gguf".
#include <format>
#include <utility>

#include "model/gguf.h"

namespace baton::model {

namespace {

constexpr std::uint32_t kMaxParts = 10'000;

std::string name_ending(std::uint32_t part, std::uint32_t count) {
  return std::format("-{:05}-of-{:05}.gguf", part + 1, count);
}

}  // namespace

Result<GgufFile> GgufFile::open_one(const std::filesystem::path& path) {
  MappedFile mapped = TRY(MappedFile::open(path));
  GgufFile file = TRY(parse(mapped.bytes(), path.string()));
  file.file_ = std::move(mapped);
  return file;
}

Result<GgufFile> GgufFile::open(const std::filesystem::path& path) {
  GgufFile file = TRY(open_one(path));
  TRY(file.open_other_parts(path));
  return file;
}

Result<void> GgufFile::open_other_parts(const std::filesystem::path& path) {
  const auto count = TRY(get_or<std::uint32_t>("split.count", 0));
  if (count <= 1) return {};
  if (count > kMaxParts) return error(ErrorCode::kCorrupt, std::format("states that it has {} parts", count));
  const auto number = TRY(get<std::uint32_t>("split.no"));
  const std::string text = path.string();
  const std::string ending = name_ending(number, count);
  if (number >= count || !text.ends_with(ending)) {
    return error(ErrorCode::kCorrupt,
                 std::format("is part {} of {}, and the parts find each other by name: this one must end in '{}'",
                             std::uint64_t{number} + 1, count, ending));
  }
  const std::string stem = text.substr(0, text.size() - ending.size());
  if (number != 0) {
    return error(ErrorCode::kInvalidArgument, std::format("is part {} of {}: open the first, '{}'", number + 1, count,
                                                          stem + name_ending(0, count)));
  }
  const auto promised = TRY(get<std::uint64_t>("split.tensors.count"));
  for (std::uint32_t index = 1; index < count; ++index) {
    const std::string part_name = stem + name_ending(index, count);
    auto part = open_one(part_name);
    if (!part && part.error().code == ErrorCode::kNotFound) {
      return error(ErrorCode::kNotFound, std::format("part {} of {} is missing: '{}' must lie beside the first",
                                                     index + 1, count, part_name));
    }
    if (!part) return std::unexpected(part.error());
    const auto its_number = TRY(part->get<std::uint32_t>("split.no"));
    const auto its_count = TRY(part->get<std::uint32_t>("split.count"));
    const auto its_promise = TRY(part->get<std::uint64_t>("split.tensors.count"));
    if (its_number != index || its_count != count || its_promise != promised) {
      return part->error(
          ErrorCode::kCorrupt,
          std::format("is part {} of {} of a model of {} tensors, but part {} of {} of one of {} belongs here",
                      std::uint64_t{its_number} + 1, its_count, its_promise, index + 1, count, promised));
    }
    TRY(take_tensors_of(std::move(*part)));
  }
  if (tensors_.size() == promised) return {};
  return error(ErrorCode::kCorrupt, std::format("its {} parts hold {} tensors, but {} are promised: one is another "
                                                "model's or damaged",
                                                count, tensors_.size(), promised));
}

Result<void> GgufFile::take_tensors_of(GgufFile part) {
  others_.push_back(std::move(part));
  for (TensorInfo info : others_.back().tensors_) {
    info.part = static_cast<std::uint32_t>(others_.size());
    const auto [first, is_new] = tensor_index_.emplace(others_.back().name_of_tensor(info.name), tensors_.size());
    if (!is_new) {
      return others_.back().error(ErrorCode::kCorrupt,
                                  std::format("holds the tensor '{}', which another part holds too", info.name));
    }
    tensors_.push_back(std::move(info));
  }
  return {};
}

// The name where it stands in the mapped bytes, which stay.
std::string_view GgufFile::name_of_tensor(std::string_view tensor_name) const {
  return tensor_index_.find(tensor_name)->first;
}

}  // namespace baton::model
