#include <cstdlib>

#include "net/service_record.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace baton;
  const auto record = net::decode_service_record(std::as_bytes(std::span(data, size)));
  if (!record) return 0;
  // What was read is written and read again as the same.
  const auto again = net::decode_service_record(net::encode(*record));
  if (record->addresses.empty() && (!again || *again != *record)) std::abort();
  return 0;
}
