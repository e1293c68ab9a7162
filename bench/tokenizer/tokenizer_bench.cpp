// How long a megabyte of each kind of text takes on one core:
//   tokenizer_bench VOCABULARY.gguf... [Google Benchmark's own flags]
#include <benchmark/benchmark.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/gguf.h"
#include "model/vocabulary.h"
#include "text/tokenizer.h"

namespace {

using namespace baton;

constexpr std::size_t kBytes = 1'000'000;

struct Sample {
  std::string name;
  std::string text;
};

// The pieces again and again, in an order that does not repeat.
std::string mix(const std::vector<std::string>& pieces) {
  std::string text;
  std::uint64_t state = 1;
  while (text.size() < kBytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    text += pieces[(state >> 33) % pieces.size()];
  }
  return text;
}

std::string random_bytes() {
  std::string text;
  std::uint64_t state = 1;
  while (text.size() < kBytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    text += static_cast<char>(state >> 56);
  }
  return text;
}

std::vector<Sample> samples() {
  return {
      {"prose", mix({"the ",        "river ",          "ran ",     "slowly, ", "and ",      "nobody ",   "who ",
                     "had ",        "watched ",        "it ",      "before ",  "would've ", "thought ",  "of ",
                     "mentioning ", "extraordinary ",  "things. ", "Morning ", "came; ",    "\"Yes,\" ", "she ",
                     "said.\n\n",   "responsibility ", "in ",      "1987 "})},
      {"code",
       mix({"for (int i = 0; i < count; ++i) {\n", "    total += values[i];\n", "}\n\n", "if (x == nullptr) return;\n",
            "\t// a note\n", "std::vector<std::string> names;\n", "def run(self, **kwargs):\n", "        pass\n",
            "#include <vector>\n", "const auto result = compute_all(a, b);\n"})},
      {"chinese", mix({"今天", "天气", "很好，", "我们", "一起", "去", "公园", "散步。", "语言", "模型", "可以", "回答",
                       "问题；", "龘"})},
      {"one_letter", std::string(kBytes, 'a')},
      {"spaces", std::string(kBytes, ' ')},
      {"newlines", std::string(kBytes, '\n')},
      {"random_bytes", random_bytes()},
      {"digits", mix({"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"})},
      {"emoji", mix({"😀", "👩‍👩‍👧", "🏳️‍🌈", "❤️", "🇩🇪", "👍🏽"})},
      {"punctuation", mix({"!", "?", "...", "--", "<|", "|>", "((", "))", "#", "@"})},
      {"letters", mix({"a", "b", "c", "d", "e", "f", "g", "h", "i", "o", "s", "t"})},
  };
}

void encode(benchmark::State& state, const text::Tokenizer& tokenizer, const std::string& text) {
  std::size_t count = 0;
  for (auto _ : state) {
    const auto tokens = tokenizer.encode(text, text::SpecialTokens::kAsPlainText);
    if (!tokens) return state.SkipWithError(tokens.error().message.c_str());
    count = tokens->size();
  }
  state.counters["tokens"] = static_cast<double>(count);
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text.size()));
}

Result<std::unique_ptr<text::Tokenizer>> open(const std::string& path) {
  const auto file = TRY(model::GgufFile::open(path));
  auto vocabulary = TRY(text::Vocabulary::create(TRY(model::read_vocabulary(file))));
  return std::make_unique<text::Tokenizer>(TRY(text::Tokenizer::create(std::move(vocabulary))));
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const std::vector<Sample> texts = samples();
  std::vector<std::unique_ptr<text::Tokenizer>> tokenizers;
  for (int i = 1; i < argc; ++i) {
    auto tokenizer = open(argv[i]);
    if (!tokenizer) {
      std::fprintf(stderr, "%s\n", tokenizer.error().to_string().c_str());
      return 1;
    }
    tokenizers.push_back(std::move(*tokenizer));
    for (const Sample& sample : texts) {
      const std::string name = std::filesystem::path(argv[i]).stem().string() + "/" + sample.name;
      benchmark::RegisterBenchmark(name.c_str(), [&tokenizer = *tokenizers.back(), &sample](benchmark::State& state) {
        encode(state, tokenizer, sample.text);
      })->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
