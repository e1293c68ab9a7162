// Models that other programs keep on this machine. They are read where they lie and never changed.
#pragma once

#include <filesystem>
#include <vector>

#include "store/stored_model.h"

namespace baton::store {

struct FoundFolders {
  std::vector<std::filesystem::path> ollama;        // with "manifests" and "blobs"
  std::vector<std::filesystem::path> lm_studio;     // with PUBLISHER/REPOSITORY/*.gguf
  std::vector<std::filesystem::path> hugging_face;  // with models--OWNER--REPOSITORY/snapshots

  // $OLLAMA_MODELS, ~/.ollama/models and the service's /usr/share/ollama/.ollama/models; ~/.lmstudio/models and
  // ~/.cache/lm-studio/models; $HF_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub,
  // ~/.cache/huggingface/hub.
  static FoundFolders of_this_user();
};

// Every GGUF model in them whose files are all there, have the size that the program says, and begin as GGUF files do.
// What else is in them is checked when the model is opened.
std::vector<StoredModel> find_models(const FoundFolders& folders);

}  // namespace baton::store
