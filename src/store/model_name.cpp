#include "store/model_name.h"

#include <algorithm>
#include <array>
#include <format>
#include <utility>

#include "base/ascii.h"

namespace baton::store {

namespace {

constexpr std::size_t kMaxNameBytes = 200;
constexpr std::size_t kMaxNamedUrlBytes = 4096;
constexpr std::string_view kLatest = ":latest";
constexpr std::string_view kDigestPrefix = "sha256:";
constexpr std::size_t kDigestDigits = 64;

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool is_component(std::string_view text) {
  return !text.empty() && text.front() != '.' && text.front() != '-' && std::ranges::all_of(text, is_name_char);
}

bool ends_with_gguf(std::string_view text) { return ascii_lower(text).ends_with(".gguf"); }

std::unexpected<Error> no_name(std::string_view text) {
  // What a terminal may show of it.
  std::string shown;
  for (const char c : text.substr(0, kMaxNameBytes)) shown += c >= ' ' && c <= '~' ? c : '?';
  return fail(ErrorCode::kInvalidArgument,
              std::format("'{}' names no model: give a GGUF file, a name such as qwen3:8b, hf.co/OWNER/REPO[:QUANT], "
                          "a URL, or NODE/NAME",
                          shown));
}

Result<ModelName> parse_hub(std::string_view text, std::string_view whole) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return no_name(whole);
  const std::string_view owner = text.substr(0, slash);
  std::string_view repository = text.substr(slash + 1);
  std::string_view quantisation;
  if (const std::size_t colon = repository.find(':'); colon != std::string_view::npos) {
    quantisation = repository.substr(colon + 1);
    repository = repository.substr(0, colon);
    if (!is_component(quantisation)) return no_name(whole);
  }
  if (!is_component(owner) || !is_component(repository)) return no_name(whole);
  // What Ollama calls the one it chooses itself.
  if (ascii_lower(quantisation) == "latest") quantisation = {};
  return HubName{std::string(owner), std::string(repository), std::string(quantisation)};
}

Result<ModelName> parse_short(std::string_view text, std::string_view whole) {
  const std::size_t colon = text.find(':');
  const std::string_view family = text.substr(0, colon);
  const std::string_view tag = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  if (!is_component(family) || (colon != std::string_view::npos && !is_component(tag))) return no_name(whole);
  return ShortName{ascii_lower(family), ascii_lower(tag)};
}

}  // namespace

Result<ModelName> parse_model_name(std::string_view text) {
  if (text.starts_with("https://") || text.starts_with("http://")) {
    const bool printable = std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
    if (!printable || text.size() > kMaxNamedUrlBytes) return no_name(text);
    return UrlName{std::string(text)};
  }
  if (text.empty() || text.size() > kMaxNamedUrlBytes || text.find('\0') != std::string_view::npos)
    return no_name(text);
  for (const std::string_view hub : {"hf.co/", "huggingface.co/"}) {
    if (text.starts_with(hub)) return parse_hub(text.substr(hub.size()), text);
  }
  const bool like_a_path = text.front() == '/' || text.front() == '.' || text.front() == '~' || ends_with_gguf(text);
  if (like_a_path) return PathName{std::string(text)};
  if (text.size() > kMaxNameBytes) return no_name(text);
  if (const std::size_t slash = text.find('/'); slash != std::string_view::npos) {
    const std::string_view node = text.substr(0, slash);
    const std::string_view model = text.substr(slash + 1);
    if (!is_component(node) || !is_plain_name(model)) return no_name(text);
    return NodeName{std::string(node), std::string(model)};
  }
  return parse_short(text, text);
}

std::string to_string(const ModelName& name) {
  struct Writer {
    std::string operator()(const PathName& path) const { return path.path; }
    std::string operator()(const ShortName& name) const {
      return name.tag.empty() ? name.family : name.family + ":" + name.tag;
    }
    std::string operator()(const HubName& hub) const {
      return std::format("hf.co/{}/{}{}{}", hub.owner, hub.repository, hub.quantisation.empty() ? "" : ":",
                         hub.quantisation);
    }
    std::string operator()(const UrlName& url) const { return url.url; }
    std::string operator()(const NodeName& node) const { return node.node + "/" + node.model; }
  };
  return std::visit(Writer(), name);
}

bool same_name(std::string_view left, std::string_view right) {
  const auto without_latest = [](std::string_view name) {
    std::string text = ascii_lower(name);
    if (text.ends_with(kLatest)) text.resize(text.size() - kLatest.size());
    return text;
  };
  return without_latest(left) == without_latest(right);
}

bool is_of_repository(std::string_view model, const HubName& hub) {
  const std::string text = ascii_lower(model);
  const std::string whole = ascii_lower(to_string(hub));
  return text == whole || (hub.quantisation.empty() && text.starts_with(whole + ":"));
}

std::optional<std::string> digest_digits(std::string_view text) {
  if (text.starts_with(kDigestPrefix)) text.remove_prefix(kDigestPrefix.size());
  const bool hex = std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (!hex || text.size() < kLeastDigestDigits || text.size() > kDigestDigits) return std::nullopt;
  return std::string(text);
}

bool is_plain_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes) return false;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = name.find_first_of("/:", begin);
    if (!is_component(name.substr(begin, end - begin))) return false;
    if (end == std::string_view::npos) return true;
    begin = end + 1;
  }
}

bool is_plain_file_name(std::string_view name) {
  // 255 bytes is what file systems take; some of it is for ".part" and ".sha256".
  return name.size() <= kMaxNameBytes && is_component(name);
}

}  // namespace baton::store
