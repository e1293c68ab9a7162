// Files: mapped for reading, or written whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace baton {

// A file mapped read-only into memory until the object is destroyed. Movable; safe to read from any thread.
// If another process cuts the file short meanwhile, reading the lost part raises SIGBUS, as with every mapping.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  ByteSpan bytes() const { return {data_, size_}; }
  // Tells the system that these bytes are not needed soon, so that they stop counting as resident.
  void release(ByteSpan part) const;

 private:
  MappedFile(const std::byte* data, std::size_t size) : data_(data), size_(size) {}
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// A pipe or a terminal is read to its end.
Result<std::string> read_text_file(const std::filesystem::path& path);

// An AtomicFile written at once: a reader, a crash or a full disk never sees half a file. `mode` is the file's
// permission bits.
Result<void> write_file(const std::filesystem::path& path, ByteSpan content, unsigned mode = 0644);

}  // namespace baton
