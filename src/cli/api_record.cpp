#include "cli/api_record.h"

#include <format>
#include <system_error>
#include <utility>

#include "base/file.h"

namespace baton::cli {

namespace {

constexpr std::string_view kFileName = "api-address";

// A server that listens everywhere is reached here, too.
net::Endpoint reachable(net::Endpoint api) {
  if (api.host.empty() || api.host == "0.0.0.0") api.host = "127.0.0.1";
  if (api.host == "::") api.host = "::1";
  return api;
}

}  // namespace

Result<ApiRecord> ApiRecord::write(const std::filesystem::path& folder, const net::Endpoint& api) {
  const std::filesystem::path file = folder / kFileName;
  TRY(write_file(file, as_byte_span(reachable(api).to_string() + "\n")));
  return ApiRecord(file);
}

ApiRecord::ApiRecord(ApiRecord&& other) noexcept : file_(std::exchange(other.file_, {})) {}

ApiRecord::~ApiRecord() {
  std::error_code ignored;
  if (!file_.empty()) std::filesystem::remove(file_, ignored);
}

Result<net::Endpoint> ApiRecord::read(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / kFileName;
  auto text = read_text_file(file);
  if (!text) {
    return fail(ErrorCode::kNotFound,
                std::format("no model file is given, and no node runs with this data folder ({}): start one with "
                            "'baton up MODEL', or name a file",
                            folder.string()));
  }
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return net::Endpoint::parse(*text);
}

}  // namespace baton::cli
