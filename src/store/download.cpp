#include "store/download.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <format>
#include <mutex>
#include <utility>

#include "store/partial_file.h"

namespace baton::store {

namespace {

constexpr auto kLongestDelay = std::chrono::seconds(60);

struct ContentRange {
  std::uint64_t begin = 0;
  std::optional<std::uint64_t> total;
};

// "bytes 100-199/1000" (RFC 9110, section 14.4).
std::optional<ContentRange> parse_content_range(std::string_view text) {
  static constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) return std::nullopt;
  text.remove_prefix(kUnit.size());
  ContentRange range;
  const char* const end = text.data() + text.size();
  const auto begin = std::from_chars(text.data(), end, range.begin);
  const std::size_t slash = text.find('/');
  if (begin.ec != std::errc() || begin.ptr == end || *begin.ptr != '-' || slash == std::string_view::npos) {
    return std::nullopt;
  }
  std::uint64_t total = 0;
  const auto last = std::from_chars(text.data() + slash + 1, end, total);
  if (last.ec == std::errc() && last.ptr == end) range.total = total;
  return range;
}

class Downloader {
 public:
  Downloader(const Download& file, const HubOptions& options, const DownloadEvents& events, std::stop_token stop,
             PartialFile part)
      : file_(file),
        options_(options),
        events_(events),
        stop_(std::move(stop)),
        part_(std::move(part)),
        expected_bytes_(file.bytes),
        expected_sha256_(file.sha256) {}

  Result<Sha256> run() {
    int failures = 0;
    while (true) {
      const std::uint64_t before = part_.size();
      const auto done = attempt();
      if (done) break;
      const Error& error = done.error();
      const bool passing = error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kTimeout;
      if (!passing) return std::unexpected(error);
      failures = part_.size() > before ? 1 : failures + 1;
      if (failures >= options_.most_failures) return std::unexpected(error);
      events_.waiting(error);
      const Duration doubled = options_.first_retry_delay * (1 << std::min(failures - 1, 16));
      const Duration delay = std::min(std::max(doubled, asked_delay_), Duration(kLongestDelay));
      asked_delay_ = Duration::zero();
      if (!wait_unless_stopped(delay, stop_)) return fail(ErrorCode::kCancelled, "stopped", file_.what);
    }
    return verify();
  }

 private:
  bool complete() const { return expected_bytes_ > 0 && part_.size() == expected_bytes_; }

  Result<void> attempt() {
    // Bytes of nobody knows what, or of another version.
    const std::string known = expected_sha256_ ? expected_sha256_->hex() : "";
    if (part_.size() > 0 && (part_.version().empty() || (!known.empty() && part_.version() != known))) {
      TRY(part_.restart(known));
    }
    if (complete()) return {};
    HttpRequest request{.url = file_.url, .bearer_token = token()};
    if (part_.size() > 0) {
      request.headers["Range"] = std::format("bytes={}-", part_.size());
      if (part_.version().starts_with('"')) request.headers["If-Range"] = part_.version();
    }
    HttpClient client(options_.http, stop_);
    TRY(client.stream(
        request, [this](const HttpHead& head) { return on_head(head); },
        [this](ByteSpan piece) { return on_piece(piece); }));
    if (expected_bytes_ > 0 && part_.size() < expected_bytes_) {
      return fail(ErrorCode::kUnavailable, std::format("it ended at byte {} of {}", part_.size(), expected_bytes_),
                  file_.what);
    }
    return {};
  }

  // To the hub alone; what else a person names is somebody else's.
  std::string token() const {
    const auto hub = Url::parse(options_.endpoint);
    return hub && hub->same_origin(file_.url) ? options_.token : "";
  }

  Result<void> on_head(const HttpHead& head) {
    if (head.status == 416) {
      TRY(part_.restart(""));
      return fail(ErrorCode::kUnavailable, "it has fewer bytes than have come: all of them are asked for again",
                  file_.what);
    }
    if (!head.ok()) {
      std::uint64_t wait_s = 0;
      const std::string_view text = head.header("retry-after");
      if (std::from_chars(text.data(), text.data() + text.size(), wait_s).ec == std::errc()) {
        asked_delay_ = std::chrono::seconds(std::min<std::uint64_t>(wait_s, 3600));
      }
      return std::unexpected(status_error(head, file_.what, token()));
    }
    TRY(learn_digest(head));
    std::optional<std::uint64_t> total = head.content_length();
    if (head.status == 206) {
      const auto range = parse_content_range(head.header("content-range"));
      if (!range || range->begin != part_.size()) {
        return fail(ErrorCode::kProtocol, "it answers with another range than was asked for", file_.what);
      }
      total = range->total;
    } else {
      TRY(part_.restart(expected_sha256_ ? expected_sha256_->hex() : strong_etag(head)));
    }
    if (total && expected_bytes_ > 0 && *total != expected_bytes_) {
      return fail(ErrorCode::kCorrupt,
                  std::format("{} says that it has {} bytes, but it should have {}", head.url.authority(), *total,
                              expected_bytes_),
                  file_.what);
    }
    if (total) expected_bytes_ = *total;
    if (expected_bytes_ > part_.size()) {
      TRY(check_free_space(file_.path.parent_path(), expected_bytes_ - part_.size()));
    }
    return {};
  }

  // The hub tells the digest of a large file with the redirect to its storage.
  Result<void> learn_digest(const HttpHead& head) {
    const auto linked = head.linked.find("x-linked-etag");
    if (expected_sha256_ || linked == head.linked.end()) return {};
    std::string text = linked->second;
    std::erase(text, '"');
    if (const auto digest = Sha256::parse(text)) expected_sha256_ = *digest;
    return {};
  }

  // A weak one (RFC 9110, section 8.8.1) does not say that the bytes are the same.
  static std::string strong_etag(const HttpHead& head) {
    const std::string_view etag = head.header("etag");
    return etag.starts_with('"') ? std::string(etag) : "";
  }

  Result<void> on_piece(ByteSpan piece) {
    if (expected_bytes_ > 0 && part_.size() + piece.size() > expected_bytes_) {
      part_.discard();
      return fail(ErrorCode::kCorrupt,
                  std::format("it has more than the {} bytes that it should have", expected_bytes_), file_.what);
    }
    TRY(part_.write(piece));
    events_.came(part_.size(), expected_bytes_);
    return {};
  }

  Result<Sha256> verify() {
    const Sha256 digest = part_.digest();
    if (expected_sha256_ && digest != *expected_sha256_) {
      part_.discard();
      return fail(ErrorCode::kCorrupt,
                  std::format("its SHA-256 is {}, but it should be {}: what came is thrown away, pull it again",
                              digest.hex(), expected_sha256_->hex()),
                  file_.what);
    }
    TRY(part_.commit());
    return digest;
  }

  const Download& file_;
  const HubOptions& options_;
  const DownloadEvents& events_;
  std::stop_token stop_;
  PartialFile part_;
  std::uint64_t expected_bytes_;
  std::optional<Sha256> expected_sha256_;
  Duration asked_delay_{};
};

}  // namespace

Result<Sha256> download(const Download& file, const HubOptions& options, const DownloadEvents& events,
                        const std::stop_token& stop) {
  PartialFile part = TRY(PartialFile::open(file.path, stop, events.checking));
  return Downloader(file, options, events, stop, std::move(part)).run();
}

bool wait_unless_stopped(Duration duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any stopped;
  std::unique_lock lock(mutex);
  return !stopped.wait_for(lock, stop, duration, [&] { return stop.stop_requested(); });
}

}  // namespace baton::store
