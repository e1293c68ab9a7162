// A large file written piece by piece that nobody sees until it is whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace baton {

// Writes to a neighbour of `path` and renames it there in commit(). Destroyed before that, or after an error, it
// removes what it wrote; what a killed process left beside `path` goes with the next AtomicFile there. Where a link
// stands at `path`, the file that it leads to is replaced; into a pipe or a device it writes at once. Movable; not
// thread-safe. Errors: kNotFound for a missing folder, kInvalidArgument for a folder in the file's place, else kIo,
// with the path.
class AtomicFile {
 public:
  // Whether a file of that name is what some process writes to, or was, in place of a neighbour called `name`.
  static bool is_temporary_of(std::string_view name, std::string_view temporary);

  static Result<AtomicFile> create(const std::filesystem::path& path, unsigned mode = 0644);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();

  // Takes the room on disk at once where the file system can, so that a full disk shows before the work begins.
  Result<void> reserve(std::uint64_t bytes);
  Result<void> write(ByteSpan part);
  // What was written so far reaches the disk now, so that commit() has little left to wait for.
  Result<void> sync();
  // Syncs to disk and renames into place.
  Result<void> commit();

 private:
  AtomicFile(int descriptor, std::filesystem::path path, std::filesystem::path temporary)
      : descriptor_(descriptor), path_(std::move(path)), temporary_(std::move(temporary)) {}

  int descriptor_ = -1;
  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty for what is written at once
};

}  // namespace baton
