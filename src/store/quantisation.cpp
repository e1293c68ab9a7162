#include "store/quantisation.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <format>
#include <map>
#include <utility>

namespace baton::store {

namespace {

constexpr std::string_view kEnding = ".gguf";
constexpr std::uint32_t kMaxSplitParts = 10'000;

std::string upper(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return result;
}

std::string_view file_of(std::string_view path) { return path.substr(path.rfind('/') + 1); }

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// "Q4_K_M", "IQ2_XXS", "TQ1_0", "F16", "BF16", "MXFP4", "MXFP4_MOE"; `text` is in upper case.
bool is_quantisation(std::string_view text) {
  for (const std::string_view whole : {"F16", "BF16", "F32", "FP16", "MXFP4", "MXFP4_MOE", "NVFP4"}) {
    if (text == whole) return true;
  }
  for (const std::string_view kind : {"IQ", "TQ", "Q"}) {
    if (!text.starts_with(kind)) continue;
    const std::string_view rest = text.substr(kind.size());
    return rest.size() >= 3 && is_digit(rest[0]) && rest[1] == '_' &&
           std::ranges::all_of(rest, [](char c) { return is_digit(c) || c == '_' || (c >= 'A' && c <= 'Z'); });
  }
  return false;
}

// Where a name "model-00002-of-00003" stands among its fellows; nothing where it is whole.
struct PartName {
  std::string_view stem;
  std::uint32_t number = 1;  // from 1
  std::uint32_t count = 1;
};

PartName read_part(std::string_view stem) {
  static constexpr std::string_view kPattern = "-00000-of-00000";
  if (stem.size() <= kPattern.size()) return {stem};
  const std::string_view tail = stem.substr(stem.size() - kPattern.size());
  for (std::size_t i = 0; i < kPattern.size(); ++i) {
    if (kPattern[i] == '0' ? !is_digit(tail[i]) : tail[i] != kPattern[i]) return {stem};
  }
  PartName part{stem.substr(0, stem.size() - kPattern.size())};
  std::from_chars(tail.data() + 1, tail.data() + 6, part.number);
  std::from_chars(tail.data() + 10, tail.data() + 15, part.count);
  return part;
}

bool is_no_model(std::string_view file_name) {
  const std::string name = upper(file_name);
  return name.contains("MMPROJ") || name.contains("IMATRIX");
}

// Weights wider than eight bits cost twice the memory and time, and nobody can tell the answers apart.
bool is_wide(std::string_view quantisation) {
  return quantisation.ends_with("F16") || quantisation.ends_with("F32") || quantisation == "FP16";
}

// Arrangements of early 2024 for certain processors, which no engine reads any more.
bool is_obsolete(std::string_view quantisation) {
  return quantisation.starts_with("Q4_0_4_") || quantisation.starts_with("Q4_0_8_");
}

std::string list_of(std::span<const RemoteModel> offered) {
  std::string list;
  for (const RemoteModel& model : offered) list += (list.empty() ? "" : ", ") + model.quantisation;
  return list;
}

}  // namespace

std::uint64_t RemoteModel::bytes() const {
  std::uint64_t sum = 0;
  for (const RemoteFile& part : parts) sum += part.bytes;
  return sum;
}

std::string quantisation_of(std::string_view file_name) {
  std::string name = upper(file_of(file_name));
  if (name.ends_with(".GGUF")) name.resize(name.size() - kEnding.size());
  std::string_view rest = read_part(name).stem;
  // Names end in it, but for what a converter adds behind ("-imat").
  while (!rest.empty()) {
    const std::size_t begin = rest.find_last_of("-.");
    const std::string_view last = begin == std::string_view::npos ? rest : rest.substr(begin + 1);
    if (is_quantisation(last)) return std::string(last);
    if (begin == std::string_view::npos) return "";
    rest = rest.substr(0, begin);
  }
  return "";
}

std::vector<RemoteModel> models_in(std::span<const RemoteFile> files) {
  struct Parts {
    std::uint32_t count = 1;
    std::map<std::uint32_t, RemoteFile> found;
  };
  std::map<std::string, Parts> by_stem;
  for (const RemoteFile& file : files) {
    if (!upper(file.path).ends_with(".GGUF") || is_no_model(file_of(file.path))) continue;
    const PartName part = read_part(std::string_view(file.path).substr(0, file.path.size() - kEnding.size()));
    if (part.count == 0 || part.count > kMaxSplitParts || part.number == 0 || part.number > part.count) continue;
    Parts& parts = by_stem[std::format("{} {}", part.stem, part.count)];
    parts.count = part.count;
    parts.found[part.number] = file;
  }
  std::vector<RemoteModel> models;
  for (auto& [stem, parts] : by_stem) {
    if (parts.found.size() != parts.count) continue;
    RemoteModel model;
    for (auto& [number, file] : parts.found) model.parts.push_back(std::move(file));
    model.quantisation = quantisation_of(model.parts.front().path);
    if (model.quantisation.empty()) model.quantisation = file_of(model.parts.front().path);
    models.push_back(std::move(model));
  }
  std::ranges::sort(models, [](const RemoteModel& left, const RemoteModel& right) {
    return std::pair(left.bytes(), left.quantisation) < std::pair(right.bytes(), right.quantisation);
  });
  return models;
}

std::uint64_t memory_needed_bytes(std::uint64_t model_bytes) {
  constexpr std::uint64_t kRoomToWorkBytes = std::uint64_t{1} << 30;
  return model_bytes + model_bytes / 10 + kRoomToWorkBytes;
}

Result<RemoteModel> choose(std::span<const RemoteModel> offered, std::string_view wanted, std::uint64_t memory_bytes) {
  if (offered.empty()) return fail(ErrorCode::kNotFound, "it has no GGUF file that is a whole model");
  if (!wanted.empty()) {
    const std::string name = upper(wanted);
    for (const RemoteModel& model : offered) {
      // "UD-Q4_K_XL" is a Q4_K_XL of a certain converter's.
      if (upper(model.quantisation) == name || model.quantisation == quantisation_of(name) ||
          upper(file_of(model.parts.front().path)) == name)
        return model;
    }
    return fail(ErrorCode::kNotFound, std::format("it has no '{}', but {}", wanted, list_of(offered)));
  }
  const RemoteModel* best = nullptr;
  const RemoteModel* smallest = nullptr;
  for (const RemoteModel& model : offered) {
    if (is_obsolete(model.quantisation)) continue;
    if (smallest == nullptr) smallest = &model;
    if (is_wide(model.quantisation) || memory_needed_bytes(model.bytes()) > memory_bytes) continue;
    best = &model;
  }
  if (best != nullptr) return *best;
  return smallest != nullptr ? *smallest : offered.front();
}

}  // namespace baton::store
