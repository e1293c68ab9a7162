#include "node/kept_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "base/atomic_file.h"
#include "base/bytes.h"
#include "base/descriptor.h"
#include "base/system_error.h"

namespace baton::node {

namespace {

constexpr unsigned kKeptMode = 0600;
// Whoever gives a writing up waits for no more than this to reach the disk, and its dirty pages crowd out nothing.
constexpr std::size_t kSyncedBytes = 256U << 20U;

// Not mapped: whoever cut a mapped file short would end this process.
class KeptFileReader {
 public:
  static Result<KeptFileReader> open(const std::filesystem::path& path) {
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file.is_open()) return system_error("open", path);
    struct stat status{};
    if (::fstat(file.number(), &status) != 0) return system_error("inspect", path);
    if (!S_ISREG(status.st_mode)) return fail(ErrorCode::kCorrupt, "it is no file", path.string());
    return KeptFileReader(path, std::move(file), static_cast<std::uint64_t>(status.st_size));
  }

  std::uint64_t size() const { return size_; }

  Result<void> read(std::span<std::byte> into) {
    while (!into.empty()) {
      const ssize_t count = ::read(file_.number(), into.data(), into.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return system_error("read", path_);
      if (count == 0) return fail(ErrorCode::kCorrupt, "it ends too early", path_.string());
      into = into.subspan(static_cast<std::size_t>(count));
    }
    return {};
  }

 private:
  KeptFileReader(std::filesystem::path path, Descriptor file, std::uint64_t size)
      : path_(std::move(path)), file_(std::move(file)), size_(size) {}
  std::filesystem::path path_;  // for errors
  Descriptor file_;
  std::uint64_t size_;
};

// Leaves the reader at the first row.
Result<KeptHeader> read_header(KeptFileReader& file, const KeptShape& shape) {
  Bytes bytes(kKeptPreludeBytes);
  TRY(file.read(bytes));
  bytes.resize(TRY(kept_header_bytes(bytes, file.size())));
  TRY(file.read(std::span(bytes).subspan(kKeptPreludeBytes)));
  return parse_kept_header(shape, bytes, file.size());
}

Result<KeptHeader> in_file(const std::filesystem::path& path, Result<KeptHeader> header) {
  if (!header) header.error().context = path.string();
  return header;
}

}  // namespace

Result<void> write_kept_file(const std::filesystem::path& path, const KeptShape& shape, const KeptHeader& header,
                             const FillPiece& fill) {
  AtomicFile file = TRY(AtomicFile::create(path, kKeptMode));
  const std::uint64_t bytes = kept_file_bytes(shape, header);
  // So that a full disk shows before anything was copied.
  TRY(file.reserve(bytes));
  TRY(file.write(encode_kept_header(shape, header, bytes)));
  Checksum sum;
  Bytes buffer;
  std::size_t unsynced_bytes = 0;
  TRY(for_each_piece(shape, header, [&](const KeptPiece& piece) -> Result<void> {
    buffer.resize(piece.bytes());
    TRY(fill(piece, buffer));
    sum.update(buffer);
    TRY(file.write(buffer));
    unsynced_bytes += buffer.size();
    if (unsynced_bytes < kSyncedBytes) return {};
    unsynced_bytes = 0;
    return file.sync();
  }));
  const std::uint64_t value = sum.value();
  TRY(file.write(std::as_bytes(std::span(&value, 1))));
  return file.commit();
}

Result<KeptHeader> read_kept_header(const std::filesystem::path& path, const KeptShape& shape) {
  KeptFileReader file = TRY(KeptFileReader::open(path));
  return in_file(path, read_header(file, shape));
}

Result<void> read_kept_rows(const std::filesystem::path& path, const KeptShape& shape, const KeptHeader& header,
                            const TakePiece& take) {
  KeptFileReader file = TRY(KeptFileReader::open(path));
  if (TRY(in_file(path, read_header(file, shape))) != header) {
    return fail(ErrorCode::kNotFound, "another text took its place", path.string());
  }
  Checksum sum;
  Bytes buffer;
  TRY(for_each_piece(shape, header, [&](const KeptPiece& piece) -> Result<void> {
    buffer.resize(piece.bytes());
    TRY(file.read(buffer));
    sum.update(buffer);
    return take(piece, buffer);
  }));
  std::uint64_t value = 0;
  TRY(file.read(std::as_writable_bytes(std::span(&value, 1))));
  if (value != sum.value()) return fail(ErrorCode::kCorrupt, "its rows are damaged", path.string());
  return {};
}

}  // namespace baton::node
