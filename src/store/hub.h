// The model hub's API: which files a repository has, and where they are.
// API: https://huggingface.co/docs/hub/api (tree), https://huggingface.co/docs/huggingface_hub (resolve, ETags).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "store/http_client.h"
#include "store/model_name.h"
#include "store/quantisation.h"

namespace baton::store {

struct HubOptions {
  std::string endpoint = "https://huggingface.co";
  std::string token = {};  // of the user, for what is not public; empty: none
  HttpOptions http = {};
  Duration first_retry_delay = std::chrono::seconds(1);  // doubles with every failure
  int most_failures = 6;                                 // one after another, without a byte between them

  // HF_ENDPOINT and HF_TOKEN, where they are set.
  static HubOptions from_environment();
};

class Hub {
 public:
  explicit Hub(const HubOptions& options, std::stop_token stop = {}) : options_(options), stop_(std::move(stop)) {}

  // All files of the repository's main branch. Errors: those of HttpClient; kNotFound, kRefused, kUnavailable as the
  // hub says; kProtocol for an answer that is no list.
  Result<std::vector<RemoteFile>> files(const HubName& repository) const;

  Result<Url> file_url(const HubName& repository, std::string_view path) const;

 private:
  const HubOptions& options_;
  std::stop_token stop_;
};

// What a status other than 2xx means to who wanted `what`.
Error status_error(const HttpHead& head, std::string_view what, std::string_view token);

}  // namespace baton::store
