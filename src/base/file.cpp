#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "base/atomic_file.h"
#include "base/descriptor.h"
#include "base/memory.h"
#include "base/stream.h"
#include "base/system_error.h"

namespace baton {

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return system_error("open", path);
  struct stat status{};
  if (::fstat(file.number(), &status) != 0) return system_error("inspect", path);
  if (!S_ISREG(status.st_mode)) return fail(ErrorCode::kInvalidArgument, "is not a regular file", path.string());
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return MappedFile(nullptr, 0);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.number(), 0);
  if (data == MAP_FAILED) return system_error("map", path);
  MappedFile mapped(static_cast<const std::byte*>(data), size);
  advise_large_pages(mapped.bytes());
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(ByteSpan part) const {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(part.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(part.data() + part.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

Result<std::string> read_text_file(const std::filesystem::path& path) {
  std::error_code unknown;
  const auto type = std::filesystem::status(path, unknown).type();
  if (type == std::filesystem::file_type::fifo || type == std::filesystem::file_type::character) {
    const Descriptor stream(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!stream.is_open()) return system_error("open", path);
    return read_to_end(stream.number(), path.string());
  }
  const MappedFile file = TRY(MappedFile::open(path));
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

Result<void> write_file(const std::filesystem::path& path, ByteSpan content, unsigned mode) {
  AtomicFile file = TRY(AtomicFile::create(path, mode));
  TRY(file.write(content));
  return file.commit();
}

}  // namespace baton
