// A session's forward pass, for the sources of Session alone.
#pragma once

#include <memory>
#include <utility>

#include "node/session.h"

namespace baton::node {

// Touches nothing of the session on the executor's thread but what never changes, and cancelled_.
class Session::Pass : public engine::ScheduledPass {
 public:
  Pass(std::shared_ptr<Session> session, Phase of_phase) : phase(of_phase), session_(std::move(session)) {
    const bool step = phase == Phase::kDecode;
    kind = step ? Kind::kStep : Kind::kChunk;
    span.rows = step ? engine::SpanRows::kAsSteps : engine::SpanRows::kTogether;
  }

  const Phase phase;
  Chunk chunk;
  bool last_of_prefill = false;
  model::Cost piece;  // to its first sign of life

  bool cancelled() const override { return session_->cancelled_.load(std::memory_order_relaxed); }
  void on_begun() override {
    SessionHost& host = session_->host_;
    host.loop.post([session = session_, phase = phase, piece = piece, at = host.surroundings.now()] {
      session->on_pass_begun(phase, piece, at);
    });
  }
  void on_layer_done(std::uint32_t layer) override {
    if (phase != Phase::kPrefill) return;
    SessionHost& host = session_->host_;
    host.loop.post(
        [session = session_, chunk = chunk, layer, leaving = session_->copy_what_leaves(*this, layer),
         at = host.surroundings.now()]() mutable { session->on_layer_done(chunk, layer, std::move(leaving), at); });
  }
  void on_done(const Result<void>& result, const std::optional<engine::EmulationReport>& emulation) override {
    session_->on_pass_done(*this, result, emulation);
  }

 private:
  const std::shared_ptr<Session> session_;
};

}  // namespace baton::node
