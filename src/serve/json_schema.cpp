#include "serve/json_schema.h"

#include <algorithm>
#include <charconv>
#include <format>
#include <set>

#include "serve/json_numbers.h"
#include "text/pattern.h"

namespace baton::serve {

namespace {

using text::byte_range;
using text::ByteLanguage;
using text::ByteSet;
using Node = ByteLanguage::Node;

constexpr std::int64_t kMostCount = UINT32_MAX - 1;
constexpr std::size_t kLongestFieldName = 256;
constexpr std::size_t kMostAlternatives = 256;
constexpr int kMostReferences = 16;  // that lead to one another

// Formats of strings as expressions: JSON Schema Validation, section 7.3, in its narrow reading. No date has more than
// 28 days, for then each exists.
struct Format {
  std::string_view name;
  std::string_view pattern;
};
constexpr Format kFormats[] = {
    {"date", R"(\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8]))"},
    {"time", R"(([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d))"},
    {"date-time",
     R"(\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d))"},
    {"uuid", R"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"},
    {"ipv4", R"(((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))"},
    {"email",
     R"([A-Za-z0-9_+-]{1,32}(\.[A-Za-z0-9_+-]{1,32}){0,3}@[a-z0-9]{1,32}(\.[a-z0-9]{1,32}){0,3}\.[a-z]{2,10})"},
};

const Json* member_of(const Json& value, std::string_view name) {
  if (!value.is_object()) return nullptr;
  const auto found = value.get_object().find(name);
  return found == value.get_object().end() ? nullptr : &found->second;
}

std::string_view type_of(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "boolean";
  if (value.is_string()) return "string";
  if (value.is_array()) return "array";
  if (value.is_object()) return "object";
  return "number";
}

// Whole numbers are numbers, too.
bool is_of_type(const Json& value, std::string_view type) {
  if (type == "integer") return std::holds_alternative<std::int64_t>(value.data);
  return type_of(value) == type;
}

constexpr std::string_view kTypes[] = {"object", "array", "string", "number", "integer", "boolean", "null"};

// Keywords that tell the type where none is named.
constexpr std::pair<std::string_view, std::string_view> kTellingKeywords[] = {
    {"properties", "object"},
    {"required", "object"},
    {"additionalProperties", "object"},
    {"items", "array"},
    {"prefixItems", "array"},
    {"minItems", "array"},
    {"maxItems", "array"},
    {"minLength", "string"},
    {"maxLength", "string"},
    {"pattern", "string"},
    {"format", "string"},
    {"minimum", "number"},
    {"maximum", "number"},
    {"multipleOf", "number"},
    {"exclusiveMinimum", "number"},
    {"exclusiveMaximum", "number"},
};

std::uint32_t count_of(std::optional<std::int64_t> given, std::uint32_t otherwise) {
  return given ? static_cast<std::uint32_t>(*given) : otherwise;
}

// The values that a schema names one by one, where it does.
std::optional<std::vector<std::string>> named_values(const Json& schema) {
  if (const Json* constant = member_of(schema, "const")) return std::vector{to_json(*constant)};
  const Json* values = member_of(schema, "enum");
  if (values == nullptr || !values->is_array()) return std::nullopt;
  std::vector<std::string> texts;
  for (const Json& value : values->get_array()) texts.push_back(to_json(value));
  return texts;
}

// The types that a schema names, as bits in the order of kTypes; all where it names none. A number may be whole.
unsigned type_bits(const Json& schema) {
  constexpr unsigned kAll = 0x7F;
  const auto bits_of = [](std::string_view name) {
    const auto at = static_cast<unsigned>(std::ranges::find(kTypes, name) - std::begin(kTypes));
    return name == "number" ? 0b11000U : 1U << at;
  };
  const Json* type = member_of(schema, "type");
  if (type == nullptr) return kAll;
  if (type->is_string()) return bits_of(type->get<std::string>());
  if (!type->is_array()) return kAll;
  unsigned bits = 0;
  for (const Json& one : type->get_array()) bits |= one.is_string() ? bits_of(one.get<std::string>()) : kAll;
  return bits;
}

bool requires_member(const Json& schema, std::string_view name) {
  const Json* required = member_of(schema, "required");
  if (required == nullptr || !required->is_array()) return false;
  return std::ranges::any_of(required->get_array(),
                             [&](const Json& one) { return one.is_string() && one.get<std::string>() == name; });
}

}  // namespace

JsonLanguage::JsonLanguage(ByteLanguage& language) : language_(language) {}

Result<Node> JsonLanguage::values(const Json& schema, const std::string& path) {
  if (to_json(schema).size() > kMostSchemaBytes) {
    return fail(
        ErrorCode::kInvalidArgument,
        std::format("'{}' is larger than {} KiB, the most that a schema may have", path, kMostSchemaBytes >> 10), path);
  }
  Root root{&schema, path, {}, {}};
  root_ = &root;
  const Node node = TRY(value(schema, path, 0));
  while (!root.to_define.empty()) {
    const std::string name = std::move(root.to_define.back());
    root.to_define.pop_back();
    const Json* found = TRY(find_reference(name, path));
    language_.define(root.rules.at(name), TRY(value(*found, path + name.substr(1), 0)));
  }
  root_ = nullptr;
  return node;
}

Result<Node> JsonLanguage::value(const Json& schema, const std::string& path, int depth) {
  if (depth > kMostSchemaDepth) {
    return fail(ErrorCode::kUnsupported, std::format("'{}' lies deeper than {} levels", path, kMostSchemaDepth), path);
  }
  if (schema.is_boolean()) return schema.get<bool>() ? any_value() : ByteLanguage::kNothing;
  Fields fields = TRY(Fields::of(schema, path));
  fields.allow({"title", "description", "default", "example", "examples", "$schema", "$id", "$comment", "deprecated",
                "readOnly", "writeOnly", "$defs", "definitions"});
  Node node = ByteLanguage::kNothing;
  if (const Json* name = fields.take("$ref")) {
    if (!name->is_string()) return fields.wrong("$ref", "must be a string");
    node = TRY(reference(name->get<std::string>(), fields.path_of("$ref")));
  } else if (const Json* choices = fields.take("enum"); choices != nullptr || member_of(schema, "const") != nullptr) {
    // The constant may be null, which elsewhere counts as absent.
    const Json* constant = member_of(schema, "const");
    fields.allow({"const", "type"});
    node = TRY(named(fields, constant, choices, type_bits(schema)));
  } else if (const Json* any = fields.take("anyOf")) {
    node = TRY(any_of(*any, fields.path_of("anyOf"), depth));
  } else if (const Json* one = fields.take("oneOf")) {
    node = TRY(one_of(*one, fields.path_of("oneOf"), depth));
  } else if (const Json* all = fields.take("allOf")) {
    if (!all->is_array() || all->get_array().size() != 1) {
      return fail(ErrorCode::kUnsupported,
                  std::format("'{}' is only supported with a single schema", fields.path_of("allOf")),
                  fields.path_of("allOf"));
    }
    node = TRY(value(all->get_array().front(), fields.path_of("allOf[0]"), depth + 1));
  } else {
    std::vector<std::string> types = TRY(fields.texts("type", std::size(kTypes)));
    for (const std::string& type : types) {
      if (std::ranges::find(kTypes, type) == std::end(kTypes)) {
        return fields.wrong("type", std::format("names '{}', which is no type of JSON", type));
      }
    }
    if (types.empty()) {
      for (const auto& [keyword, type] : kTellingKeywords) {
        const bool named = std::ranges::find(types, type) != types.end();
        if (!named && member_of(schema, keyword) != nullptr) types.emplace_back(type);
      }
    }
    node = types.empty() ? any_value() : TRY(of_types(fields, types, path, depth));
  }
  TRY(fields.refuse_rest());
  return node;
}

Result<Node> JsonLanguage::named(const Fields& fields, const Json* constant, const Json* choices, unsigned types) {
  std::vector<std::string> texts;
  const auto add = [&](const Json& one) {
    for (std::size_t index = 0; index < std::size(kTypes); ++index) {
      if ((types >> index & 1) == 0 || !is_of_type(one, kTypes[index])) continue;
      texts.push_back(to_json(one));
      return;
    }
  };
  if (choices != nullptr && !choices->is_array()) return fields.wrong("enum", "must be an array");
  if (constant != nullptr && choices != nullptr) {
    const auto& all = choices->get_array();
    const std::string only = to_json(*constant);
    if (std::ranges::none_of(all, [&](const Json& one) { return to_json(one) == only; })) return ByteLanguage::kNothing;
  }
  if (constant != nullptr) {
    add(*constant);
  } else {
    std::ranges::for_each(choices->get_array(), add);
  }
  return language_.one_of(std::move(texts));
}

Result<Node> JsonLanguage::of_types(Fields& fields, const std::vector<std::string>& types, const std::string& path,
                                    int depth) {
  std::vector<Node> choices;
  for (const std::string& type : types) {
    if (type == "null") {
      choices.push_back(language_.literal("null"));
    } else if (type == "boolean") {
      choices.push_back(language_.one_of({"true", "false"}));
    } else if (type == "string") {
      choices.push_back(TRY(string(fields)));
    } else if (type == "object") {
      choices.push_back(TRY(object(fields, path, depth)));
    } else if (type == "array") {
      choices.push_back(TRY(array(fields, path, depth)));
    } else {
      choices.push_back(TRY(number(fields, type)));
    }
  }
  return language_.either(std::move(choices));
}

Result<Node> JsonLanguage::string(Fields& fields) {
  const auto least = TRY(fields.integer("minLength", 0, kMostCount));
  const auto most = TRY(fields.integer("maxLength", 0, kMostCount));
  const auto pattern = TRY(fields.text("pattern"));
  const auto format = TRY(fields.text("format"));
  if (pattern && (least || most || format)) {
    return fail(ErrorCode::kUnsupported,
                std::format("'{}' is not supported beside minLength, maxLength or format", fields.path_of("pattern")),
                fields.path_of("pattern"));
  }
  if (format && (least || most)) {
    return fail(ErrorCode::kUnsupported,
                std::format("'{}' is not supported beside minLength or maxLength", fields.path_of("format")),
                fields.path_of("format"));
  }
  if (pattern || format) {
    std::string expression = pattern.value_or("");
    if (format) {
      const auto known = std::ranges::find(kFormats, *format, &Format::name);
      if (known == std::end(kFormats)) {
        return fail(
            ErrorCode::kUnsupported,
            std::format("the format '{}' is not supported by this server ('{}')", *format, fields.path_of("format")),
            fields.path_of("format"));
      }
      expression = std::format("^({})$", known->pattern);
    }
    const text::PatternAlphabet alphabet{.any = character(), .beyond = plain_character(byte_range(0, 0x7F))};
    auto body = text::compile_pattern(language_, expression, alphabet);
    if (!body) return fail(body.error().code, body.error().message, fields.path_of("pattern"));
    return language_.sequence({language_.byte('"'), *body, language_.byte('"')});
  }
  if (least && most && *least > *most) return ByteLanguage::kNothing;
  return text_of(count_of(least, 0), count_of(most, ByteLanguage::kUnbounded));
}

Result<Node> JsonLanguage::number(Fields& fields, std::string_view type) {
  constexpr double kLargest = 1e300;
  NumberBounds bounds;
  bounds.minimum = TRY(fields.number("minimum", -kLargest, kLargest));
  bounds.maximum = TRY(fields.number("maximum", -kLargest, kLargest));
  bounds.exclusive_minimum = TRY(fields.number("exclusiveMinimum", -kLargest, kLargest));
  bounds.exclusive_maximum = TRY(fields.number("exclusiveMaximum", -kLargest, kLargest));
  const auto multiple = TRY(fields.number("multipleOf", -kLargest, kLargest));
  if (multiple && *multiple != 1) {
    return fail(ErrorCode::kUnsupported, std::format("'{}' can only be 1 here", fields.path_of("multipleOf")),
                fields.path_of("multipleOf"));
  }
  if (type == "integer" || multiple) return whole_numbers(language_, bounds.least_whole(), bounds.most_whole());
  return numbers(language_, bounds);
}

Result<Node> JsonLanguage::array(Fields& fields, const std::string& path, int depth) {
  const auto least_given = TRY(fields.integer("minItems", 0, kMostCount));
  const auto most_given = TRY(fields.integer("maxItems", 0, kMostCount));
  const std::uint32_t least = count_of(least_given, 0);
  const std::uint32_t most = count_of(most_given, ByteLanguage::kUnbounded);
  if (TRY(fields.flag("uniqueItems")).value_or(false)) {
    return fail(ErrorCode::kUnsupported,
                std::format("'{}' is not supported by this server", fields.path_of("uniqueItems")),
                fields.path_of("uniqueItems"));
  }
  const Json* prefix = fields.take("prefixItems");
  const Json* items = fields.take("items");
  const Node item = items == nullptr ? any_value() : TRY(value(*items, path + ".items", depth + 1));
  if (least > most) return ByteLanguage::kNothing;
  Node inner = ByteLanguage::kNothing;
  if (prefix == nullptr) {
    inner = list(item, least, most);
  } else {
    if (!prefix->is_array()) return fields.wrong("prefixItems", "must be an array");
    const auto first = static_cast<std::uint32_t>(std::min<std::size_t>(prefix->get_array().size(), most));
    inner = ByteLanguage::kEmpty;
    for (std::uint32_t index = 0; index < first; ++index) {
      if (index > 0) inner = language_.sequence(inner, separator());
      const std::string at = std::format("{}.prefixItems[{}]", path, index);
      inner = language_.sequence(inner, TRY(value(prefix->get_array()[index], at, depth + 1)));
    }
    if (first == 0) {
      inner = list(item, least, most);
    } else if (items != nullptr || least > first) {
      // Without a word about the others, none are written but those that must be.
      const std::uint32_t more_least = least > first ? least - first : 0;
      const std::uint32_t more_most = items == nullptr                   ? more_least
                                      : most == ByteLanguage::kUnbounded ? ByteLanguage::kUnbounded
                                                                         : most - first;
      inner = language_.sequence(inner, language_.repeat(language_.sequence(separator(), item), more_least, more_most));
    }
  }
  return language_.sequence({language_.byte('['), blank(), inner, blank(), language_.byte(']')});
}

Result<Node> JsonLanguage::object(Fields& fields, const std::string& path, int depth) {
  const Json* properties = fields.take("properties");
  const Json* additional = fields.take("additionalProperties");
  const Json* required_list = fields.take("required");
  std::set<std::string, std::less<>> required;
  if (required_list != nullptr) {
    if (!required_list->is_array()) return fields.wrong("required", "must be an array of strings");
    for (const Json& name : required_list->get_array()) {
      if (!name.is_string()) return fields.wrong("required", "must be an array of strings");
      required.insert(name.get<std::string>());
    }
  }
  // What nobody has declared comes only where the schema speaks of it, or declares nothing at all.
  Node other = properties == nullptr ? any_value() : ByteLanguage::kNothing;
  Node undeclared = any_value();
  if (additional != nullptr) {
    other = TRY(value(*additional, path + ".additionalProperties", depth + 1));
    undeclared = other;
  }
  std::vector<std::pair<Node, bool>> declared;
  std::vector<std::string> names;
  const auto declare = [&](const std::string& name, Node node) -> Result<void> {
    if (name.size() > kLongestFieldName) {
      return fail(ErrorCode::kUnsupported,
                  std::format("'{}' names a member of more than {} bytes", path, kLongestFieldName), path);
    }
    names.push_back(name);
    declared.emplace_back(member(name, node), required.contains(name));
    return {};
  };
  if (properties != nullptr) {
    if (!properties->is_object()) return fields.wrong("properties", "must be an object");
    for (const auto& [name, inner] : properties->get_object()) {
      TRY(declare(name, TRY(value(inner, std::format("{}.properties.{}", path, name), depth + 1))));
    }
  }
  for (const std::string& name : required) {
    if (std::ranges::find(names, name) == names.end()) TRY(declare(name, undeclared));
  }
  Node extra = ByteLanguage::kNothing;
  if (other != ByteLanguage::kNothing) {
    extra = language_.sequence(
        {language_.byte('"'), other_key(std::move(names)), language_.literal("\":"), blank(), other});
  }
  return language_.sequence({language_.byte('{'), blank(), members(declared, extra), blank(), language_.byte('}')});
}

Result<Node> JsonLanguage::any_of(const Json& choices, const std::string& path, int depth) {
  if (!choices.is_array() || choices.get_array().empty()) {
    return fail(ErrorCode::kInvalidArgument, std::format("'{}' must be an array of schemas", path), path);
  }
  std::vector<Node> nodes;
  for (std::size_t index = 0; index < choices.get_array().size(); ++index) {
    nodes.push_back(TRY(value(choices.get_array()[index], std::format("{}[{}]", path, index), depth + 1)));
  }
  return language_.either(std::move(nodes));
}

// Exactly one may hold, and no text is compared with the others: so they have to be told apart beforehand.
Result<Node> JsonLanguage::one_of(const Json& choices, const std::string& path, int depth) {
  const Node node = TRY(any_of(choices, path, depth));
  const auto& all = choices.get_array();
  if (all.size() > kMostAlternatives) {
    return fail(ErrorCode::kUnsupported, std::format("'{}' has more than {} schemas", path, kMostAlternatives), path);
  }
  for (std::size_t left = 0; left < all.size(); ++left) {
    for (std::size_t right = left + 1; right < all.size(); ++right) {
      if (disjoint(all[left], all[right])) continue;
      return fail(ErrorCode::kUnsupported,
                  std::format("'{}' is only supported where its schemas are told apart by their types or by a required "
                              "constant member, and {} and {} are not: 'anyOf' would do",
                              path, left, right),
                  path);
    }
  }
  return node;
}

bool JsonLanguage::disjoint(const Json& left_given, const Json& right_given) const {
  const Json* left = resolved(left_given);
  const Json* right = resolved(right_given);
  if (left == nullptr || right == nullptr || !left->is_object() || !right->is_object()) return false;
  if ((type_bits(*left) & type_bits(*right)) == 0) return true;
  const auto apart = [](const Json& one, const Json& other) {
    auto values = named_values(one);
    auto others = named_values(other);
    if (!values || !others) return false;
    return std::ranges::none_of(*values,
                                [&](const auto& text) { return std::ranges::find(*others, text) != others->end(); });
  };
  if (apart(*left, *right)) return true;
  const Json* properties = member_of(*left, "properties");
  const Json* others = member_of(*right, "properties");
  // Where the type is not 'object' alone, a value without members is allowed by both.
  if (type_bits(*left) != 1 || type_bits(*right) != 1) return false;
  if (properties == nullptr || others == nullptr || !properties->is_object()) return false;
  return std::ranges::any_of(properties->get_object(), [&](const auto& property) {
    const Json* other = member_of(*others, property.first);
    if (other == nullptr || !requires_member(*left, property.first) || !requires_member(*right, property.first)) {
      return false;
    }
    const Json* one = resolved(property.second);
    other = resolved(*other);
    return one != nullptr && other != nullptr && apart(*one, *other);
  });
}

const Json* JsonLanguage::resolved(const Json& schema) const {
  const Json* found = &schema;
  for (int steps = 0; steps < kMostReferences; ++steps) {
    const Json* name = member_of(*found, "$ref");
    if (name == nullptr) return found;
    if (!name->is_string()) return nullptr;
    const auto next = find_reference(name->get<std::string>(), {});
    if (!next) return nullptr;
    found = *next;
  }
  return nullptr;
}

Result<Node> JsonLanguage::reference(const std::string& name, const std::string& path) {
  TRY(find_reference(name, path));
  const auto [rule, added] = root_->rules.try_emplace(name, ByteLanguage::kNothing);
  if (added) {
    rule->second = language_.new_rule();
    root_->to_define.push_back(name);
  }
  return rule->second;
}

// A JSON pointer within the same schema (RFC 6901).
Result<const Json*> JsonLanguage::find_reference(std::string_view name, const std::string& path) const {
  const auto unknown = [&] {
    return fail(ErrorCode::kUnsupported,
                std::format("'{}' is '{}', which is no part of this schema: only references such as '#/$defs/name' are "
                            "followed",
                            path, name),
                path);
  };
  if (!name.starts_with('#') || (name.size() > 1 && name[1] != '/')) return unknown();
  const Json* found = root_->schema;
  for (std::size_t at = 1; at < name.size();) {
    const std::size_t end = std::min(name.find('/', at + 1), name.size());
    std::string step;
    for (std::size_t index = at + 1; index < end; ++index) {
      const bool escape = name[index] == '~' && index + 1 < end;
      step += !escape ? name[index] : name[++index] == '1' ? '/' : '~';
    }
    at = end;
    if (found->is_array()) {
      std::size_t index = 0;
      const auto [last, error] = std::from_chars(step.data(), step.data() + step.size(), index);
      if (error != std::errc() || last != step.data() + step.size() || index >= found->get_array().size()) {
        return unknown();
      }
      found = &found->get_array()[index];
    } else {
      found = member_of(*found, step);
      if (found == nullptr) return unknown();
    }
  }
  return found;
}

}  // namespace baton::serve
