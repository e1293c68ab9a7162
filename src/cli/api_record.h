// Where this machine's other processes find the API of the node that runs here: a note in the data folder.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "net/endpoint.h"

namespace baton::cli {

// Written while a node serves; gone with it.
class ApiRecord {
 public:
  static Result<ApiRecord> write(const std::filesystem::path& folder, const net::Endpoint& api);
  ApiRecord(ApiRecord&& other) noexcept;
  ApiRecord& operator=(ApiRecord&&) = delete;
  ~ApiRecord();

  // Where a process of this machine reaches it. kNotFound where no node runs with this folder, as far as it is known:
  // one that was killed leaves its note behind.
  static Result<net::Endpoint> read(const std::filesystem::path& folder);

 private:
  explicit ApiRecord(std::filesystem::path file) : file_(std::move(file)) {}
  std::filesystem::path file_;  // empty when it was moved from
};

}  // namespace baton::cli
