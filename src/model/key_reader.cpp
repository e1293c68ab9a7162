#include "model/key_reader.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <functional>

namespace baton::model {

std::string KeyReader::name(std::string_view suffix) const { return std::format("{}.{}", architecture_, suffix); }

std::unexpected<Error> KeyReader::corrupt(std::string message) const {
  return file_.error(ErrorCode::kCorrupt, std::move(message));
}

std::unexpected<Error> KeyReader::unsupported(std::string message) const {
  return file_.error(ErrorCode::kUnsupported, std::move(message));
}

Result<std::uint32_t> KeyReader::checked(const std::string& key, std::uint32_t value, std::uint32_t limit) const {
  if (value < 1 || value > limit) return corrupt(std::format("'{}' is {}, not between 1 and {}", key, value, limit));
  return value;
}

Result<std::uint32_t> KeyReader::size(std::string_view suffix, std::uint32_t limit) const {
  const std::string key = name(suffix);
  const auto value = TRY(file_.get<std::uint32_t>(key));
  return checked(key, value, limit);
}

Result<std::uint32_t> KeyReader::size_or(std::string_view suffix, std::uint32_t fallback, std::uint32_t limit) const {
  const std::string key = name(suffix);
  const auto value = TRY(file_.get_or<std::uint32_t>(key, fallback));
  return checked(key, value, limit);
}

Result<std::uint32_t> KeyReader::count(std::string_view suffix, std::uint32_t limit) const {
  const std::string key = name(suffix);
  const auto value = TRY(file_.get_or<std::uint32_t>(key, 0));
  if (value > limit) return corrupt(std::format("'{}' is {}, more than {}", key, value, limit));
  return value;
}

Result<std::uint32_t> KeyReader::uniform(std::string_view suffix, std::uint32_t layers, std::uint32_t limit) const {
  const std::string key = name(suffix);
  const auto values = TRY(file_.get_per_layer<std::uint32_t>(key, layers));
  if (std::ranges::adjacent_find(values, std::not_equal_to<>()) != values.end()) {
    return unsupported(std::format("'{}' differs from layer to layer, which is not supported yet", key));
  }
  return checked(key, values.front(), limit);
}

Result<std::vector<std::uint32_t>> KeyReader::uniform_or_none(std::string_view suffix, std::uint32_t layers,
                                                              std::uint32_t limit) const {
  const std::string key = name(suffix);
  auto values = TRY(file_.get_per_layer<std::uint32_t>(key, layers));
  const std::uint32_t most = TRY(checked(key, *std::ranges::max_element(values), limit));
  const bool uniform = std::ranges::all_of(values, [&](std::uint32_t value) { return value == 0 || value == most; });
  if (!uniform) return unsupported(std::format("'{}' differs from layer to layer, which is not supported yet", key));
  return values;
}

Result<float> KeyReader::checked_positive(const std::string& key, float value) const {
  if (!std::isfinite(value) || value <= 0) return corrupt(std::format("'{}' is {}, not a positive number", key, value));
  return value;
}

Result<float> KeyReader::positive(std::string_view suffix) const {
  const std::string key = name(suffix);
  const auto value = TRY(file_.get<float>(key));
  return checked_positive(key, value);
}

Result<float> KeyReader::positive_or(std::string_view suffix, float fallback) const {
  const std::string key = name(suffix);
  const auto value = TRY(file_.get_or<float>(key, fallback));
  return checked_positive(key, value);
}

Result<float> KeyReader::factor_or(std::string_view suffix, float fallback) const {
  const std::string key = name(suffix);
  const auto value = TRY(file_.get_or<float>(key, fallback));
  if (!std::isfinite(value) || value < 0) {
    return corrupt(std::format("'{}' is {}, neither 0 nor a positive number", key, value));
  }
  return value;
}

Result<double> KeyReader::number(std::string_view suffix) const {
  const std::string key = name(suffix);
  const auto type = file_.type_of(key);
  if (type == ValueType::kF32 || type == ValueType::kF64) return file_.get<double>(key);
  return static_cast<double>(TRY(file_.get<std::int64_t>(key)));
}

}  // namespace baton::model
