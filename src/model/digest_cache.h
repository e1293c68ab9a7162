// The digest that names a model in plans, leases and receipts.
#pragma once

#include <filesystem>

#include "base/digest.h"
#include "base/result.h"

namespace baton::model {

// The SHA-256 of the whole file. It is computed once (about a second per gigabyte) and kept beside the file as
// `<file>.sha256`, or where that folder cannot be written in $XDG_CACHE_HOME/baton; a kept digest counts only while the
// file's size, modification time and inode are the same. Where neither place can be written it is computed each time.
// Several processes may do this at once. Errors: kNotFound or kIo where the model itself cannot be read.
Result<Sha256> model_digest(const std::filesystem::path& path);

}  // namespace baton::model
