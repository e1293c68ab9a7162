#include "cli/given_models.h"

#include <algorithm>
#include <utility>

#include "model/digest_cache.h"
#include "store/model_name.h"

namespace baton::cli {

namespace {

bool is_called(const ServedFile& served, std::string_view name) {
  const std::filesystem::path& path = served.file->path();
  return store::same_name(served.name, name) || name == path.filename().string() || name == path.stem().string();
}

// It may take minutes, where nobody has computed it yet.
Result<Sha256> digest_of(const ServedFile& served, const std::stop_token& stop) {
  const model::GgufFile& file = served.file->file();
  std::vector<std::filesystem::path> parts;
  for (std::size_t i = 0; i < file.part_count(); ++i) parts.push_back(file.part_path(i));
  return model::model_digest(parts, stop);
}

Result<store::GivenModel> served_model(const ServedFile& served, const std::stop_token& stop) {
  store::GivenModel given;
  const engine::Model& model = *served.file;
  const std::string file_name = model.path().filename().string();
  for (const std::string& name : {served.name, file_name}) {
    if (store::is_plain_name(name) && !std::ranges::contains(given.offer.names, name))
      given.offer.names.push_back(name);
  }
  const model::GgufFile& file = model.file();
  for (std::size_t i = 0; i < file.part_count(); ++i) {
    const std::filesystem::path path = file.part_path(i);
    std::string part_name = path.filename().string();
    // The parts of a split model find each other by name; one that is whole may be called as one likes.
    if (file.part_count() == 1 && !store::is_plain_file_name(part_name)) part_name = "model.gguf";
    const Sha256 digest = TRY(model::model_digest(path, stop));
    given.offer.parts.push_back({std::move(part_name), file.part_bytes(i).size(), digest});
    given.paths.push_back(path);
  }
  return given;
}

}  // namespace

void ServedFiles::add(ServedFile served) {
  const std::lock_guard lock(mutex_);
  files_.push_back(std::move(served));
}

void ServedFiles::remove(const engine::Model& file) {
  const std::lock_guard lock(mutex_);
  std::erase_if(files_, [&](const ServedFile& served) { return served.file.get() == &file; });
}

std::vector<ServedFile> ServedFiles::list() const {
  const std::lock_guard lock(mutex_);
  return files_;
}

store::FindGiven given_models(store::Store store, std::shared_ptr<const ServedFiles> served_files) {
  return [store = std::move(store), served_files = std::move(served_files)](
             const std::string& name, const std::stop_token& stop) -> Result<store::GivenModel> {
    auto kept = store.give(name);
    if (kept) return kept;
    const std::vector<ServedFile> served = served_files->list();
    for (const ServedFile& model : served) {
      if (is_called(model, name)) return served_model(model, stop);
    }
    // Only where a digest can be meant: to compute one may take minutes.
    const auto digits = store::digest_digits(name);
    if (!digits) return kept;
    for (const ServedFile& model : served) {
      const auto digest = digest_of(model, stop);
      if (digest && digest->hex().starts_with(*digits)) return served_model(model, stop);
      if (!digest && digest.error().code == ErrorCode::kCancelled) return std::unexpected(digest.error());
    }
    return kept;
  };
}

}  // namespace baton::cli
