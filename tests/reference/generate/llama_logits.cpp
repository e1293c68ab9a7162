// llama_logits MODEL CONTEXT GREEDY OUT TOKEN...: what llama.cpp computes from a model, for generate.py.
// Writes the prompt's logits, float32 [position][vocabulary], to OUT and prints the ids that follow greedily, the
// margin of each over the second best, and how far flash attention is from this (normalised mean squared error).
#include <ggml-backend.h>
#include <llama.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

struct Run {
  std::vector<float> logits;
  std::vector<llama_token> greedy;
  std::vector<float> margins;
};

Run run(llama_model* model, unsigned context_tokens, int steps, std::vector<llama_token> prompt,
        llama_flash_attn_type attention) {
  llama_context_params options = llama_context_default_params();
  options.n_ctx = context_tokens;
  options.n_batch = options.n_ubatch = 512;
  options.n_threads = options.n_threads_batch = 1;
  options.flash_attn_type = attention;
  options.no_perf = true;
  llama_context* context = llama_init_from_model(model, options);
  if (context == nullptr) std::exit(2);
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  const int count = static_cast<int>(prompt.size());
  llama_batch batch = llama_batch_init(count, 0, 1);
  for (int at = 0; at < count; ++at) {
    batch.token[at] = prompt[at];
    batch.pos[at] = at;
    batch.n_seq_id[at] = 1;
    batch.seq_id[at][0] = 0;
    batch.logits[at] = 1;
  }
  batch.n_tokens = count;
  if (llama_decode(context, batch) != 0) std::exit(3);
  Run result;
  for (int at = 0; at < count; ++at) {
    const float* row = llama_get_logits_ith(context, at);
    result.logits.insert(result.logits.end(), row, row + vocabulary);
  }
  const float* row = llama_get_logits_ith(context, count - 1);
  for (int step = 0; step < steps; ++step) {
    std::vector<float> sorted(row, row + vocabulary);
    std::ranges::sort(sorted, std::greater<>());
    result.greedy.push_back(static_cast<llama_token>(std::max_element(row, row + vocabulary) - row));
    result.margins.push_back(sorted[0] - sorted[1]);
    if (llama_decode(context, llama_batch_get_one(&result.greedy.back(), 1)) != 0) std::exit(4);
    row = llama_get_logits_ith(context, -1);
  }
  llama_batch_free(batch);
  llama_free(context);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) return 1;
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level >= GGML_LOG_LEVEL_ERROR && level != GGML_LOG_LEVEL_CONT) std::fputs(text, stderr);
      },
      nullptr);
  ggml_backend_load_all();
  llama_model_params options = llama_model_default_params();
  options.n_gpu_layers = 0;
  llama_model* model = llama_model_load_from_file(argv[1], options);
  if (model == nullptr) return 1;
  std::vector<llama_token> prompt;
  for (int at = 5; at < argc; ++at) prompt.push_back(std::atoi(argv[at]));
  const auto context = static_cast<unsigned>(std::atoi(argv[2]));
  const Run plain = run(model, context, std::atoi(argv[3]), prompt, LLAMA_FLASH_ATTN_TYPE_DISABLED);
  const Run flash = run(model, context, 0, prompt, LLAMA_FLASH_ATTN_TYPE_ENABLED);
  double error = 0;
  double power = 0;
  for (std::size_t at = 0; at < plain.logits.size(); ++at) {
    const double difference = static_cast<double>(plain.logits[at]) - flash.logits[at];
    error += difference * difference;
    power += static_cast<double>(plain.logits[at]) * plain.logits[at];
  }
  std::FILE* out = std::fopen(argv[4], "wb");
  if (out == nullptr) return 1;
  std::fwrite(plain.logits.data(), sizeof(float), plain.logits.size(), out);
  std::fclose(out);
  for (const llama_token token : plain.greedy) std::printf("%d ", token);
  std::printf("\n");
  for (const float margin : plain.margins) std::printf("%.5f ", margin);
  std::printf("\n%.4g\n", error / power);
  return 0;
}
