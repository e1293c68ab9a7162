#include "cli/model_intake.h"

#include <utility>

#include "base/log.h"

namespace baton::cli {

void UpModelIntake::lead_to(node::ModelPool& pool, ClusterPlanner& planner, plan::RequestPlanner::Options options) {
  pool_ = &pool;
  planner_ = &planner;
  options_ = std::move(options);
}

Result<serve::ModelIntake::Opened> UpModelIntake::open(const store::StoredModel& model) {
  if (!flags_.guessing.draft.empty() || !flags_.guessing.draft_on.empty()) {
    return fail(ErrorCode::kUnsupported,
                "this node was started with a draft model, which guesses for one model only: start one with this "
                "model's name");
  }
  ModelFlags::Offer offer = TRY(flags_.models.offer(model.parts.front(), model.names.front()));
  const std::uint32_t layers = offer.known.file->shape().layer_count;
  auto plan = TRY(flags_.plan.plan_for(layers, peers_.self(), peers_.nodes()));
  return Opened {
    .served = std::move(offer.served), .known = std::move(offer.known),
    .request = TRY(flags_.request_options(std::move(plan)))
  };
}

serve::ServerModel UpModelIntake::admit(Opened opened) {
  log::info("{} is served from now on", opened.known.name);
  files_->add({opened.known.name, opened.known.file});
  node::PooledModel& model = pool_->add(std::move(opened.known));
  return {.served = std::move(opened.served),
          .source = &model,
          .request = std::move(opened.request),
          .planner = &planner_->add(model, options_)};
}

void UpModelIntake::dismiss(node::PooledModel& model) {
  log::info("{} is not served any more", model.name());
  files_->remove(model.file());
  planner_->remove(model);
  pool_->remove(model);
}

}  // namespace baton::cli
