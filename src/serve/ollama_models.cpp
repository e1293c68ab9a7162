// What Ollama's API says of models.
#include <algorithm>
#include <array>
#include <format>

#include "node/keep_alive.h"
#include "serve/ollama.h"

namespace baton::serve::ollama {

namespace {

struct FileType {
  std::int64_t number;
  std::string_view name;
};

// GGUF's general.file_type: what most of the tensors are (llama.cpp's enumeration llama_ftype).
constexpr std::array kFileTypes = {
    FileType{0, "F32"},     FileType{1, "F16"},     FileType{2, "Q4_0"},    FileType{3, "Q4_1"},
    FileType{7, "Q8_0"},    FileType{8, "Q5_0"},    FileType{9, "Q5_1"},    FileType{10, "Q2_K"},
    FileType{11, "Q3_K_S"}, FileType{12, "Q3_K_M"}, FileType{13, "Q3_K_L"}, FileType{14, "Q4_K_S"},
    FileType{15, "Q4_K_M"}, FileType{16, "Q5_K_S"}, FileType{17, "Q5_K_M"}, FileType{18, "Q6_K"},
    FileType{25, "IQ4_NL"}, FileType{30, "IQ4_XS"}, FileType{32, "BF16"},   FileType{38, "MXFP4"}};

std::string_view quantization(const engine::Model& model) {
  const auto number = model.file().find<std::int64_t>("general.file_type");
  if (!number || !*number) return "unknown";
  const auto known = std::ranges::find(kFileTypes, **number, &FileType::number);
  return known == kFileTypes.end() ? "unknown" : known->name;
}

std::uint64_t parameter_count(const engine::Model& model) {
  std::uint64_t count = 0;
  for (const model::TensorInfo& tensor : model.file().tensors()) count += tensor.elements();
  return count;
}

// "596.05M", "8.2B"
std::string short_count(std::uint64_t count) {
  const auto value = static_cast<double>(count);
  if (value >= 1e9) return std::format("{:.1f}B", value / 1e9);
  if (value >= 1e6) return std::format("{:.2f}M", value / 1e6);
  return std::format("{:.2f}K", value / 1e3);
}

std::string details(const ServedModel& model) {
  const std::string family(model.model().description().architecture);
  return JsonObject()
      .text("parent_model", "")
      .text("format", "gguf")
      .text("family", family)
      .raw("families", std::format("[{}]", json_string(family)))
      .text("parameter_size", short_count(parameter_count(model.model())))
      .text("quantization_level", quantization(model.model()))
      .str();
}

// By the names that the file's own keys have, which begin with the architecture's.
std::string model_info(const ServedModel& model) {
  const model::ModelShape& shape = model.model().shape();
  const std::string architecture(model.model().description().architecture);
  JsonObject info;
  info.text("general.architecture", architecture);
  info.integer("general.parameter_count", static_cast<std::int64_t>(parameter_count(model.model())));
  const auto add = [&](std::string_view key, std::uint32_t value) {
    if (value != 0) info.integer(std::format("{}.{}", architecture, key), value);
  };
  add("context_length", shape.trained_context_tokens);
  add("block_count", shape.layer_count);
  add("embedding_length", shape.embedding_width);
  add("feed_forward_length", shape.feed_forward_width);
  add("attention.head_count", shape.head_count);
  add("attention.head_count_kv", shape.kv_head_count);
  add("attention.key_length", shape.key_head_width);
  add("attention.value_length", shape.value_head_width);
  add("vocab_size", shape.vocabulary_size);
  add("expert_count", shape.expert_count);
  add("expert_used_count", shape.experts_per_token);
  return info.str();
}

// Of all its parts.
std::size_t file_bytes(const model::GgufFile& file) {
  std::size_t bytes = 0;
  for (std::size_t part = 0; part < file.part_count(); ++part) bytes += file.part_bytes(part).size();
  return bytes;
}

std::chrono::system_clock::time_point modified_at(const ServedModel& model) {
  return std::chrono::system_clock::time_point(std::chrono::seconds(model.created()));
}

// What all lists say of a model.
JsonObject begin_entry(const ListedModel& listed) {
  JsonObject entry;
  entry.text("name", listed.name).text("model", listed.name).text("digest", listed.digest);
  return entry.raw("details", details(*listed.model));
}

}  // namespace

std::string time_text(std::chrono::system_clock::time_point time) {
  return std::format("{:%FT%TZ}", std::chrono::floor<std::chrono::microseconds>(time));
}

Result<std::string> take_model(Fields& body) {
  auto named = TRY(body.text("model"));
  auto by_old_name = TRY(body.text("name"));
  if (!named) named = std::move(by_old_name);
  if (!named) return body.wrong("model", "is missing");
  return *std::move(named);
}

Result<std::optional<Duration>> parse_keep_alive(Fields& body) {
  const Json* value = body.take("keep_alive");
  if (value == nullptr) return std::nullopt;
  const auto time = value->is_number()   ? node::keep_alive_of(value->as<double>())
                    : value->is_string() ? node::parse_keep_alive(value->get<std::string>())
                                         : node::parse_keep_alive("");
  if (!time) return body.wrong("keep_alive", "must be seconds, or a duration such as '5m'; negative: for ever");
  return *time;
}

std::string model_list(std::span<const ListedModel> models) {
  std::vector<std::string> entries;
  for (const ListedModel& listed : models) {
    entries.push_back(begin_entry(listed)
                          .text("modified_at", time_text(modified_at(*listed.model)))
                          .integer("size", static_cast<std::int64_t>(file_bytes(listed.model->model().file())))
                          .str());
  }
  return JsonObject().raw("models", json_array(entries)).str();
}

std::string running_list(std::span<const RunningModel> models) {
  // What stays for ever has to say some time all the same.
  static constexpr auto kLongTime = std::chrono::years(100);
  std::vector<std::string> entries;
  for (const RunningModel& running : models) {
    const auto left = running.expires_in == node::kForever ? Duration(kLongTime) : running.expires_in;
    const auto expires =
        std::chrono::system_clock::now() + std::chrono::duration_cast<std::chrono::system_clock::duration>(left);
    const auto bytes = static_cast<std::int64_t>(running.bytes);
    entries.push_back(begin_entry(running.listed)
                          .integer("size", bytes)
                          .text("expires_at", time_text(expires))
                          .integer("size_vram", bytes)
                          .integer("context_length", running.context_tokens)
                          .str());
  }
  return JsonObject().raw("models", json_array(entries)).str();
}

Result<std::string> show(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  TRY(take_model(body));
  body.allow({"verbose"});
  TRY(body.refuse_rest());
  std::vector<std::string> capabilities{json_string("completion")};
  if (model.can_fill_in()) capabilities.push_back(json_string("insert"));
  if (model.can_call()) capabilities.push_back(json_string("tools"));
  if (model.syntax().thinks != ThinkSyntax::kNone) capabilities.push_back(json_string("thinking"));
  return JsonObject()
      .text("modelfile", "")
      .text("parameters", "")
      .text("template", model.template_source())
      .text("modified_at", time_text(modified_at(model)))
      .raw("details", details(model))
      .raw("model_info", model_info(model))
      .raw("capabilities", json_array(capabilities))
      .str();
}

}  // namespace baton::serve::ollama
