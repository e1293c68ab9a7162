#include "engine/model.h"

#include <string_view>
#include <utility>
#include <vector>

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
  if (!digest_) {
    std::vector<std::filesystem::path> parts;
    for (std::size_t part = 0; part < file_.part_count(); ++part) parts.push_back(file_.part_path(part));
    digest_ = TRY(model::model_digest(parts));
  }
  return *digest_;
}

}  // namespace baton::engine
