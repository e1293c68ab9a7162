// Which of a repository's GGUF files make up which model, and which of these to take. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/result.h"

namespace baton::store {

// A file that can be downloaded.
struct RemoteFile {
  std::string path;  // in the repository, folders and all
  std::uint64_t bytes = 0;
  std::optional<Sha256> sha256;  // where the other side tells
  bool operator==(const RemoteFile&) const = default;
};

// One quantisation of a model: one file, or the parts of a split one in order.
struct RemoteModel {
  std::string quantisation;  // "Q4_K_M", in upper case; a file's name where that does not say
  std::vector<RemoteFile> parts;

  std::uint64_t bytes() const;
};

// "qwen3-8b-Q4_K_M.gguf" is "Q4_K_M"; empty where the name does not say.
std::string quantisation_of(std::string_view file_name);

// What a repository offers, smallest first. Left out are files that are no whole model: projectors of images
// ("mmproj"), importance matrices, and split models of which a part is missing.
std::vector<RemoteModel> models_in(std::span<const RemoteFile> files);

// The one that `wanted` names, in either case: a quantisation, or a file's name. Without it, the largest up to Q8_0
// that leaves room to work in `memory_bytes`, or the smallest where none does. Errors: kNotFound, naming those there
// are.
Result<RemoteModel> choose(std::span<const RemoteModel> offered, std::string_view wanted, std::uint64_t memory_bytes);

// What a model of so many bytes needs to run: its weights, and room for a conversation and what is computed on the way.
std::uint64_t memory_needed_bytes(std::uint64_t model_bytes);

}  // namespace baton::store
