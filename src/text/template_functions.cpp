#include "text/template_functions.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <minja/minja.hpp>
#include <stdexcept>

namespace baton::text {
namespace {

using Json = nlohmann::ordered_json;
using minja::ArgumentsValue;
using minja::Value;
using ContextPointer = std::shared_ptr<minja::Context>;

// An argument by its place or its name; null where there is none.
Value argument(ArgumentsValue& args, std::size_t place, const std::string& name) {
  return place < args.args.size() ? args.args[place] : args.get_named(name);
}

// As json.dumps() lays it out: nlohmann's own layout has other spaces.
class JsonWriter {
 public:
  struct Layout {
    bool ascii = false;
    std::int64_t indent = -1;  // none where negative
    std::string between_items = ", ";
    std::string after_key = ": ";
    bool sorted = false;
  };
  explicit JsonWriter(Layout layout) : layout_(std::move(layout)) {}

  std::string take() { return std::move(out_); }
  void write(const Json& value, std::size_t level = 0) {
    if (!value.is_structured() || value.empty()) return write_plain(value);
    out_ += value.is_object() ? '{' : '[';
    bool first = true;
    for (const auto& [key, entry] : items_of(value)) {
      if (!first) out_ += layout_.between_items;
      first = false;
      new_line(level + 1);
      if (value.is_object()) {
        write_plain(key);
        out_ += layout_.after_key;
      }
      write(*entry, level + 1);
    }
    new_line(level);
    out_ += value.is_object() ? '}' : ']';
  }

 private:
  std::vector<std::pair<std::string, const Json*>> items_of(const Json& value) const {
    std::vector<std::pair<std::string, const Json*>> items;
    for (const auto& item : value.items()) items.emplace_back(item.key(), &item.value());
    if (layout_.sorted && value.is_object()) {
      std::ranges::sort(items, {}, &std::pair<std::string, const Json*>::first);
    }
    return items;
  }
  void write_plain(const Json& value) { out_ += value.dump(-1, ' ', layout_.ascii, Json::error_handler_t::replace); }
  void new_line(std::size_t depth) {
    if (layout_.indent < 0) return;
    out_ += '\n';
    out_.append(static_cast<std::size_t>(layout_.indent) * depth, ' ');
  }

  Layout layout_;
  std::string out_;
};

Value to_json(const ContextPointer&, ArgumentsValue& args) {
  args.expectArgs("tojson", {1, 5}, {0, 4});
  JsonWriter::Layout layout;
  layout.ascii = argument(args, 1, "ensure_ascii").to_bool();
  const Value indent = argument(args, 2, "indent");
  if (!indent.is_null()) {
    layout.indent = std::clamp<std::int64_t>(indent.get<std::int64_t>(), 0, 100);
    layout.between_items = ",";
  }
  const Value separators = argument(args, 3, "separators");
  if (!separators.is_null()) {
    layout.between_items = separators.at(std::size_t{0}).get<std::string>();
    layout.after_key = separators.at(std::size_t{1}).get<std::string>();
  }
  layout.sorted = argument(args, 4, "sort_keys").to_bool();
  JsonWriter writer(std::move(layout));
  writer.write(args.args[0].get<Json>());
  return writer.take();
}

Value replace_filter(const ContextPointer&, ArgumentsValue& args) {
  args.expectArgs("replace", {3, 3}, {0, 0});
  std::string text = args.args[0].to_str();
  const std::string from = args.args[1].to_str();
  const std::string to = args.args[2].to_str();
  if (from.empty()) throw std::runtime_error("replace() needs a text to look for");
  for (std::size_t i = text.find(from); i != std::string::npos; i = text.find(from, i + to.size())) {
    text.replace(i, from.size(), to);
  }
  return text;
}

Value first_filter(const ContextPointer&, ArgumentsValue& args) {
  args.expectArgs("first", {1, 1}, {0, 0});
  return args.args[0].empty() ? Value() : args.args[0].at(std::size_t{0});
}

Value abs_filter(const ContextPointer&, ArgumentsValue& args) {
  args.expectArgs("abs", {1, 1}, {0, 0});
  if (args.args[0].is_number_integer()) return std::abs(args.args[0].get<std::int64_t>());
  return std::abs(args.args[0].get<double>());
}

Value round_filter(const ContextPointer&, ArgumentsValue& args) {
  args.expectArgs("round", {1, 3}, {0, 2});
  const Value precision = argument(args, 1, "precision");
  const Value method = argument(args, 2, "method");
  const std::string way = method.is_null() ? "common" : method.get<std::string>();
  const double scale = std::pow(10.0, precision.is_null() ? 0.0 : precision.get<double>());
  const double scaled = args.args[0].get<double>() * scale;
  if (way == "ceil") return std::ceil(scaled) / scale;
  if (way == "floor") return std::floor(scaled) / scale;
  if (way != "common") throw std::runtime_error("round() knows 'common', 'ceil' and 'floor', not '" + way + "'");
  // To even, as Python does.
  return std::nearbyint(scaled) / scale;
}

Value defined_test(const ContextPointer&, ArgumentsValue& args) {
  return !args.args.empty() && !args.args[0].is_null();
}

Value raise_exception(const ContextPointer&, ArgumentsValue& args) {
  throw TemplateRefusal{args.args.empty() ? "it gives no reason" : args.args[0].to_str()};
}

}  // namespace

void add_functions(minja::Context& context) {
  context.set("abs", Value::callable(abs_filter));
  context.set("defined", Value::callable(defined_test));
  context.set("first", Value::callable(first_filter));
  context.set("raise_exception", Value::callable(raise_exception));
  context.set("replace", Value::callable(replace_filter));
  context.set("round", Value::callable(round_filter));
  context.set("tojson", Value::callable(to_json));
}

void add_time_function(minja::Context& context, std::time_t local_seconds) {
  context.set("strftime_now", Value::callable([local_seconds](const ContextPointer&, ArgumentsValue& args) -> Value {
                args.expectArgs("strftime_now", {1, 1}, {0, 0});
                // The local time's number, taken apart as it is.
                std::tm parts{};
                ::gmtime_r(&local_seconds, &parts);
                std::array<char, 256> buffer{};
                const std::string format = args.args[0].get<std::string>();
                return std::string(buffer.data(), std::strftime(buffer.data(), buffer.size(), format.c_str(), &parts));
              }));
}

}  // namespace baton::text
