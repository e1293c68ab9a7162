#include "store/found_models.h"

#include <gtest/gtest.h>

#include <format>

#include "base/file.h"
#include "base/temporary_folder.h"
#include "store/store.h"

namespace baton::store {
namespace {

namespace fs = std::filesystem;

class FoundModels : public testing::Test {
 protected:
  void write(const fs::path& path, std::string_view content) {
    fs::create_directories((folder_.path() / path).parent_path());
    ASSERT_TRUE(write_file(folder_.path() / path, as_byte_span(content)));
  }
  void write_ollama(const std::string& name, const std::string& digest, std::size_t size) {
    write("ollama/manifests/" + name, std::format(R"({{"schemaVersion":2,"config":{{"digest":"sha256:00"}},"layers":[
            {{"mediaType":"application/vnd.ollama.image.template","digest":"sha256:11","size":3}},
            {{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:{}","size":{}}}]}})",
                                                  digest, size));
  }
  FoundFolders folders() const {
    return {.ollama = {folder_.path() / "ollama"},
            .lm_studio = {folder_.path() / "lm-studio"},
            .hugging_face = {folder_.path() / "hub", folder_.path() / "absent"}};
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const StoredModel& model : find_models(folders())) names.push_back(model.names.front());
    return names;
  }

  const TemporaryFolder folder_ = TemporaryFolder::create("baton-test").value();
  const std::string digest_ = std::string(64, 'a');
};

TEST_F(FoundModels, AreThoseOfOllama) {
  write("ollama/blobs/sha256-" + digest_, "GGUF....");
  write_ollama("registry.ollama.ai/library/qwen3/8b", digest_, 8);
  write_ollama("registry.ollama.ai/somebody/model/latest", digest_, 8);
  write_ollama("hf.co/owner/repo/Q4_K_M", digest_, 8);
  EXPECT_EQ(names(), (std::vector<std::string>{"hf.co/owner/repo:Q4_K_M", "qwen3:8b", "somebody/model:latest"}));
  const auto models = find_models(folders());
  EXPECT_EQ(models[1].parts.front(), folder_.path() / "ollama/blobs" / ("sha256-" + digest_));
  EXPECT_EQ(models[1].origin, Origin::kOllama);
}

TEST_F(FoundModels, AreNotBelievedByTheirManifests) {
  write("ollama/blobs/sha256-" + digest_, "GGUF....");
  write("secret", "GGUF....");
  write_ollama("registry.ollama.ai/library/short/1", digest_, 9);
  write_ollama("registry.ollama.ai/library/missing/1", std::string(64, 'b'), 8);
  write_ollama("registry.ollama.ai/library/leads-out/1", "../../secret", 8);
  write("ollama/manifests/registry.ollama.ai/library/broken/1", "{\"layers\":[");
  write("ollama/manifests/registry.ollama.ai/library/strange/-x", "{}");
  write("ollama/blobs/sha256-" + std::string(64, 'c'), "safetensors");
  write_ollama("registry.ollama.ai/library/no-gguf/1", std::string(64, 'c'), 11);
  EXPECT_TRUE(names().empty());
}

TEST_F(FoundModels, AreThoseOfLmStudio) {
  write("lm-studio/owner/repo-GGUF/m-Q8_0.gguf", "GGUF....");
  write("lm-studio/owner/repo-GGUF/mmproj-m-F16.gguf", "GGUF....");
  write("lm-studio/owner/repo-GGUF/m-Q4_0-00001-of-00002.gguf", "GGUF....");
  write("lm-studio/owner/repo-GGUF/m-Q4_0-00002-of-00002.gguf", "GGUF....");
  write("lm-studio/owner/mlx/model.safetensors", "....");
  write("lm-studio/owner/fake/m-Q8_0.gguf", "<html>");
  EXPECT_EQ(names(), (std::vector<std::string>{"hf.co/owner/repo-GGUF:Q8_0", "hf.co/owner/repo-GGUF:Q4_0"}));
}

TEST_F(FoundModels, AreThoseOfHuggingFace) {
  write("hub/models--Qwen--Qwen3-8B-GGUF/blobs/" + digest_, "GGUF....");
  const fs::path snapshot = folder_.path() / "hub/models--Qwen--Qwen3-8B-GGUF/snapshots/0123";
  fs::create_directories(snapshot);
  fs::create_symlink("../../blobs/" + digest_, snapshot / "Qwen3-8B-Q8_0.gguf");
  fs::create_symlink("../../blobs/gone", snapshot / "Qwen3-8B-Q4_K_M.gguf");
  write("hub/datasets--a--b/snapshots/0123/x-Q8_0.gguf", "GGUF....");
  EXPECT_EQ(names(), (std::vector<std::string>{"hf.co/Qwen/Qwen3-8B-GGUF:Q8_0"}));
}

TEST_F(FoundModels, AreFoundByShortNamesToo) {
  write("lm-studio/Qwen/Qwen3-8B-GGUF/Qwen3-8B-Q8_0.gguf", "GGUF....");
  const Store store({.folder = folder_.path() / "models", .found = folders(), .hub = {}});
  EXPECT_EQ(store.find("qwen3")->origin, Origin::kLmStudio);
  EXPECT_EQ(store.find("qwen3:8b")->bytes, 8U);
  EXPECT_EQ(store.find("qwen3:8b-q8_0")->bytes, 8U);
  EXPECT_FALSE(store.find("qwen3:4b"));
  // They are their owner's: not ours to remove, rename or give away.
  EXPECT_EQ(store.remove("qwen3:8b").error().code, ErrorCode::kRefused);
  EXPECT_EQ(store.copy("qwen3:8b", "mine").error().code, ErrorCode::kRefused);
  EXPECT_FALSE(store.give("qwen3:8b"));
}

}  // namespace
}  // namespace baton::store
