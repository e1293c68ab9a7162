#include "base/bytes.h"

#include <format>

namespace baton {

std::unexpected<Error> ByteReader::short_read(std::uint64_t wanted) const {
  return fail(ErrorCode::kCorrupt,
              std::format("needs {} bytes at byte {}, but only {} are left", wanted, position_, remaining()));
}

}  // namespace baton
