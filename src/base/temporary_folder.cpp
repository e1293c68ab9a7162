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
  // Another thread may still add a file to what is being emptied; once the folder is gone it cannot.
  constexpr int kAttempts = 10;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
    if (!error) return;
  }
}

}  // namespace baton
