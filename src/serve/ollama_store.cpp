#include "serve/ollama_store.h"

#include <algorithm>
#include <format>
#include <utility>
#include <variant>

#include "base/error_table.h"
#include "store/model_name.h"
#include "store/short_names.h"

namespace baton::serve::ollama {

namespace {

constexpr std::size_t kShownDigits = 12;
constexpr int kConflict = 409;

// Takes 'model', or 'name' as older clients call it.
Result<std::string> take_name(Fields& body) {
  const auto named = TRY(body.text("model"));
  const auto by_old_name = TRY(body.text("name"));
  const std::string name = named.value_or(by_old_name.value_or(""));
  if (name.empty()) return body.wrong("model", "is missing");
  return name;
}

std::unexpected<Error> no_name(std::string_view member, const std::string& given) {
  return fail(ErrorCode::kInvalidArgument,
              std::format("'{}' may be pulled, copied or deleted by no such name: it is one such as qwen3:8b, "
                          "hf.co/OWNER/REPO:QUANT or NODE/NAME, and no path or address",
                          given),
              std::string(member));
}

Result<std::string> checked_name(std::string_view member, const std::string& given) {
  const auto name = store::parse_model_name(given);
  if (!name) return no_name(member, given);
  if (std::holds_alternative<store::PathName>(*name) || std::holds_alternative<store::UrlName>(*name)) {
    return no_name(member, given);
  }
  const auto* short_name = std::get_if<store::ShortName>(&*name);
  return short_name == nullptr ? given : store::to_string(store::complete(*short_name));
}

std::string line(const JsonObject& object) { return object.str() + "\n"; }

}  // namespace

Result<PullWish> parse_pull(const Json& json) {
  Fields body = TRY(Fields::of(json));
  const std::string given = TRY(take_name(body));
  PullWish wish { .model = TRY(checked_name("model", given)) };
  const bool streams = TRY(body.flag("stream"))
  .value_or(true);
  wish.delivery = streams ? Delivery::kStream : Delivery::kWhole;
  if (TRY(body.flag("insecure")).value_or(false)) {
    return body.wrong("insecure", "is not supported: certificates and checksums are always checked");
  }
  TRY(body.refuse_rest());
  return wish;
}

Result<CopyWish> parse_copy(const Json& json) {
  Fields body = TRY(Fields::of(json));
  const std::string source = TRY(body.required_text("source"));
  const std::string destination = TRY(body.required_text("destination"));
  TRY(body.refuse_rest());
  return CopyWish {
    .source = TRY(checked_name("source", source))
    , .destination = TRY(checked_name("destination", destination))
  };
}

Result<std::string> parse_delete(const Json& json) {
  Fields body = TRY(Fields::of(json));
  const std::string name = TRY(take_name(body));
  TRY(body.refuse_rest());
  return checked_name("model", name);
}

std::string PullLines::say(const std::string& status) {
  if (status == last_) return "";
  last_ = status;
  return line(JsonObject().text("status", status));
}

std::string PullLines::progress(const store::PullProgress& progress) {
  switch (progress.phase) {
    case store::PullPhase::kAsking: return say("pulling manifest");
    case store::PullPhase::kWaiting: return say(std::format("trying again soon: {}", progress.problem));
    case store::PullPhase::kFinishing: return say("verifying sha256 digest") + say("writing manifest");
    case store::PullPhase::kChecking:
    case store::PullPhase::kDownloading: break;
  }
  JsonObject object;
  if (progress.file_sha256) {
    const std::string digest = progress.file_sha256->hex();
    object.text("status", "pulling " + digest.substr(0, kShownDigits)).text("digest", "sha256:" + digest);
  } else {
    object.text("status", "pulling " + progress.file);
  }
  // Clients draw a bar of it: it has an end.
  const std::uint64_t total = std::max(progress.file_bytes_total, progress.file_bytes_done);
  object.integer("total", static_cast<std::int64_t>(total));
  object.integer("completed", static_cast<std::int64_t>(progress.file_bytes_done));
  last_.clear();
  return line(object);
}

std::string PullLines::end(const Result<void>& end) {
  if (end) return line(JsonObject().text("status", "success"));
  return line(JsonObject().text("error", end.error().to_string()));
}

std::string success_body() { return JsonObject().text("status", "success").str(); }

int status_of_change(const Error& error) {
  return error.code == ErrorCode::kNoCapacity ? kConflict : http_status(error.code);
}

}  // namespace baton::serve::ollama
