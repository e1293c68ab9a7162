#include "base/temporary_folder.h"

#include <stdlib.h>

#include <format>
#include <string>

#include "base/system_error.h"

namespace baton {

Result<TemporaryFolder> TemporaryFolder::create(std::string_view prefix) {
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::temp_directory_path(error);
  if (error) return fail(ErrorCode::kIo, "there is no folder for temporary files ($TMPDIR): " + error.message());
  std::string path = (parent / std::format("{}.XXXXXX", prefix)).string();
  if (::mkdtemp(path.data()) == nullptr) return system_error("create a folder", path);
  return TemporaryFolder(std::move(path));
}

TemporaryFolder& TemporaryFolder::operator=(TemporaryFolder&& other) noexcept {
  std::swap(path_, other.path_);
  return *this;
}

void TemporaryFolder::remove() const {
  if (path_.empty()) return;
  // Another thread may still add files by the name that it knows; under another one hardly any comes, and it stays
  // empty. Who makes folders that are missing makes it anew, so this ends once nothing is there.
  const std::filesystem::path removed = path_.string() + ".removed";
  constexpr int kAttempts = 100;
  std::error_code error;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::filesystem::rename(path_, removed, error);
    std::filesystem::remove_all(removed, error);
    if (!std::filesystem::exists(path_, error) && !std::filesystem::exists(removed, error)) return;
  }
}

}  // namespace baton
