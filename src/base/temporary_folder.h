// A folder for files that nobody needs for long.
#pragma once

#include <filesystem>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace baton {

// A new folder where the system keeps temporary files, for this user alone. Destroyed, it goes away with all that is
// in it. Movable; a folder moved from is nobody's.
class TemporaryFolder {
 public:
  // The folder's name begins with `prefix`. Errors: kNotFound or kIo, where the system has no place for it.
  static Result<TemporaryFolder> create(std::string_view prefix);
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&& other) noexcept;
  ~TemporaryFolder() { remove(); }

  const std::filesystem::path& path() const { return path_; }
  // Deletes it at once, for a process that will not live to destroy it. Changes nothing here, so any thread may.
  void remove() const;

 private:
  explicit TemporaryFolder(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;  // empty: nobody's
};

}  // namespace baton
