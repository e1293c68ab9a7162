// JSON that strangers send, read with errors that name the field, and JSON that we write.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <glaze/json/generic_fwd.hpp>

#include "base/result.h"

namespace baton::serve {

// Any value; an object keeps the order of its keys.
using Json = glz::generic_i64;

inline constexpr std::string_view kJsonType = "application/json";

// kInvalidArgument, with the place, where it is no JSON, nested deeper than 200 levels, or not UTF-8.
Result<Json> parse_json(std::string_view text);
// Of a few words, which may be read on a thread that serves everybody: kInvalidArgument for more than 4096 bytes.
Result<Json> parse_small_json(std::string_view text);
std::string to_json(const Json& value);

// The members of an object, taken out one by one. Whatever nobody took is not supported, and refuse_rest() says so by
// name: nothing that a client asks for is dropped in silence. JSON's null counts as absent. Errors are kInvalidArgument
// with the member's path, such as "messages[2].role", as their context. Borrows the value.
class Fields {
 public:
  // `path` is empty for the body itself.
  static Result<Fields> of(const Json& value, std::string path = {});

  // The member as it is; null where it is absent.
  const Json* take(std::string_view name);
  Result<std::optional<std::string>> text(std::string_view name);
  Result<std::optional<bool>> flag(std::string_view name);
  Result<std::optional<double>> number(std::string_view name, double least, double most);
  Result<std::optional<std::int64_t>> integer(std::string_view name, std::int64_t least, std::int64_t most);
  // One text or several.
  Result<std::vector<std::string>> texts(std::string_view name, std::size_t most);
  Result<std::string> required_text(std::string_view name);
  // What may be said and changes no answer.
  void allow(std::initializer_list<std::string_view> names);

  Result<void> refuse_rest() const;

  const std::string& path() const { return path_; }
  std::string path_of(std::string_view name) const;
  std::unexpected<Error> wrong(std::string_view name, std::string why) const;

 private:
  Fields(const Json::object_t& members, std::string path) : members_(&members), path_(std::move(path)) {}

  const Json::object_t* members_;
  std::string path_;
  std::set<std::string, std::less<>> taken_;
};

// Quoted and escaped; bytes that are no UTF-8 become U+FFFD.
std::string json_string(std::string_view text);
std::string json_number(double value);
std::string json_array(std::span<const std::string> items);

// An object, written member by member.
class JsonObject {
 public:
  JsonObject& text(std::string_view name, std::string_view value) { return raw(name, json_string(value)); }
  JsonObject& number(std::string_view name, double value) { return raw(name, json_number(value)); }
  JsonObject& integer(std::string_view name, std::int64_t value) { return raw(name, std::to_string(value)); }
  JsonObject& flag(std::string_view name, bool value) { return raw(name, value ? "true" : "false"); }
  JsonObject& null(std::string_view name) { return raw(name, "null"); }
  // `json` is a value, written.
  JsonObject& raw(std::string_view name, std::string_view json);

  std::string str() const { return "{" + members_ + "}"; }

 private:
  std::string members_;
};

}  // namespace baton::serve
