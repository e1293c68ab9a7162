// A file that comes piece by piece, perhaps over several attempts and processes, with a digest over all of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>

#include "base/bytes.h"
#include "base/descriptor.h"
#include "base/digest.h"
#include "base/result.h"

namespace baton::store {

// What has come lies in `path`.part, and what it is a piece of (a server's ETag, a digest) in `path`.part.of. Movable.
// Errors name the file: kIo, also for a full disk, where the part stays.
class PartialFile {
 public:
  // Goes on with what is there, which is read once for the digest; `on_read` hears how far that is.
  static Result<PartialFile> open(const std::filesystem::path& path, const std::stop_token& stop,
                                  const std::function<void(std::uint64_t)>& on_read);
  PartialFile(PartialFile&&) noexcept = default;
  PartialFile& operator=(PartialFile&&) = delete;

  std::uint64_t size() const { return size_; }
  // Of what the bytes so far are a piece; empty where nobody said.
  const std::string& version() const { return version_; }

  Result<void> write(ByteSpan piece);
  // Forgets the bytes; those that come now are of another version.
  Result<void> restart(const std::string& version);
  // Of all bytes; once, and nothing is written afterwards.
  Sha256 digest() { return digest_.value(); }
  // It is complete and good: synced to disk, and renamed to `path`.
  Result<void> commit();
  // It is no good: removed.
  void discard();

 private:
  PartialFile(Descriptor file, std::filesystem::path path) : file_(std::move(file)), path_(std::move(path)) {}

  Descriptor file_;
  std::filesystem::path path_;
  std::string version_;
  std::uint64_t size_ = 0;
  Sha256Stream digest_;
};

// Where a file is collected, and what says which version of it.
std::filesystem::path part_path(const std::filesystem::path& path);

// Whether so many more bytes fit beside what is there: kIo, saying how many are free, where they do not.
Result<void> check_free_space(const std::filesystem::path& folder, std::uint64_t bytes);

}  // namespace baton::store
