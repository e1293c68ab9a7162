#include "cli/cluster_planner.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <glaze/glaze.hpp>
#include <ranges>
#include <utility>

#include "base/log.h"
#include "cli/failure_result.h"
#include "cli/plan_report.h"
#include "cli/planning_machines.h"
#include "cluster/control.h"

namespace baton::cli {

// An answer that was planned, as GET /api/plan shows it.
struct PlannedAnswer {
  std::uint64_t answer = 0;
  std::string model;
  std::string shape;
  std::string plan;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t new_tokens = 0;
  double predicted_first_token_s = 0;
  double first_token_s = 0;
  double predicted_total_s = 0;  // of an answer as long as it became
  double total_s = 0;
  double planning_ms = 0;
  bool recovered = false;                    // a machine was lost
  std::vector<FailureResult> failures = {};  // which, and how the answer went on
};

// GET /api/plan.
struct PlannedAnswers {
  bool by_request = true;
  std::vector<PlannedAnswer> answers;  // the latest last
};

namespace {

constexpr std::size_t kShownAnswers = 64;
// Slower than this, planning itself is worth a word.
constexpr double kSlowPlanning_ms = 20;
// From here on what a shared prompt took is blamed on the links, which are then measured again.
constexpr double kDoubtfulRatio = 1.5;
constexpr double kDoubtfulSeconds = 0.05;

// So that what is told of a link changes when it does, and not with every ping.
double rounded(double value) {
  if (value <= 0) return 0;
  const double unit = std::pow(10, std::floor(std::log10(value)) - 1);
  return std::round(value / unit) * unit;
}

// What was learned fades from one moment to the next; it is told in steps, so that it is news only now and then.
double in_steps(double factor) {
  constexpr double kStep = 0.05;
  return std::exp(std::round(std::log(factor) / kStep) * kStep);
}

PlannedAnswer planned_answer(const serve::AnswerRecord& record) {
  PlannedAnswer answer{.answer = record.id,
                       .model = record.model,
                       .shape = record.shape,
                       .plan = record.plan,
                       .prompt_tokens = record.prompt_tokens,
                       .new_tokens = record.new_tokens,
                       .predicted_first_token_s = record.predicted->first_token_s,
                       .first_token_s = record.first_token_s.value_or(0),
                       .predicted_total_s = record.predicted->total_s,
                       .total_s = record.total_s,
                       .planning_ms = record.predicted->planning_ms,
                       .recovered = !record.recoveries.empty()};
  for (const node::Recovery& recovery : record.recoveries) answer.failures.push_back(failure_result(recovery));
  return answer;
}

}  // namespace

class ModelPlanner::Planned : public serve::AnswerPlan {
 public:
  Planned(ModelPlanner& planner, plan::Decision decision, double planning_ms, std::uint32_t most_new_tokens)
      : planner_(planner),
        decision_(std::move(decision)),
        planning_ms_(planning_ms),
        most_new_tokens_(most_new_tokens) {}
  // Whatever became of it, it is promised no longer.
  ~Planned() override { planner_.planner_.finish(number_, {}); }

  void apply_to(node::RequestOptions& request) const override {
    request.plan = decision_.plan;
    request.kept_elsewhere = decision_.prediction.prefix_tokens;
    request.chunk_tokens = planner_.options_.chunk_tokens;
  }
  void begun(std::uint64_t answer) override {
    answer_ = answer;
    number_ = planner_.planner_.begin(decision_, now());
  }
  void prefilled() override { planner_.planner_.prefilled(number_); }
  std::optional<plan::Plan> replan(const node::Loss& loss) override {
    // What it was to do is not done any more; and nothing is learned from half a request.
    planner_.planner_.finish(std::exchange(number_, 0), {});
    const auto written = static_cast<double>(most_new_tokens_ - loss.tokens_left);
    const auto next = planner_.decide({.prompt_tokens = static_cast<std::uint32_t>(loss.text.size()),
                                       .most_output_tokens = loss.tokens_left,
                                       .output_tokens = std::max(decision_.expected_tokens - written, 1.0),
                                       .without = loss.lost},
                                      loss.text, loss.held_tokens, loss.held_elsewhere);
    if (!next) {
      log::warning("the rest of an answer cannot be planned and is written here: {}", next.error().to_string());
      return std::nullopt;
    }
    number_ = planner_.planner_.begin(*next, now());
    return next->plan;
  }
  void ended(const serve::AnswerCourse& course) override {
    using Company = ClusterPlanner::Company;
    const Company company = planner_.planner_.is_crowded(number_) ? Company::kOthersRan : Company::kAlone;
    planner_.planner_.finish(number_, {.first_token_s = course.first_token_s,
                                       .decode_s = course.decode_s,
                                       .new_tokens = course.new_tokens,
                                       .recovered = !course.recoveries.empty()});
    remember_text(course);
    planner_.cluster_.compare(answer_, predicted(course.new_tokens), course, decision_.plan, company);
  }
  serve::AnswerPrediction predicted(std::optional<std::uint32_t> new_tokens) const override {
    const plan::Prediction& whole = decision_.prediction;
    double decode_s = whole.decode_s;
    if (new_tokens) {
      const bool has_steps = decision_.expected_tokens > 1 && *new_tokens > 1;
      decode_s = has_steps ? whole.decode_s * (*new_tokens - 1) / (decision_.expected_tokens - 1) : 0;
    }
    return {.planning_ms = planning_ms_,
            .first_token_s = whole.first_token_s,
            .total_s = whole.total_s - whole.decode_s + decode_s};
  }

 private:
  // What another machine wrote alone the next turn finds there.
  void remember_text(const serve::AnswerCourse& course) {
    const plan::NodeIndex writer = decision_.plan.decode.front().node;
    if (writer == plan::kCoordinator || decision_.plan.decode.size() > 1) return;
    const std::string& id = decision_.plan.nodes[writer].fingerprint;
    const bool recovered = !course.recoveries.empty();
    // It was restarted, or needed the room.
    if (recovered || 2 * course.cached_tokens < decision_.prediction.prefix_tokens) planner_.left_texts_.forget(id);
    // The last token of an answer is never computed.
    if (!recovered) planner_.left_texts_.add(id, course.text.first(course.text.size() - 1));
  }

  ModelPlanner& planner_;
  plan::Decision decision_;
  const double planning_ms_;
  const std::uint32_t most_new_tokens_;
  std::uint64_t answer_ = 0;
  std::uint64_t number_ = 0;  // of what is promised; 0: nothing yet
};

ModelPlanner::ModelPlanner(ClusterPlanner& cluster, const node::PooledModel& model,
                           plan::RequestPlanner::Options options)
    : cluster_(cluster), model_(model), options_(std::move(options)), planner_(model.file().shape(), options_) {}

double ModelPlanner::queue_s() const {
  const node::LoadedModel* const model = model_.loaded();
  if (model == nullptr) return 0;
  const double chunks_s = static_cast<double>(model->scheduler().load().waiting_chunks) * options_.chunk_tokens /
                          model_.rates()->prefill_tokens_per_s;
  return std::max(planner_.promised_s(cluster_.own_id(), now()), chunks_s);
}

cluster::ModelState ModelPlanner::state() const {
  const node::LoadedModel* const model = model_.loaded();
  const engine::EngineOptions& options = model_.engine_options();
  const std::uint32_t layers = model_.file().shape().layer_count;
  const LayerRange held = options.layers.value_or(LayerRange{0, layers});
  cluster::ModelState state{.name = model_.name(),
                            .digest = model_.digest() ? model_.digest()->hex() : "",
                            .layers_begin = held.begin,
                            .layers_end = held.end,
                            .layer_count = layers,
                            .context_tokens = options.context_tokens,
                            .chunk_tokens = options.max_chunk_tokens,
                            .loaded = model != nullptr,
                            .rates = {}};
  if (const auto& known = model_.rates()) {
    // The others plan with what it took here of late, not with what it took once.
    const double prefill_factor = in_steps(planner_.prefill_factor(cluster_.own_id(), now()));
    const double decode_factor = in_steps(planner_.decode_factor(cluster_.own_id(), now()));
    state.rates = {.prefill_tokens_per_s = known->prefill_tokens_per_s / prefill_factor,
                   .decode_tokens_per_s = known->decode_tokens_per_s / decode_factor,
                   .flops_per_second = known->rates.flops_per_second / prefill_factor,
                   .attention_factor = known->rates.attention_factor,
                   .bytes_per_second = known->rates.bytes_per_second / decode_factor};
  }
  if (model != nullptr) state.free_cells = model->room().cells;
  return state;
}

Result<plan::Decision> ModelPlanner::decide(const plan::Wish& wish, std::span<const Token> text,
                                            std::uint32_t kept_tokens,
                                            const std::optional<node::HeldElsewhere>& elsewhere) const {
  if (model_.loaded() == nullptr) return fail(ErrorCode::kUnavailable, "the model is not loaded", model_.name());
  auto [machines, links] = planning_machines(cluster::report(cluster_.membership_).nodes, model_.digest()->hex(),
                                             model_.file().shape().layer_count);
  plan::Machine& here = machines.front();
  here.rates = model_.rates()->rates;
  here.queue_s = cluster_.queue_s();
  here.streams = static_cast<std::uint32_t>(cluster_.running());
  here.kept_tokens = kept_tokens;
  for (plan::Machine& machine : machines | std::views::drop(1)) {
    machine.kept_tokens = left_texts_.common_tokens(machine.node.fingerprint, text);
    if (elsewhere && elsewhere->fingerprint == machine.node.fingerprint) {
      machine.kept_tokens = std::max(machine.kept_tokens, elsewhere->tokens);
    }
  }
  return planner_.decide(machines, links, wish, now());
}

std::unique_ptr<serve::AnswerPlan> ModelPlanner::plan(std::span<const Token> prompt, std::uint32_t kept_tokens,
                                                      std::uint32_t most_new_tokens) {
  if (cluster_.plan_by_ == PlanBy::kFlags) return nullptr;
  const TimePoint began = now();
  const auto prompt_tokens = static_cast<std::uint32_t>(prompt.size());
  auto decision = decide({prompt_tokens, most_new_tokens}, prompt, kept_tokens);
  if (!decision) {
    log::warning("a request cannot be planned and stays here: {}", decision.error().to_string());
    return nullptr;
  }
  const double planning_ms = seconds(now() - began) * 1e3;
  if (planning_ms > kSlowPlanning_ms) log::info("planning took {:.0f} ms", planning_ms);
  return std::make_unique<Planned>(*this, *std::move(decision), planning_ms, most_new_tokens);
}

Result<std::string> ModelPlanner::explain(std::uint32_t prompt_tokens, std::uint32_t most_new_tokens) {
  const TimePoint began = now();
  const plan::Decision decision = TRY(decide({prompt_tokens, most_new_tokens}, {}, 0));
  const double planning_ms = seconds(now() - began) * 1e3;
  const model::ModelShape& shape = model_.file().shape();
  PlanReport report = make_report(decision.cluster, decision.choice, shape.layer_count);
  report.model = model_.name();
  report.prompt_tokens = prompt_tokens;
  report.output_tokens = decision.expected_tokens;
  report.planning_ms = planning_ms;
  return glz::write_json(report).value_or("{}");
}

ClusterPlanner::ClusterPlanner(const node::Node& node, cluster::Membership& membership, cluster::LinkProbes& probes,
                               PlanBy plan_by)
    : node_(node), membership_(membership), probes_(probes), plan_by_(plan_by) {}

serve::AnswerPlanner& ClusterPlanner::add(const node::PooledModel& model,
                                          const plan::RequestPlanner::Options& options) {
  planners_.push_back(std::make_unique<ModelPlanner>(*this, model, options));
  return *planners_.back();
}

void ClusterPlanner::remove(const node::PooledModel& model) {
  std::erase_if(planners_, [&](const auto& planner) { return planner->is_of(model); });
}

std::size_t ClusterPlanner::running() const {
  std::size_t running = 0;
  for (const auto& planner : planners_) running += planner->running();
  return running;
}

double ClusterPlanner::queue_s() const {
  double queue_s = 0;
  for (const auto& planner : planners_) queue_s += planner->queue_s();
  return queue_s;
}

void ClusterPlanner::describe(cluster::NodeState& state) const {
  state.models.clear();
  for (const auto& planner : planners_) state.models.push_back(planner->state());
  // The others hear of so many and no more.
  std::ranges::stable_partition(state.models, &cluster::ModelState::loaded);
  const bool any = !state.models.empty() && state.models.front().loaded;
  state.rates = any ? state.models.front().rates : cluster::RateState();
  state.load.free_cells = any ? state.models.front().free_cells : 0;
  state.load.transfers = static_cast<std::uint32_t>(node_.transfers());
  state.load.streams = static_cast<std::uint32_t>(running());
  state.load.queue_s = rounded(queue_s());
  state.links.clear();
  for (const auto& [id, round_trip_ms] : membership_.round_trips_ms()) {
    const auto carried = probes_.rates(id);
    if (!carried) continue;
    state.links.push_back({id.to_string(), rounded(round_trip_ms), rounded(carried->to_bytes_per_second),
                           rounded(carried->from_bytes_per_second)});
  }
}

void ClusterPlanner::compare(std::uint64_t answer, const serve::AnswerPrediction& predicted,
                             const serve::AnswerCourse& course, const plan::Plan& plan, Company company) {
  const bool recovered = !course.recoveries.empty();
  log::info("answer {}: {}, {}: predicted {:.3f} s, took {:.3f} s (first token {:.3f} and {:.3f} s){}", answer,
            plan.shape(), plan.to_string(), predicted.total_s, course.first_token_s + course.decode_s,
            predicted.first_token_s, course.first_token_s, recovered ? "; a machine was lost" : "");
  const bool is_late = course.first_token_s > kDoubtfulRatio * predicted.first_token_s + kDoubtfulSeconds;
  if (!is_late || company == Company::kOthersRan || recovered) return;
  for (const plan::NodeRef& peer : plan.nodes) {
    if (const auto id = net::Fingerprint::parse(peer.fingerprint)) probes_.doubt(*id);
  }
}

std::string ClusterPlanner::latest(const std::deque<serve::AnswerRecord>& ended) {
  PlannedAnswers shown{.by_request = plan_by_ == PlanBy::kRequest, .answers = {}};
  for (const serve::AnswerRecord& record : ended | std::views::reverse) {
    if (shown.answers.size() >= kShownAnswers) break;
    if (record.state == serve::AnswerState::kEnded && record.predicted) shown.answers.push_back(planned_answer(record));
  }
  std::ranges::reverse(shown.answers);
  return glz::write_json(shown).value_or("{}");
}

std::string ClusterPlanner::cluster() { return glz::write_json(cluster::report(membership_)).value_or("{}"); }

}  // namespace baton::cli
