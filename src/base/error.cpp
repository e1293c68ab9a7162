#include "base/result.h"

namespace baton {

namespace {

struct CodeFacts {
  std::string_view name;
  int exit_code;
};

CodeFacts facts(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return {"invalid_argument", 2};
    case ErrorCode::kNotFound: return {"not_found", 3};
    case ErrorCode::kUnsupported: return {"unsupported", 4};
    case ErrorCode::kCorrupt: return {"corrupt", 5};
    case ErrorCode::kIo: return {"io", 6};
    case ErrorCode::kNoCapacity: return {"no_capacity", 7};
    case ErrorCode::kRefused: return {"refused", 8};
    case ErrorCode::kUnavailable: return {"unavailable", 9};
    case ErrorCode::kTimeout: return {"timeout", 10};
    case ErrorCode::kProtocol: return {"protocol", 11};
    case ErrorCode::kCancelled: return {"cancelled", 130};
    case ErrorCode::kInternal: return {"internal", 1};
  }
  return {"internal", 1};
}

}  // namespace

std::string Error::to_string() const { return context.empty() ? message : context + ": " + message; }

std::string_view error_code_name(ErrorCode code) { return facts(code).name; }

int exit_code(ErrorCode code) { return facts(code).exit_code; }

}  // namespace baton
