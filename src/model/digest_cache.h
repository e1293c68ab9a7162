// The digest that names a model in plans, leases and receipts.
#pragma once

#include <filesystem>
#include <span>

#include "base/digest.h"
#include "base/result.h"

namespace baton::model {

// The SHA-256 of the whole file. It is computed once (about a second per gigabyte) and kept beside the file as
// `<file>.sha256`, or where that folder cannot be written in $XDG_CACHE_HOME/baton; a kept digest counts only while the
// file's size, modification time and inode are the same. Where neither place can be written it is computed each time.
// Several processes may do this at once. Errors: kNotFound or kIo where the model itself cannot be read.
Result<Sha256> model_digest(const std::filesystem::path& path);

// Of a model in several files, in order: the SHA-256 of a line "baton-parts 1" and a line with each file's digest, in
// lower-case hexadecimal. Of one file it is that file's.
Result<Sha256> model_digest(std::span<const std::filesystem::path> parts);

}  // namespace baton::model
