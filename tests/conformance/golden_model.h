// The reference models of tests/reference/README.md with the logits and tokens that go with them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "engine/test_model.h"

namespace baton::engine::test {

namespace fs = std::filesystem;

constexpr double kDefaultTolerance = 1e-5;  // text-llama states none
// Logits of one position differ by about the square root of the tolerance; below this a tie may fall either way.
constexpr double kTieMargin = 0.05;

inline std::string read_file(const fs::path& path) {
  auto text = read_text_file(path);
  EXPECT_TRUE(text.has_value()) << text.error().to_string();
  return text.value_or("");
}

// The numbers behind `"key":`, one or a list: all that these files need of JSON.
inline std::vector<double> numbers(const std::string& json, const std::string& key) {
  std::vector<double> found;
  std::size_t at = json.find('"' + key + '"');
  if (at == std::string::npos) return found;
  at = json.find_first_not_of(" :", at + key.size() + 2);
  const bool list = json[at] == '[';
  if (list) ++at;
  while (at < json.size() && json[at] != ']' && json[at] != '}') {
    double value = 0;
    const auto [end, error] = std::from_chars(json.data() + at, json.data() + json.size(), value);
    if (error != std::errc()) break;
    found.push_back(value);
    at = json.find_first_not_of(", \n", static_cast<std::size_t>(end - json.data()));
    if (!list) break;
  }
  return found;
}

struct Golden {
  std::shared_ptr<const Model> model;
  std::vector<Token> prompt;
  std::vector<Token> greedy;
  std::vector<double> margin;
  double tolerance = kDefaultTolerance;
  std::vector<float> logits;  // [position][vocabulary]
};

inline Golden load(const fs::path& base) {
  Golden golden;
  auto model = Model::open(base.string() + ".gguf");
  EXPECT_TRUE(model.has_value()) << model.error().to_string();
  if (!model) return golden;
  golden.model = *model;
  const std::string json = read_file(base.string() + ".json");
  for (const double token : numbers(json, "prompt")) golden.prompt.push_back(static_cast<Token>(token));
  for (const double token : numbers(json, "greedy")) golden.greedy.push_back(static_cast<Token>(token));
  golden.margin = numbers(json, "margin");
  const auto tolerance = numbers(json, "tolerance");
  if (!tolerance.empty()) golden.tolerance = tolerance.front();
  const std::string raw = read_file(base.string() + ".f32");
  golden.logits.resize(raw.size() / sizeof(float));
  std::memcpy(golden.logits.data(), raw.data(), golden.logits.size() * sizeof(float));
  EXPECT_FALSE(golden.prompt.empty());
  EXPECT_EQ(golden.greedy.size(), golden.margin.size());
  EXPECT_EQ(golden.logits.size(), golden.prompt.size() * golden.model->shape().vocabulary_size);
  return golden;
}

inline fs::path tiny_folder() { return fs::path(BATON_SOURCE_DIR) / "tests/reference/tiny"; }
inline fs::path reference_folder() { return fs::path(BATON_SOURCE_DIR) / "tests/reference/golden"; }
inline fs::path shared_folder() { return fs::path(BATON_SOURCE_DIR) / "../shared/golden"; }

// By name, so that a model in both folders runs once.
inline std::map<std::string, fs::path> golden_files() {
  std::map<std::string, fs::path> found;
  for (const fs::path& folder : {reference_folder(), tiny_folder(), shared_folder()}) {
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(folder, missing)) {
      if (entry.path().extension() != ".gguf") continue;
      const std::string name = entry.path().stem().string();
      found.try_emplace(name, folder / name);
    }
  }
  return found;
}

// A name that GoogleTest takes.
inline std::string test_name(std::string name) {
  std::ranges::replace_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
}

}  // namespace baton::engine::test
