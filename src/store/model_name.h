// What a person types where a model is wanted.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"

namespace baton::store {

// "./model.gguf", "/models/m.gguf", "m.gguf"
struct PathName {
  std::string path;
  bool operator==(const PathName&) const = default;
};

// "qwen3:8b", "qwen3", "my-model"; in lower case, as names of this kind do not differ by case alone.
struct ShortName {
  std::string family;
  std::string tag;  // may be empty
  bool operator==(const ShortName&) const = default;
};

// "hf.co/OWNER/REPO", "hf.co/OWNER/REPO:Q4_K_M", "hf.co/OWNER/REPO:file.gguf"
struct HubName {
  std::string owner;
  std::string repository;
  std::string quantisation;  // or a file's name; empty: the store chooses
  bool operator==(const HubName&) const = default;
};

// "https://host/path/model.gguf"
struct UrlName {
  std::string url;
  bool operator==(const UrlName&) const = default;
};

// "spark/qwen3:8b": the model of that name on that node.
struct NodeName {
  std::string node;
  std::string model;
  bool operator==(const NodeName&) const = default;
};

using ModelName = std::variant<PathName, ShortName, HubName, UrlName, NodeName>;

// Only by its form: nothing is looked up. Errors: kInvalidArgument, with what a name looks like.
Result<ModelName> parse_model_name(std::string_view text);

std::string to_string(const ModelName& name);

// Whether two names of models are one: whatever their case, and "x" is "x:latest", as to Ollama's clients.
bool same_name(std::string_view left, std::string_view right);

// Whether the full name of a hub's model is of this repository, whatever its case: without a quantisation all are.
bool is_of_repository(std::string_view model, const HubName& hub);

// A digest is named by at least so many of its digits.
inline constexpr std::size_t kLeastDigestDigits = 8;
// The first digits of a digest, in lower case, "sha256:" before them or not; nothing for any other text.
std::optional<std::string> digest_digits(std::string_view text);

// A name that a model can be given: letters, digits and "._-:/", up to 200 bytes, no empty or dotted component.
bool is_plain_name(std::string_view name);

// A file's name without a folder, that hides nothing and leads nowhere else.
bool is_plain_file_name(std::string_view name);

}  // namespace baton::store
