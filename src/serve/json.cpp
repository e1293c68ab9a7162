#include "serve/json.h"

#include <cmath>
#include <format>

#include <glaze/json.hpp>

#include "text/utf8.h"

namespace baton::serve {

namespace {

// One value and nothing behind it.
struct OneValue : glz::opts {
  bool validate_trailing_whitespace = true;
};

std::string_view kind_of(const Json& value) {
  if (value.is_string()) return "a string";
  if (value.is_boolean()) return "a boolean";
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  if (value.is_null()) return "null";
  return "a number";
}

std::optional<double> number_of(const Json& value) {
  if (const auto* whole = std::get_if<std::int64_t>(&value.data)) return static_cast<double>(*whole);
  if (const auto* real = std::get_if<double>(&value.data)) return *real;
  return std::nullopt;
}

std::unexpected<Error> wrong_value(std::string path, std::string_view wanted, const Json& value) {
  std::string why = std::format("'{}' must be {}, not {}", path, wanted, kind_of(value));
  return fail(ErrorCode::kInvalidArgument, std::move(why), std::move(path));
}

}  // namespace

Result<Json> parse_json(std::string_view text) {
  if (text::valid_prefix_length(text) != text.size()) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("the body is not UTF-8: byte {} begins no character", text::valid_prefix_length(text)));
  }
  Json value;
  // A copy, as the parser reads up to a zero.
  const std::string copy(text);
  if (glz::read<OneValue{}>(value, copy)) {
    // Only glaze's validator knows the place: its reader forgets it, as the value may be of several kinds.
    return fail(ErrorCode::kInvalidArgument,
                std::format("the body is not JSON: it goes wrong at byte {}", glz::validate_json(copy).count));
  }
  return value;
}

Result<Json> parse_small_json(std::string_view text) {
  static constexpr std::size_t kMostBytes = 4096;
  if (text.size() > kMostBytes) {
    return fail(ErrorCode::kInvalidArgument, std::format("such a request has at most {} bytes", kMostBytes));
  }
  return parse_json(text);
}

std::string to_json(const Json& value) { return glz::write_json(value).value_or("null"); }

Result<Fields> Fields::of(const Json& value, std::string path) {
  if (!value.is_object()) {
    if (path.empty()) return fail(ErrorCode::kInvalidArgument, "the body must be a JSON object");
    return wrong_value(std::move(path), "an object", value);
  }
  return Fields(value.get_object(), std::move(path));
}

std::string Fields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : std::format("{}.{}", path_, name);
}

std::unexpected<Error> Fields::wrong(std::string_view name, std::string why) const {
  return fail(ErrorCode::kInvalidArgument, std::format("'{}' {}", path_of(name), why), path_of(name));
}

const Json* Fields::take(std::string_view name) {
  const auto found = members_->find(name);
  if (found == members_->end()) return nullptr;
  taken_.insert(std::string(name));
  return found->second.is_null() ? nullptr : &found->second;
}

Result<std::optional<std::string>> Fields::text(std::string_view name) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return wrong_value(path_of(name), "a string", *value);
  return value->get<std::string>();
}

Result<std::string> Fields::required_text(std::string_view name) {
  auto value = TRY(text(name));
  if (!value) return wrong(name, "is missing");
  return *std::move(value);
}

Result<std::optional<bool>> Fields::flag(std::string_view name) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return wrong_value(path_of(name), "true or false", *value);
  return value->get<bool>();
}

Result<std::optional<double>> Fields::number(std::string_view name, double least, double most) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  const auto number = number_of(*value);
  if (!number) return wrong_value(path_of(name), "a number", *value);
  if (!(*number >= least && *number <= most)) {
    return wrong(name, std::format("is {}, but must be from {} to {}", *number, least, most));
  }
  return *number;
}

Result<std::optional<std::int64_t>> Fields::integer(std::string_view name, std::int64_t least, std::int64_t most) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  const auto number = number_of(*value);
  if (!number) return wrong_value(path_of(name), "a whole number", *value);
  const auto* whole = std::get_if<std::int64_t>(&value->data);
  // 64.0 is a whole number too.
  constexpr double kExact = 1LL << 53;
  const bool exact = whole != nullptr || (std::abs(*number) <= kExact && std::floor(*number) == *number);
  const std::int64_t result = whole != nullptr ? *whole : exact ? static_cast<std::int64_t>(*number) : 0;
  if (!exact || result < least || result > most) {
    return wrong(name, std::format("is {}, but must be a whole number from {} to {}", *number, least, most));
  }
  return result;
}

Result<std::vector<std::string>> Fields::texts(std::string_view name, std::size_t most) {
  const Json* value = take(name);
  std::vector<std::string> texts;
  if (value == nullptr) return texts;
  if (value->is_string()) {
    texts.push_back(value->get<std::string>());
    return texts;
  }
  if (!value->is_array()) return wrong_value(path_of(name), "a string or an array of strings", *value);
  if (value->get_array().size() > most) return wrong(name, std::format("may hold at most {} strings", most));
  for (const Json& item : value->get_array()) {
    if (!item.is_string()) return wrong_value(path_of(name), "a string or an array of strings", item);
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

void Fields::allow(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) taken_.insert(std::string(name));
}

Result<void> Fields::refuse_rest() const {
  for (const auto& [name, value] : *members_) {
    if (taken_.contains(name) || value.is_null()) continue;
    return fail(ErrorCode::kUnsupported, std::format("'{}' is not supported by this server", path_of(name)),
                path_of(name));
  }
  return {};
}

std::string json_string(std::string_view text) {
  std::string valid;
  if (text::valid_prefix_length(text) != text.size()) {
    text::Utf8Decoder decoder;
    decoder.push(text, valid);
    decoder.finish(valid);
    text = valid;
  }
  std::string result = "\"";
  for (const char c : text) {
    switch (c) {
      case '"': result += "\\\""; break;
      case '\\': result += "\\\\"; break;
      case '\n': result += "\\n"; break;
      case '\r': result += "\\r"; break;
      case '\t': result += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          result += std::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          result += c;
        }
    }
  }
  result += '"';
  return result;
}

std::string json_number(double value) { return std::isfinite(value) ? std::format("{}", value) : "null"; }

std::string json_array(std::span<const std::string> items) {
  std::string result = "[";
  for (const std::string& item : items) {
    if (result.size() > 1) result += ',';
    result += item;
  }
  return result + "]";
}

JsonObject& JsonObject::raw(std::string_view name, std::string_view json) {
  if (!members_.empty()) members_ += ',';
  members_ += json_string(name);
  members_ += ':';
  members_ += json;
  return *this;
}

}  // namespace baton::serve
