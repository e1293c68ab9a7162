#include "engine/model.h"

#include <string_view>
#include <utility>

#include "model/digest_cache.h"

namespace baton::engine {

Model::Model(std::filesystem::path path, model::GgufFile file, const model::Description* description,
             model::Hyperparameters hyperparameters)
    : path_(std::move(path)),
      file_(std::move(file)),
      description_(description),
      hyperparameters_(std::move(hyperparameters)) {}

Result<std::shared_ptr<const Model>> Model::open(const std::filesystem::path& path) {
  model::GgufFile file = TRY(model::GgufFile::open(path));
  const auto architecture = TRY(file.get<std::string_view>("general.architecture"));
  auto description = model::find_description(architecture);
  if (!description) return file.error(description.error().code, description.error().message);
  // Hyperparameters point at the file's table of tensors, which stays in place when the file is moved.
  model::Hyperparameters hyperparameters = TRY(model::read_hyperparameters(file, **description));
  return std::shared_ptr<const Model>(new Model(path, std::move(file), *description, std::move(hyperparameters)));
}

Result<Sha256> Model::digest() const {
  const std::lock_guard lock(digest_mutex_);
  if (!digest_) digest_ = TRY(model::model_digest(path_));
  return *digest_;
}

}  // namespace baton::engine
