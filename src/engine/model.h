// An opened model file: what is known of it before any device holds its weights.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>

#include "base/digest.h"
#include "base/result.h"
#include "model/description.h"
#include "model/gguf.h"
#include "model/hyperparameters.h"
#include "model/shape.h"

namespace baton::engine {

// Immutable and safe to share between threads. Everything that the architecture's description needs was checked by
// open(): keys, and every tensor's presence, shape and type.
class Model {
 public:
  static Result<std::shared_ptr<const Model>> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const model::GgufFile& file() const { return file_; }
  const model::Description& description() const { return *description_; }
  const model::Hyperparameters& hyperparameters() const { return hyperparameters_; }
  const model::ModelShape& shape() const { return hyperparameters_.shape; }

  // The file's SHA-256, or one over those of all parts. Read from its neighbour `<file>.sha256` or computed (a second
  // per gigabyte) on the first call.
  Result<Sha256> digest() const;

 private:
  Model(std::filesystem::path path, model::GgufFile file, const model::Description* description,
        model::Hyperparameters hyperparameters);

  std::filesystem::path path_;
  model::GgufFile file_;
  const model::Description* description_;
  model::Hyperparameters hyperparameters_;
  mutable std::mutex digest_mutex_;
  mutable std::optional<Sha256> digest_;
};

}  // namespace baton::engine
