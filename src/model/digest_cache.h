// The digest that names a model in plans, leases and receipts.
#pragma once

#include <filesystem>
#include <span>
#include <stop_token>

#include "base/digest.h"
#include "base/result.h"

namespace baton::model {

// The SHA-256 of the whole file. It is computed once (about a second per gigabyte) and kept beside the file as
// `<file>.sha256`, or in $XDG_CACHE_HOME/baton where that folder cannot be written or seems to be another program's
// cache (the file is a link, or not called .gguf); a kept digest counts only while the file's size, modification time
// and inode are the same. Where neither place can be written it is computed each time. Several processes may do this at
// once. Errors: kNotFound or kIo where the model itself cannot be read; kCancelled by `stop`, within milliseconds.
Result<Sha256> model_digest(const std::filesystem::path& path, const std::stop_token& stop = {});

// Of a model in several files, in order: the SHA-256 of a line "baton-parts 1" and a line with each file's digest, in
// lower-case hexadecimal. Of one file it is that file's.
Result<Sha256> model_digest(std::span<const std::filesystem::path> parts, const std::stop_token& stop = {});

// The same of digests that are known.
Sha256 digest_of_parts(std::span<const Sha256> digests);

// Keeps the digest of a file that the caller has just written and hashed, and that nobody else writes.
void remember_digest(const std::filesystem::path& path, const Sha256& digest);

}  // namespace baton::model
