// The folders' forms, as their programs' documentation and sources state them:
// Ollama: https://docs.ollama.com/faq (where), https://github.com/ollama/ollama (manifests as of a container registry).
// LM Studio: https://lmstudio.ai/docs/app/advanced/import-model.
// Hugging Face: https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
#include "store/found_models.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <format>
#include <fstream>
#include <glaze/glaze.hpp>
#include <optional>
#include <string>
#include <system_error>

#include "base/file.h"
#include "store/model_name.h"
#include "store/quantisation.h"

namespace baton::store {

// A manifest of Ollama.
struct OllamaLayer {
  std::string mediaType;
  std::string digest;
  std::uint64_t size = 0;
};
struct OllamaManifest {
  std::vector<OllamaLayer> layers;
};

namespace {

namespace fs = std::filesystem;

constexpr glz::opts kReadFound{.error_on_unknown_keys = false};
constexpr std::size_t kMaxManifestBytes = 1 << 20;
// More is not somebody's models, but a folder that was named by mistake.
constexpr std::size_t kMaxEntries = 20'000;

std::optional<fs::path> folder_of(const char* variable) {
  const char* value = std::getenv(variable);
  if (value == nullptr || *value != '/') return std::nullopt;
  return fs::path(value);
}

std::int64_t modified_s(const fs::path& path) {
  std::error_code error;
  const auto time = fs::last_write_time(path, error);
  if (error) return 0;
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::file_clock::to_sys(time).time_since_epoch())
      .count();
}

bool begins_as_gguf(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  char magic[4] = {};
  return file.read(magic, sizeof magic) && std::string_view(magic, sizeof magic) == "GGUF";
}

// All files below, as paths relative to it, links followed to files only.
std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  const auto options = fs::directory_options::skip_permission_denied;
  for (fs::recursive_directory_iterator entry(folder, options, error), end; !error && entry != end;
       entry.increment(error)) {
    if (files.size() >= kMaxEntries) break;
    std::error_code ignored;
    if (entry->is_regular_file(ignored)) files.push_back(entry->path().lexically_relative(folder));
  }
  std::ranges::sort(files);
  return files;
}

// "registry.ollama.ai/library/qwen3/8b" is "qwen3:8b" to its user.
std::optional<std::string> ollama_name(const fs::path& manifest) {
  std::vector<std::string> parts;
  for (const fs::path& part : manifest) parts.push_back(part.string());
  if (parts.size() != 4) return std::nullopt;
  std::string name;
  if (parts[0] != "registry.ollama.ai") {
    name = parts[0] + "/" + parts[1] + "/";
  } else if (parts[1] != "library") {
    name = parts[1] + "/";
  }
  name += parts[2] + ":" + parts[3];
  if (!is_plain_name(name)) return std::nullopt;
  return name;
}

std::optional<StoredModel> read_ollama(const fs::path& folder, const fs::path& manifest_name) {
  const auto name = ollama_name(manifest_name);
  const fs::path path = folder / "manifests" / manifest_name;
  std::error_code error;
  if (!name || fs::file_size(path, error) > kMaxManifestBytes || error) return std::nullopt;
  const auto text = read_text_file(path);
  OllamaManifest manifest;
  if (!text || glz::read<kReadFound>(manifest, *text)) return std::nullopt;
  const OllamaLayer* weights = nullptr;
  for (const OllamaLayer& layer : manifest.layers) {
    if (layer.mediaType != "application/vnd.ollama.image.model") continue;
    if (weights != nullptr) return std::nullopt;  // in several layers: no file that we could open
    weights = &layer;
  }
  static constexpr std::string_view kPrefix = "sha256:";
  if (weights == nullptr || !weights->digest.starts_with(kPrefix)) return std::nullopt;
  const auto digest = Sha256::parse(std::string_view(weights->digest).substr(kPrefix.size()));
  if (!digest) return std::nullopt;
  const fs::path blob = folder / "blobs" / ("sha256-" + digest->hex());
  if (fs::file_size(blob, error) != weights->size || error || !begins_as_gguf(blob)) return std::nullopt;
  return StoredModel{.names = {*name},
                     .origin = Origin::kOllama,
                     .parts = {blob},
                     .bytes = weights->size,
                     .digest = std::nullopt,
                     .source = "ollama",
                     .modified_s = modified_s(path)};
}

// Models among a repository's files, under the repository's name.
void add_repository(std::vector<StoredModel>& models, const fs::path& folder, const std::string& repository,
                    Origin origin) {
  std::vector<RemoteFile> files;
  for (const fs::path& file : files_below(folder)) {
    std::error_code error;
    const std::uint64_t bytes = fs::file_size(folder / file, error);
    if (!error) files.push_back({file.generic_string(), bytes, std::nullopt});
  }
  for (const RemoteModel& found : models_in(files)) {
    StoredModel model{.names = {std::format("hf.co/{}:{}", repository, found.quantisation)},
                      .origin = origin,
                      .parts = {},
                      .bytes = found.bytes(),
                      .digest = std::nullopt,
                      .source = "hf.co/" + repository,
                      .modified_s = 0};
    for (const RemoteFile& part : found.parts) model.parts.push_back(folder / part.path);
    if (!is_plain_name(model.names.front()) || !std::ranges::all_of(model.parts, begins_as_gguf)) continue;
    model.modified_s = modified_s(model.parts.front());
    models.push_back(std::move(model));
  }
}

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_directory(ignored)) found.push_back(entry->path());
    if (found.size() >= kMaxEntries) break;
  }
  std::ranges::sort(found);
  return found;
}

void add_lm_studio(std::vector<StoredModel>& models, const fs::path& folder) {
  for (const fs::path& publisher : folders_in(folder)) {
    for (const fs::path& repository : folders_in(publisher)) {
      add_repository(models, repository, publisher.filename().string() + "/" + repository.filename().string(),
                     Origin::kLmStudio);
    }
  }
}

void add_hugging_face(std::vector<StoredModel>& models, const fs::path& folder) {
  static constexpr std::string_view kPrefix = "models--";
  for (const fs::path& repository : folders_in(folder)) {
    std::string name = repository.filename().string();
    if (!name.starts_with(kPrefix)) continue;
    name = name.substr(kPrefix.size());
    const std::size_t border = name.find("--");
    if (border == std::string::npos) continue;
    name.replace(border, 2, "/");
    // The newest snapshot that has a model; the others are older versions of it.
    std::vector<fs::path> snapshots = folders_in(repository / "snapshots");
    std::ranges::stable_sort(snapshots, std::greater<>(), modified_s);
    const std::size_t before = models.size();
    for (const fs::path& snapshot : snapshots) {
      if (models.size() == before) add_repository(models, snapshot, name, Origin::kHuggingFace);
    }
  }
}

}  // namespace

FoundFolders FoundFolders::of_this_user() {
  FoundFolders folders;
  const auto home = folder_of("HOME");
  if (const auto models = folder_of("OLLAMA_MODELS")) folders.ollama.push_back(*models);
  if (home) folders.ollama.push_back(*home / ".ollama/models");
  folders.ollama.emplace_back("/usr/share/ollama/.ollama/models");
  if (home) folders.lm_studio = {*home / ".lmstudio/models", *home / ".cache/lm-studio/models"};
  if (const auto cache = folder_of("HF_HUB_CACHE")) {
    folders.hugging_face = {*cache};
  } else if (const auto hugging_face = folder_of("HF_HOME")) {
    folders.hugging_face = {*hugging_face / "hub"};
  } else if (const auto xdg = folder_of("XDG_CACHE_HOME")) {
    folders.hugging_face = {*xdg / "huggingface/hub"};
  } else if (home) {
    folders.hugging_face = {*home / ".cache/huggingface/hub"};
  }
  return folders;
}

std::vector<StoredModel> find_models(const FoundFolders& folders) {
  std::vector<StoredModel> models;
  for (const fs::path& folder : folders.ollama) {
    for (const fs::path& manifest : files_below(folder / "manifests")) {
      if (auto model = read_ollama(folder, manifest)) models.push_back(std::move(*model));
    }
  }
  for (const fs::path& folder : folders.lm_studio) add_lm_studio(models, folder);
  for (const fs::path& folder : folders.hugging_face) add_hugging_face(models, folder);
  return models;
}

}  // namespace baton::store
