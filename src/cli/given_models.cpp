#include "cli/given_models.h"

#include <utility>

#include "model/digest_cache.h"
#include "store/model_name.h"

namespace baton::cli {

namespace {

constexpr std::size_t kLeastDigestDigits = 8;

Result<store::GivenModel> served_model(const engine::Model& model) {
  store::GivenModel given;
  const std::string name = model.path().filename().string();
  if (store::is_plain_name(name)) given.offer.names = {name};
  const model::GgufFile& file = model.file();
  for (std::size_t i = 0; i < file.part_count(); ++i) {
    const std::filesystem::path path = file.part_path(i);
    std::string part_name = path.filename().string();
    // The parts of a split model find each other by name; one that is whole may be called as one likes.
    if (file.part_count() == 1 && !store::is_plain_file_name(part_name)) part_name = "model.gguf";
    const Sha256 digest = TRY(file.part_count() == 1 ? model.digest() : model::model_digest(path));
    given.offer.parts.push_back({std::move(part_name), file.part_bytes(i).size(), digest});
    given.paths.push_back(path);
  }
  return given;
}

}  // namespace

std::function<Result<store::GivenModel>(const std::string& name)> given_models(
    store::Store store, std::vector<std::shared_ptr<const engine::Model>> served) {
  return [store = std::move(store), served = std::move(served)](const std::string& name) -> Result<store::GivenModel> {
    auto kept = store.give(name);
    if (kept) return kept;
    for (const auto& model : served) {
      if (name == model->path().filename().string()) return served_model(*model);
    }
    // Only where a digest can be meant: to compute one may take minutes.
    if (name.size() < kLeastDigestDigits || name.find_first_not_of("0123456789abcdef") != std::string::npos)
      return kept;
    for (const auto& model : served) {
      const auto digest = model->digest();
      if (digest && digest->hex().starts_with(name)) return served_model(*model);
    }
    return kept;
  };
}

}  // namespace baton::cli
