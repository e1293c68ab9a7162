// How `baton plan` tells what it weighed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/text_output.h"
#include "plan/planner.h"

namespace baton::cli {

// A plan as --json shows it.
struct PlanRow {
  std::string name;
  double queue_s = 0;
  double prefill_s = 0;
  double transfer_s = 0;
  double exposed_s = 0;
  double decode_s = 0;
  double total_s = 0;
  double first_token_s = 0;
  double disturbance_s = 0;
  double memory_bytes = 0;
  std::vector<std::uint32_t> split;  // the layers at which one prefill stage hands over to the next
  std::string codec;                 // of the KV on the wire, by commas where stages differ; empty: none is sent
  std::uint32_t chunk_tokens = 0;
  std::string plan;  // "prefill=spark:0-26,m3ultra:26-32;decode=m3ultra:0-32"
};

struct PlanReport {
  std::string model;
  std::uint32_t prompt_tokens = 0;
  double output_tokens = 0;
  std::string chosen;
  std::string why;
  bool predicted = true;  // no plan was run
  bool exhaustive = true;
  double planning_ms = 0;
  std::vector<PlanRow> plans;
};

PlanReport make_report(const plan::Cluster& cluster, const plan::Choice& choice, std::uint32_t layers);
std::string plan_text(const PlanReport& report, const plan::Choice& choice);

// 8192 as "8,192".
std::string grouped(std::uint64_t number);

}  // namespace baton::cli
