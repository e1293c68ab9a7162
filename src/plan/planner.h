// Chooses how a request runs: all five shapes of plan, every choice and order of devices for them, every split point,
// chunk size and codec of a link, within memory and links. Pure; an answer depends on the numbers given and on nothing
// else.
#pragma once

#include <string>
#include <vector>

#include "plan/prediction.h"

namespace baton::plan {

// Of plans whose scores differ by less than this part, the simpler one wins: fewer machines first, then exact codecs.
inline constexpr double kTie = 0.001;

struct Alternative {
  std::string name;  // of the shape; of a plan on one device the device's
  Placement placement;
  Prediction prediction;

  PlanShape shape() const { return placement.shape(); }
};

// A device that cannot serve the request by itself.
struct Unfit {
  std::string device;
  double needs_bytes = 0;
  double has_bytes = 0;
};

struct Choice {
  // Every device alone that can, and the best of each other shape there is; simple ones first.
  std::vector<Alternative> alternatives;
  std::size_t chosen = 0;
  std::vector<Unfit> unfit;
  // False where a model had to be spread over so many devices that not every spreading was weighed.
  bool exhaustive = true;

  const Alternative& best() const { return alternatives[chosen]; }
};

// The plan with the lowest score: this request's predicted finish plus the delay of answers already running.
// A pool of two devices is always weighed, one of more where nothing smaller holds the model, with as few devices as
// do. kNoCapacity where no plan fits, with what the largest device lacks; kUnavailable where devices hold the model but
// none has links to the coordinator; kInvalidArgument for numbers that make no sense.
Result<Choice> choose(const Cluster& cluster, const model::ModelShape& shape, const Request& request);

}  // namespace baton::plan
