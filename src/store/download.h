// One file from an HTTP server to the disk: resumed where an earlier attempt broke off, and verified.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "base/digest.h"
#include "store/hub.h"

namespace baton::store {

struct Download {
  std::string what;  // for messages
  Url url;
  std::filesystem::path path;  // complete at the end; meanwhile its part lies beside it
  std::uint64_t bytes = 0;     // 0: the server will say
  std::optional<Sha256> sha256 = std::nullopt;
};

struct DownloadEvents {
  std::function<void(std::uint64_t bytes_here)> checking;
  std::function<void(std::uint64_t bytes_here, std::uint64_t bytes_total)> came;
  std::function<void(const Error& problem)> waiting;
};

// Its digest. What is lost on the way is asked for again, from where it broke off, options.most_failures times; a part
// of another version of the file is thrown away, and so is one whose digest is wrong (kCorrupt). Without a digest to
// compare with, the ETag alone says that the pieces are of one file. Errors as Store::pull has them.
Result<Sha256> download(const Download& file, const HubOptions& options, const DownloadEvents& events,
                        const std::stop_token& stop);

// Waits so long, or until the token is stopped; false then.
bool wait_unless_stopped(Duration duration, const std::stop_token& stop);

}  // namespace baton::store
