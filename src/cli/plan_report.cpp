#include "cli/plan_report.h"

#include <algorithm>
#include <format>

namespace baton::cli {

namespace {

// Below it, the table of plans is in milliseconds.
constexpr double kShortS = 0.1;

std::string plan_memory_text(double bytes) {
  return bytes < 1e9 ? size_text(static_cast<std::uint64_t>(bytes)) : std::format("{:.1f} GB", bytes / 1e9);
}

std::string stages_text(const plan::Cluster& cluster, const std::vector<plan::DeviceStage>& stages) {
  std::string text;
  for (const plan::DeviceStage& stage : stages) {
    text += std::format("{}{}:{}-{}", text.empty() ? "" : ",", cluster.devices[stage.device].name, stage.layers.begin,
                        stage.layers.end);
  }
  return text;
}

std::string codecs_text(const plan::Placement& placement) {
  std::vector<std::string> names;
  for (std::size_t index = 0; index < placement.prefill.size(); ++index) {
    const bool sends =
        placement.decode.size() == 1 && placement.prefill[index].device != placement.decode.front().device;
    if (sends) names.emplace_back(plan::codec_name(placement.codecs[index]));
  }
  if (std::ranges::all_of(names, [&](const std::string& name) { return name == names.front(); })) {
    names.resize(std::min<std::size_t>(names.size(), 1));
  }
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
  return text;
}

PlanRow row_of(const plan::Cluster& cluster, const plan::Alternative& alternative) {
  const plan::Prediction& seconds = alternative.prediction;
  PlanRow row;
  row.name = alternative.name;
  row.queue_s = seconds.queue_s;
  row.prefill_s = seconds.prefill_s;
  row.transfer_s = seconds.transfer_s;
  row.exposed_s = seconds.exposed_s;
  row.decode_s = seconds.decode_s;
  row.total_s = seconds.total_s;
  row.first_token_s = seconds.first_token_s;
  row.disturbance_s = seconds.disturbance_s;
  row.memory_bytes = seconds.memory_bytes;
  for (std::size_t index = 1; index < alternative.placement.prefill.size(); ++index) {
    row.split.push_back(alternative.placement.prefill[index].layers.begin);
  }
  row.codec = codecs_text(alternative.placement);
  row.chunk_tokens = alternative.placement.chunk_tokens;
  row.plan = std::format("prefill={};decode={}", stages_text(cluster, alternative.placement.prefill),
                         stages_text(cluster, alternative.placement.decode));
  return row;
}

const plan::Alternative* best_single(const plan::Choice& choice) {
  const plan::Alternative* best = nullptr;
  for (const plan::Alternative& plan : choice.alternatives) {
    if (plan.shape() != plan::PlanShape::kSingle) continue;
    if (best == nullptr || plan.prediction.score_s() < best->prediction.score_s()) best = &plan;
  }
  return best;
}

const plan::Alternative* runner_up(const plan::Choice& choice) {
  const plan::Alternative* next = nullptr;
  for (std::size_t index = 0; index < choice.alternatives.size(); ++index) {
    const plan::Alternative& plan = choice.alternatives[index];
    if (index == choice.chosen) continue;
    if (next == nullptr || plan.prediction.score_s() < next->prediction.score_s()) next = &plan;
  }
  return next;
}

// What its machines do for it.
std::string division(const plan::Cluster& cluster, const plan::Alternative& plan, std::uint32_t layers) {
  const auto name = [&](const plan::DeviceStage& stage) { return cluster.devices[stage.device].name; };
  const std::vector<plan::DeviceStage>& prefill = plan.placement.prefill;
  const std::string writer = name(plan.placement.decode.front());
  switch (plan.shape()) {
    case plan::PlanShape::kSingle: return writer + " does all of it";
    case plan::PlanShape::kDisaggregated:
      return std::format("{} reads the prompt, {} writes the answer", name(prefill[0]), writer);
    case plan::PlanShape::kJoint:
      return std::format("{} reads the first {} of {} layers, {} the last {} at the same time and writes the answer",
                         name(prefill[0]), prefill[0].layers.size(), layers, writer, prefill[1].layers.size());
    case plan::PlanShape::kRelay:
      return prefill.size() == 3
                 ? std::format("{}, {} and {} read {}, {} and {} layers at the same time, {} writes", name(prefill[0]),
                               name(prefill[1]), writer, prefill[0].layers.size(), prefill[1].layers.size(),
                               prefill[2].layers.size(), writer)
                 : std::format("{} and {} read {} and {} layers at the same time, {} writes", name(prefill[0]),
                               name(prefill[1]), prefill[0].layers.size(), prefill[1].layers.size(), writer);
    case plan::PlanShape::kPooled: break;
  }
  std::string text = "each machine keeps its layers:";
  for (const plan::DeviceStage& stage : prefill) text += std::format(" {} {}", name(stage), stage.layers.size());
  return text;
}

std::string why_it_won(const plan::Cluster& cluster, const plan::Choice& choice, std::uint32_t layers) {
  const plan::Alternative& best = choice.best();
  std::string why = division(cluster, best, layers) + ".";
  if (const plan::Alternative* next = runner_up(choice)) {
    const double gain = next->prediction.score_s() / best.prediction.score_s() - 1;
    if (gain >= 1) {
      why += std::format(" The next best, {}, takes {:.{}f} times as long", next->name, gain + 1, gain < 9 ? 1 : 0);
    } else if (gain > plan::kTie) {
      why += std::format(" The next best, {}, takes {:.1f}% longer", next->name, gain * 100);
    } else if (gain >= -plan::kTie) {
      why += std::format(" It is the simplest of those that take no longer; {} gains nothing", next->name);
    } else {
      why += std::format(" {} would gain {:.1f}%, too little to trouble another machine", next->name, -gain * 100);
    }
    const plan::Alternative* single = best_single(choice);
    if (single != nullptr && single != next && single != &best) {
      why += std::format(", the best machine alone, {}, {:.2f} times as long", single->name,
                         single->prediction.score_s() / best.prediction.score_s());
    }
    why += ".";
  }
  if (best.prediction.transfer_s > 0) {
    why += std::format(" Of {} of transfer {} are waited for.", duration_text(best.prediction.transfer_s),
                       duration_text(best.prediction.exposed_s));
  }
  if (best.prediction.disturbance_s > 0) {
    why += std::format(" Answers that run already lose {}.", duration_text(best.prediction.disturbance_s));
  }
  return why;
}

}  // namespace

std::string grouped(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, ",");
  return text;
}

PlanReport make_report(const plan::Cluster& cluster, const plan::Choice& choice, std::uint32_t layers) {
  PlanReport report;
  for (const plan::Alternative& alternative : choice.alternatives) report.plans.push_back(row_of(cluster, alternative));
  report.chosen = choice.best().name;
  report.exhaustive = choice.exhaustive;
  report.why = why_it_won(cluster, choice, layers);
  return report;
}

std::string plan_text(const PlanReport& report, const plan::Choice& choice) {
  // One unit for the whole table, in which the best plan has digits.
  const bool in_ms = report.plans[choice.chosen].total_s < kShortS;
  const double unit = in_ms ? 1e3 : 1;
  std::string text = std::format("{}: {} tokens in, {:.0f} out. Predicted {}seconds.\n\n", report.model,
                                 grouped(report.prompt_tokens), report.output_tokens, in_ms ? "milli" : "");
  text += std::format("  {:<14} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9}  {}\n", "plan", "queue", "prefill",
                      "transfer", "exposed", "decode", "total", "memory", "layers, codec, chunk");
  for (std::size_t index = 0; index < report.plans.size(); ++index) {
    const PlanRow& row = report.plans[index];
    text += std::format("{} {:<14} {:>7.3f} {:>8.3f} {:>8.3f} {:>8.3f} {:>8.3f} {:>8.3f} {:>9}  {}{}{}, {}\n",
                        index == choice.chosen ? '*' : ' ', row.name, row.queue_s * unit, row.prefill_s * unit,
                        row.transfer_s * unit, row.exposed_s * unit, row.decode_s * unit, row.total_s * unit,
                        plan_memory_text(row.memory_bytes), row.plan, row.codec.empty() ? "" : ", ", row.codec,
                        row.chunk_tokens);
  }
  for (const plan::Unfit& unfit : choice.unfit) {
    text += std::format("  {:<14} does not fit alone: it needs {} and has {}\n", unfit.device,
                        plan_memory_text(unfit.needs_bytes), plan_memory_text(unfit.has_bytes));
  }
  text += std::format("\n{}: {}\n", report.chosen, report.why);
  if (!report.exhaustive) text += "So many machines are needed that not every way to spread the model was weighed.\n";
  return text;
}

}  // namespace baton::cli
