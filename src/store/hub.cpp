#include "store/hub.h"

#include <algorithm>
#include <cstdlib>
#include <format>
#include <glaze/glaze.hpp>
#include <optional>
#include <utility>

namespace baton::store {

// A line of the tree's list, as the hub writes it.
struct TreeLfs {
  std::string oid;
  std::uint64_t size = 0;
};
struct TreeEntry {
  std::string type;
  std::string path;
  std::uint64_t size = 0;
  std::optional<TreeLfs> lfs;
};

namespace {

constexpr std::size_t kMaxListBytes = 16 << 20;
constexpr int kMaxPages = 100;
constexpr glz::opts kReadHub{.error_on_unknown_keys = false};

// The address with rel="next" in a Link header (RFC 8288).
std::string_view next_page(std::string_view link) {
  while (!link.empty()) {
    const std::size_t begin = link.find('<');
    const std::size_t end = link.find('>');
    if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) return {};
    const std::size_t comma = link.find(',', end);
    if (link.substr(end, comma == std::string_view::npos ? comma : comma - end).contains("rel=\"next\"")) {
      return link.substr(begin + 1, end - begin - 1);
    }
    if (comma == std::string_view::npos) return {};
    link = link.substr(comma + 1);
  }
  return {};
}

// A path of a repository that leads nowhere but into it.
bool is_harmless(std::string_view path) {
  if (path.empty() || path.size() > 1024 || path.front() == '/') return false;
  return !path.contains("..") && std::ranges::none_of(path, [](char c) { return c >= 0 && c < ' '; });
}

}  // namespace

HubOptions HubOptions::from_environment() {
  HubOptions options;
  if (const char* endpoint = std::getenv("HF_ENDPOINT"); endpoint != nullptr && *endpoint != '\0') {
    options.endpoint = endpoint;
    while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  }
  if (const char* token = std::getenv("HF_TOKEN"); token != nullptr) options.token = token;
  return options;
}

Result<Url> Hub::file_url(const HubName& repository, std::string_view path) const {
  return Url::parse(std::format("{}/{}/{}/resolve/main/{}", options_.endpoint, repository.owner, repository.repository,
                                percent_encode_path(path)));
}

Result<std::vector<RemoteFile>> Hub::files(const HubName& repository) const {
  const std::string what = std::format("hf.co/{}/{}", repository.owner, repository.repository);
  Url url = TRY(Url::parse(std::format("{}/api/models/{}/{}/tree/main?recursive=true", options_.endpoint,
                                       repository.owner, repository.repository)));
  HttpClient client(options_.http, stop_);
  std::vector<RemoteFile> files;
  for (int page = 0; page < kMaxPages; ++page) {
    const HttpAnswer answer = TRY(client.fetch({.url = url, .bearer_token = options_.token}, kMaxListBytes));
    if (!answer.head.ok()) return std::unexpected(status_error(answer.head, what, options_.token));
    std::vector<TreeEntry> entries;
    if (const auto error = glz::read<kReadHub>(entries, answer.body)) {
      return fail(ErrorCode::kProtocol,
                  std::format("{} does not answer with a list of files, as a hub does", url.authority()), what);
    }
    for (TreeEntry& entry : entries) {
      if (entry.type != "file" || !is_harmless(entry.path)) continue;
      RemoteFile file{std::move(entry.path), entry.size, std::nullopt};
      if (entry.lfs) {
        file.bytes = entry.lfs->size;
        if (const auto digest = Sha256::parse(entry.lfs->oid)) file.sha256 = *digest;
      }
      files.push_back(std::move(file));
    }
    const std::string_view next = next_page(answer.head.header("link"));
    if (next.empty()) return files;
    const Url next_url = TRY(url.resolve(next));
    if (!next_url.same_origin(url)) return fail(ErrorCode::kProtocol, "its list goes on at another host", what);
    url = next_url;
  }
  return fail(ErrorCode::kProtocol, "its list of files has no end", what);
}

Error status_error(const HttpHead& head, std::string_view what, std::string_view token) {
  const std::string host = head.url.authority();
  const std::string_view reason = head.header("x-error-code");
  const bool gated = reason == "GatedRepo" || head.status == 403;
  if (head.status == 401 || head.status == 403) {
    const std::string advice = token.empty() ? "set HF_TOKEN to a token of yours"
                               : gated       ? "accept its licence there in a browser with your account"
                                             : "HF_TOKEN is not one that may read it";
    return {ErrorCode::kRefused,
            std::format("{} does not give it to everybody (status {}): if it exists, {}", host, head.status, advice),
            std::string(what)};
  }
  if (head.status == 404) return {ErrorCode::kNotFound, std::format("{} does not have it", host), std::string(what)};
  if (head.status == 429) {
    return {ErrorCode::kUnavailable,
            std::format("{} gets too many requests from here: try again later{}", host,
                        token.empty() ? ", or set HF_TOKEN" : ""),
            std::string(what)};
  }
  if (head.status >= 500) {
    return {ErrorCode::kUnavailable, std::format("{} has a problem (status {}): try again later", host, head.status),
            std::string(what)};
  }
  return {ErrorCode::kProtocol, std::format("{} answers with status {}", host, head.status), std::string(what)};
}

}  // namespace baton::store
