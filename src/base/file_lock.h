// A lock that processes, and threads of one, take on a file.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "base/clock.h"
#include "base/descriptor.h"
#include "base/result.h"

namespace baton {

// An flock on a file, which is made for its owner alone where it is missing. Ends with the object, or the process.
// Movable. It keeps out only those who take it, too; two locks of one process keep each other out as well.
class FileLock {
 public:
  // Waits until nobody else has it, but no longer than `patience`: kTimeout, with the file's name. Whoever has it may
  // remove the file, or move it with its folder: the lock of the next is on a file of that path.
  static Result<FileLock> take(const std::filesystem::path& path, Duration patience = std::chrono::seconds(10));
  // kNoCapacity where somebody else has it, saying `taken`, with the file's folder as its context.
  static Result<FileLock> try_take(const std::filesystem::path& path, std::string taken);

 private:
  explicit FileLock(Descriptor file) : file_(std::move(file)) {}
  Descriptor file_;
};

}  // namespace baton
