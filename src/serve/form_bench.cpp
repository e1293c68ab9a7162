// What it costs to hold an answer to its form: for each form, random answers over a model's vocabulary, and the time
// that finding the allowed tokens takes, in the first answer and in later ones. form_bench MODEL.gguf, prints CSV.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <format>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "model/gguf.h"
#include "model/vocabulary.h"
#include "serve/answer_form.h"

namespace {

using namespace baton;
using namespace baton::serve;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kTokens = 400;
constexpr std::uint64_t kAnswers = 8;

template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "form_bench: %s\n", result.error().to_string().c_str());
    std::_Exit(1);
  }
  return std::move(*result);
}

struct Costs {
  double sum_us = 0;
  double worst_us = 0;
  std::uint32_t tokens = 0;
};

double microseconds(Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

// One answer, drawn among the allowed tokens alike.
void write(const std::shared_ptr<text::TokenLanguage>& form, const text::Vocabulary& vocabulary, std::uint64_t seed,
           Costs& costs) {
  engine::Sampler sampler = must(engine::Sampler::create({.temperature = 1, .seed = seed}));
  const std::vector<float> logits(vocabulary.size());
  text::ConstrainedText text(form);
  for (std::uint32_t left = kTokens; left > 0; --left) {
    const auto began = Clock::now();
    const auto allowed = must(text.allowed(left));
    const auto found = Clock::now();
    const Token token = must(sampler.sample(logits, left, {}, allowed));
    if (vocabulary.ends_generation(token)) return;
    const auto drawn = Clock::now();
    text.push(token);
    const double cost_us = microseconds(found - began) + microseconds(Clock::now() - drawn);
    costs.sum_us += cost_us;
    costs.worst_us = std::max(costs.worst_us, cost_us);
    ++costs.tokens;
  }
}

struct Named {
  const char* name;
  const char* schema;
};

constexpr Named kForms[] = {
    {"any object", R"({"type":"object"})"},
    {"person",
     R"({"type":"object","required":["name","age"],"properties":{"name":{"type":"string"},)"
     R"("age":{"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","items":{"type":"string"}}}})"},
    {"counted string", R"({"type":"string","minLength":300,"maxLength":2000})"},
    {"pattern", R"({"type":"array","items":{"type":"string","pattern":"^[A-Z]{2}-\\d{4}$"},"minItems":30})"},
    {"500 names", nullptr},
};

std::string many_names() {
  std::string schema = R"({"type":"array","minItems":20,"items":{"enum":[)";
  for (int index = 0; index < 500; ++index) schema += std::format("{}\"name {}\"", index == 0 ? "" : ",", index * 37);
  return schema + "]}}";
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: form_bench MODEL.gguf\n");
    return 2;
  }
  const auto file = must(model::GgufFile::open(arguments[1]));
  const auto vocabulary = must(text::Vocabulary::create(must(model::read_vocabulary(file))));
  const AnswerSyntax syntax;
  FormCache cache(vocabulary, syntax);
  std::printf("form,vocabulary,compile_us,first_mean_us,first_worst_us,later_mean_us,later_worst_us,tokens\n");
  for (const Named& named : kForms) {
    AnswerForm form;
    form.content = ContentForm::kSchema;
    form.schema = must(parse_json(named.schema == nullptr ? many_names() : named.schema));
    form.schema_path = "schema";
    const auto began = Clock::now();
    const auto language = must(cache.find_or_compile(form, {}));
    const double compile_us = microseconds(Clock::now() - began);
    Costs first;
    write(language, vocabulary, 0, first);
    Costs later;
    for (std::uint64_t seed = 1; seed <= kAnswers; ++seed) write(language, vocabulary, seed, later);
    std::printf("%s,%zu,%.0f,%.1f,%.0f,%.1f,%.0f,%u\n", named.name, vocabulary.size(), compile_us,
                first.sum_us / first.tokens, first.worst_us, later.sum_us / later.tokens, later.worst_us,
                first.tokens + later.tokens);
  }
  return 0;
}
