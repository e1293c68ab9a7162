// What a session sends: what its layers keep, hidden states, logits, and how far it is.
#include <algorithm>

#include "node/session.h"
#include "node/session_pass.h"

namespace baton::node {

namespace {

Result<ByteSpan> keep_as(Workspace& workspace, std::span<const float> values, handoff::DType dtype) {
  Bytes bytes = workspace.take_spare();
  bytes.resize(handoff::encoded_size(dtype, values.size()));
  TRY(handoff::convert(handoff::DType::kF32, std::as_bytes(values), dtype, bytes));
  return workspace.keep(std::move(bytes));
}

}  // namespace

void Session::send_kept(Chunk chunk, std::uint32_t layer, Leaving leaving, plan::NodeIndex to) {
  if (host_.widths.kept[layer].k_values != 0) send_rows(chunk, layer, std::move(leaving.rows), to);
  if (ended_ || leaving.state.empty()) return;
  const ByteSpan bytes = workspace_->keep(std::move(leaving.state));
  send(to, {{handoff::SliceKind::kRecurrent, layer, chunk.first_position, chunk.tokens}, {bytes, {}}});
}

void Session::send_rows(Chunk chunk, std::uint32_t layer, std::optional<Workspace::CopiedRows> copied,
                        plan::NodeIndex to) {
  // Nobody has a link to spare for it yet.
  const bool spare = handoff::may_be_dropped(chunk, last_border(open_.prompt_tokens, open_.chunk_tokens),
                                             host_.widths.kept[layer].window);
  if (spare && outgoing_[to].expired()) return;
  Result<std::array<ByteSpan, 2>> rows =
      copied ? Result<std::array<ByteSpan, 2>>(workspace_->keep(std::move(*copied)))
             : workspace_->kv_rows(layer, chunk.first_position, chunk.tokens, open_.codec);
  if (!rows) return fail_with(rows.error());
  const bool latent = host_.widths.kept[layer].v_values == 0;
  const auto kind = latent ? handoff::SliceKind::kLatent : handoff::SliceKind::kKv;
  send(to, {{kind, layer, chunk.first_position, chunk.tokens}, *rows});
}

void Session::send_hidden(const Pass& pass, plan::NodeIndex to) {
  const auto bytes = keep_as(*workspace_, pass.hidden_out, open_.hidden);
  if (!bytes) return fail_with(bytes.error());
  send(to,
       {{handoff::SliceKind::kHidden, pass.layers.end, pass.chunk.first_position, pass.chunk.tokens}, {*bytes, {}}});
}

void Session::send_logits(const Pass& pass) {
  const auto bytes = keep_as(*workspace_, pass.logits, handoff::DType::kF32);
  if (!bytes) return fail_with(bytes.error());
  send(plan::kCoordinator, {{handoff::SliceKind::kLogits, layers_, pass.chunk.end_position() - 1, 1}, {*bytes, {}}});
}

void Session::send(plan::NodeIndex to, const handoff::OfferedSlice& slice) {
  if (const auto transfer = outgoing_[to].lock()) {
    offer(*transfer, slice);
  } else {
    unclaimed_[to].push_back(slice);
  }
}

void Session::offer(OutgoingTransfer& transfer, const handoff::OfferedSlice& slice) {
  if (const auto offered = transfer.machine.offer(slice); !offered) return fail_with(offered.error());
  const plan::NodeIndex to = transfer.machine.open().receiver;
  unacknowledged_[{to, slice.key}] = slice.parts[0];
  for (const handoff::SliceKey& dropped : transfer.machine.take_dropped()) release(to, dropped);
  transfer.wake();
}

void Session::release(plan::NodeIndex to, const handoff::SliceKey& key) {
  const auto found = unacknowledged_.find({to, key});
  if (found == unacknowledged_.end()) return;
  if (workspace_) workspace_->release(found->second);
  unacknowledged_.erase(found);
  if (key.kind == handoff::SliceKind::kHidden) --unacknowledged_hidden_;
}

void Session::finish_prefill() {
  // A copy: a failure on the way clears the map.
  const auto transfers = outgoing_;
  for (const auto& [to, weak] : transfers) {
    const auto transfer = weak.lock();
    if (transfer && !ended_) finish_prefill_of(*transfer);
  }
}

void Session::finish_prefill_of(OutgoingTransfer& transfer) {
  const auto end = times_.last_prefill_compute.value_or(host_.surroundings.now());
  const auto late_ppm = static_cast<std::uint32_t>(std::min(times_.prefill_emulation.overrun_fraction() * 1e6, 1e9));
  if (const auto finished = transfer.machine.finish(end.time_since_epoch().count(), late_ppm); !finished)
    fail_with(finished.error());
  transfer.wake();
}

void Session::report_progress() {
  using handoff::WorkState;
  const WorkState state = computing_ ? WorkState::kComputing : ended_ ? WorkState::kIdle : WorkState::kWaitingForInput;
  const auto predicted_us = std::chrono::duration_cast<std::chrono::microseconds>(expected_).count();
  for (const auto& [to, weak] : outgoing_) {
    if (const auto transfer = weak.lock()) {
      transfer->machine.progress(work_counter_, state,
                                 static_cast<std::uint32_t>(std::min<long long>(predicted_us, UINT32_MAX)));
    }
  }
}

}  // namespace baton::node
