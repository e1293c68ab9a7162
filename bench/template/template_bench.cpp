// How long a chat template takes by the clock: to start its process and be parsed, and for conversations of two sizes.
//   template_bench TEMPLATE.jinja... [Google Benchmark's own flags]
#include <benchmark/benchmark.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "text/chat_template.h"

namespace {

using namespace baton;

struct Conversation {
  std::string name;
  std::size_t messages = 0;
  std::size_t message_bytes = 0;
};

text::ChatRequest request_of(const Conversation& conversation) {
  text::ChatRequest request;
  for (std::size_t i = 0; i < conversation.messages; ++i) {
    request.messages.push_back({.role = i % 2 == 0 ? text::Role::kUser : text::Role::kAssistant,
                                .content = std::string(conversation.message_bytes, 'x')});
  }
  request.local_time = std::chrono::local_seconds{};
  return request;
}

void start(benchmark::State& state, const std::string& source) {
  for (auto _ : state) {
    const auto chat_template = text::ChatTemplate::create(source, {"<|im_end|>"});
    if (!chat_template) return state.SkipWithError(chat_template.error().message.c_str());
  }
}

void render(benchmark::State& state, const std::string& source, const Conversation& conversation) {
  const auto chat_template = text::ChatTemplate::create(source, {"<|im_end|>"});
  if (!chat_template) return state.SkipWithError(chat_template.error().message.c_str());
  const text::ChatRequest request = request_of(conversation);
  for (auto _ : state) {
    const auto text = chat_template->render(request);
    if (!text) return state.SkipWithError(text.error().message.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const std::vector<Conversation> conversations = {{"chat", 3, 200}, {"long", 1001, 4000}};
  for (int i = 1; i < argc; ++i) {
    const auto source = read_text_file(argv[i]);
    if (!source) {
      std::fprintf(stderr, "%s\n", source.error().to_string().c_str());
      return 1;
    }
    const std::string family = std::filesystem::path(argv[i]).stem().string();
    benchmark::RegisterBenchmark((family + "/start").c_str(), start, *source)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
    for (const Conversation& conversation : conversations) {
      benchmark::RegisterBenchmark((family + "/" + conversation.name).c_str(), render, *source, conversation)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
