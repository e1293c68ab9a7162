#include "text/template_renderer.h"

#include <algorithm>
#include <ctime>
#include <exception>
#include <format>
#include <minja/minja.hpp>

#include "text/template_functions.h"
#include "text/template_parentheses.h"

namespace baton::text {
namespace {

using Json = nlohmann::ordered_json;
// minja's "what at row 3, column 5:\n<source>", for each level that it passed, as " at line 3: what".
std::string shorten(std::string_view message) {
  constexpr std::string_view kPlace = " at row ";
  constexpr std::size_t kMaxWhatBytes = 300;
  const std::size_t place = message.find(kPlace);
  const std::string_view what = message.substr(0, std::min(place, kMaxWhatBytes));
  if (place == std::string_view::npos) return std::format(": {}", what);
  const std::string_view row = message.substr(place + kPlace.size());
  return std::format(" at line {}: {}", row.substr(0, row.find(',')), what);
}

}  // namespace

TemplateAnswer TemplateRenderer::parse(std::string_view source) {
  std::string adapted = add_parentheses(source);
  // Jinja does not count the last line's end.
  if (adapted.ends_with('\n')) adapted.pop_back();
  try {
    root_ = minja::Parser::parse(adapted, {.trim_blocks = true, .lstrip_blocks = true, .keep_trailing_newline = true});
    return {};
  } catch (const std::exception& error) {
    return {TemplateOutcome::kFailed, shorten(error.what())};
  }
}

TemplateAnswer TemplateRenderer::render(std::string_view request_json) const {
  try {
    Json request = Json::parse(request_json);
    const auto context = minja::Context::make(minja::Value(request["variables"]));
    add_functions(*context);
    const Json& seconds = request["local_seconds"];
    if (!seconds.is_null()) add_time_function(*context, seconds.get<std::time_t>());
    std::string text = root_->render(context);
    const auto max_bytes = request["max_text_bytes"].get<std::size_t>();
    if (text.size() > max_bytes) {
      return {TemplateOutcome::kFailed,
              std::format(": it makes {} bytes of text, more than {} for this conversation", text.size(), max_bytes)};
    }
    return {TemplateOutcome::kDone, std::move(text)};
  } catch (const TemplateRefusal& refusal) {
    return {TemplateOutcome::kRefused, refusal.words.substr(0, kTemplateMaxWordsBytes)};
  } catch (const std::exception& error) {
    return {TemplateOutcome::kFailed, shorten(error.what())};
  }
}

}  // namespace baton::text
