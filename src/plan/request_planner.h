// Plans the requests of one node, one after another: asks the planner with the machines there are now, remembers what
// it has promised them, and learns from what its requests really took. Gets the time from its caller; not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "plan/plan.h"
#include "plan/planner.h"
#include "plan/rates.h"

namespace baton::plan {

// A machine that may take part: it holds all of the model's layers.
struct Machine {
  NodeRef node;
  Rates rates;                          // as it measured them
  std::uint32_t most_chunk_tokens = 0;  // that it computes at once
  std::uint32_t free_cells = 0;         // of its KV cache
  double queue_s = 0;                   // of work that it has promised to others
  std::uint32_t streams = 0;            // answers that it writes now
  std::uint32_t kept_tokens = 0;        // of the prompt, whose KV it has
};

// What a request is; the answer's length is a bound, and what is expected is learned.
struct Wish {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t most_output_tokens = 1;
  std::optional<double> output_tokens = std::nullopt;  // where it is known
  std::vector<std::string> without = {};               // machines that do not come into question, by their keys
};

struct Decision {
  Plan plan;
  Prediction prediction;
  double expected_tokens = 1;  // of the answer
  // What was weighed, for whoever wants to know: the cluster's devices are the machines that came into question.
  Cluster cluster;
  Choice choice;
  bool others_ran = false;  // when it was decided: what it takes will say less about the machines
};

// What became of a request. Seconds as its coordinator saw them.
struct Outcome {
  double first_token_s = 0;  // from its start; 0: there was none
  double decode_s = 0;       // from the first token to the last
  std::uint32_t new_tokens = 0;
  bool recovered = false;  // it was finished by another plan
};

class RequestPlanner {
 public:
  // A plan over several machines is worth its trouble from this gain on; with less the request stays here.
  static constexpr double kLeastGain = 0.05;
  static constexpr double kLeastGain_s = 0.01;
  // Of more machines the strongest are weighed, which keeps planning within milliseconds.
  static constexpr std::size_t kMostMachines = 8;

  struct Options {
    WireCodec codec = WireCodec::kF16;
    std::uint32_t chunk_tokens = 512;
    double kv_bytes_per_value = 2;  // in the caches
  };
  RequestPlanner(model::ModelShape shape, Options options);

  // The first machine is this node. Links join machines by their indices. kInvalidArgument for numbers that make no
  // sense.
  Result<Decision> decide(std::span<const Machine> machines, std::span<const Link> links, const Wish& wish,
                          TimePoint time) const;

  // What a plan that somebody else chose would cost; the only alternative of the decision is that plan. Errors: as
  // decide(); kNotFound where it counts on a machine that is not among these, kUnavailable where it needs a link that
  // is not.
  Result<Decision> predict(std::span<const Machine> machines, std::span<const Link> links, const Wish& wish,
                           const Plan& plan, TimePoint time) const;

  // A decision is carried out: what it promises counts until it is withdrawn. Its number is never 0.
  std::uint64_t begin(const Decision& decision, TimePoint time);
  // Whether others worked beside it, before or since it began: what it takes says little about the machines.
  bool is_crowded(std::uint64_t number) const;
  // Its prompt was read.
  void prefilled(std::uint64_t number);
  // It is over; `outcome` is learned from. Unknown numbers are nothing.
  void finish(std::uint64_t number, const Outcome& outcome);

  // Work that this node's requests have promised to a machine, by its key's fingerprint.
  double promised_s(const std::string& fingerprint, TimePoint time) const;
  std::size_t running() const { return running_.size(); }

  // What was learned: how many times as long as measured it takes.
  double prefill_factor(const std::string& fingerprint, TimePoint time) const;
  double decode_factor(const std::string& fingerprint, TimePoint time) const;

 private:
  struct Learned {
    Correction prefill;
    Correction decode;
  };
  struct Running {
    Decision decision;
    TimePoint began;
    bool crowded = false;
    std::map<std::string, TimePoint> promised_until;  // by fingerprint, for its prefill
  };

  // A decision before anything is decided: the machines as devices, in the order of `nodes`.
  struct Question {
    Decision decision;
    std::vector<NodeRef> nodes;
    Request request;
  };
  Result<Question> ask(std::span<const Machine> machines, std::span<const std::size_t> asked,
                       std::span<const Link> links, const Wish& wish, TimePoint time) const;
  std::vector<std::size_t> strongest(std::span<const Machine> machines, const Wish& wish) const;
  void learn(const Running& running, const Outcome& outcome);

  const model::ModelShape shape_;
  const Options options_;
  std::map<std::string, Learned> learned_;
  std::map<std::uint64_t, Running> running_;
  std::uint64_t next_number_ = 1;
  double answer_tokens_;  // of an answer, as they have been lately
};

}  // namespace baton::plan
