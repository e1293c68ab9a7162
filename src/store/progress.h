// How far a pull has come.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/digest.h"

namespace baton::store {

enum class PullPhase {
  kAsking,       // what there is, and how large
  kChecking,     // what an earlier pull has left here
  kDownloading,  //
  kWaiting,      // the other side is gone or busy: it is asked again soon
  kFinishing,    // everything is here: written down and opened once
};

struct PullProgress {
  PullPhase phase = PullPhase::kAsking;
  std::string from = {};                   // "hf.co/OWNER/REPO:QUANT", "node spark", a URL
  std::string file = {};                   // the part under way
  std::optional<Sha256> file_sha256 = {};  // where it is known before
  std::uint64_t file_bytes_done = 0;
  std::uint64_t file_bytes_total = 0;  // 0: not known yet
  std::string problem = {};            // kWaiting: what happened
  std::uint64_t bytes_done = 0;        // of all parts
  std::uint64_t bytes_total = 0;       // 0: not known yet
};

// Called on the thread that pulls, about ten times a second and at every change of phase.
using OnProgress = std::function<void(const PullProgress&)>;

}  // namespace baton::store
