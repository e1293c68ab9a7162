#include "node/disk_texts.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace baton::node {

namespace {

// Of copies that wait for the disk.
constexpr std::uint64_t kMostCopied = 256U << 20U;
// A disk that has to spin up first takes some seconds for the smallest text.
constexpr double kLeastPatience_s = 5;
// Half of what an answer waits for room, and all behind it with it.
constexpr double kMostPatience_s = 60;

Duration patience_for(double computing_s) {
  const double patience_s = std::clamp(2 * computing_s, kLeastPatience_s, kMostPatience_s);
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(patience_s));
}

}  // namespace

std::shared_ptr<Workspace> LentRows::end() {
  const std::lock_guard lock(shared_->mutex);
  return std::move(shared_->workspace);
}

void LastWrites::wait() {
  if (done_.valid()) done_.wait_until(until_);
  rows_.clear();
}

DiskTexts::DiskTexts(std::shared_ptr<KeptFolder> folder, engine::Engine& engine, const Sha256& model,
                     double prefill_tokens_per_s, std::uint64_t most_copied_at_once)
    : folder_(std::move(folder)),
      engine_(engine),
      shape_(std::make_shared<const KeptShape>(kept_shape(engine, model))),
      prefill_tokens_per_s_(prefill_tokens_per_s),
      most_copied_at_once_(most_copied_at_once) {
  folder_->look_up(shape_);
}

const KeptFolder::File* DiskTexts::file_with(const KeptText& text) const {
  const auto length = static_cast<std::uint32_t>(text.tokens.size());
  for (const KeptFolder::File* file : folder_->texts_of(shape_->model)) {
    const KeptHeader& header = *file->header;
    if (begins(text, header.text) && last_position_to_continue(header, length) == length) return file;
  }
  return nullptr;
}

void DiskTexts::use(const KeptText& text) {
  if (const KeptFolder::File* file = file_with(text)) folder_->use(shape_->model, file->name);
}

std::optional<KeptHeader> DiskTexts::header_to_write(const Held& held) const {
  auto header = kept_header(*shape_, held.text, *held.workspace);
  if (header && !folder_->has_place_for(kept_file_bytes(*shape_, *header), held.used_at)) header.reset();
  return header;
}

std::unique_ptr<LentRows> DiskTexts::write(const Held& held, Done done) {
  auto header = header_to_write(held);
  if (!header) return nullptr;
  auto lent = std::make_unique<LentRows>(held.workspace);
  FillPiece fill = [rows = lent->shared(), &engine = engine_, header = *header](
                       const KeptPiece& piece, std::span<std::byte> bytes) -> Result<void> {
    const std::lock_guard lock(rows->mutex);
    if (rows->workspace == nullptr) return fail(ErrorCode::kCancelled, "the text is wanted");
    return copy_from(engine, *rows->workspace, header, piece, bytes);
  };
  folder_->write(shape_, *std::move(header), held.used_at, std::move(fill), std::move(done));
  return lent;
}

void DiskTexts::write_copy(const Held& held) {
  auto header = header_to_write(held);
  const std::uint64_t size = header ? kept_file_bytes(*shape_, *header) : 0;
  if (!header || copied_at_once_ + size > most_copied_at_once_ || *copied_bytes_ + size > kMostCopied) return;
  const auto copied = std::make_shared<Bytes>();
  copied->reserve(size);
  const auto done = for_each_piece(*shape_, *header, [&](const KeptPiece& piece) -> Result<void> {
    const std::size_t before = copied->size();
    copied->resize(before + piece.bytes());
    return copy_from(engine_, *held.workspace, *header, piece, std::span(*copied).subspan(before));
  });
  if (!done) return;
  copied_at_once_ += size;
  *copied_bytes_ += size;
  FillPiece fill = [copied, next = std::size_t{0}](const KeptPiece& piece, std::span<std::byte> bytes) mutable {
    std::ranges::copy(std::span(*copied).subspan(next, piece.bytes()), bytes.begin());
    next += piece.bytes();
    return Result<void>();
  };
  folder_->write(shape_, *std::move(header), held.used_at, std::move(fill),
                 [copied_bytes = copied_bytes_, size](const Result<void>&) { *copied_bytes -= size; });
}

std::optional<DiskTexts::Find> DiskTexts::find(const std::function<std::uint32_t(const KeptHeader&)>& wanted,
                                               std::uint32_t held) {
  const KeptFolder::File* best = nullptr;
  std::uint32_t most = held;
  for (const KeptFolder::File* file : folder_->texts_of(shape_->model)) {
    const std::uint32_t tokens = wanted(*file->header);
    if (tokens <= most) continue;
    best = file;
    most = tokens;
  }
  if (best == nullptr) return std::nullopt;
  double computing_s = std::numeric_limits<double>::infinity();
  if (prefill_tokens_per_s_ > 0) computing_s = (most - held) / prefill_tokens_per_s_;
  if (const auto rate = folder_->read_rate()) {
    const double reading_s = static_cast<double>(best->bytes) / *rate;
    if (reading_s >= std::min(computing_s, kMostPatience_s)) return std::nullopt;
  }
  Find found{.name = best->name, .header = *best->header, .tokens = most, .patience = patience_for(computing_s)};
  // Before anything else is written, for which the last used would have to go.
  folder_->use(shape_->model, found.name);
  return found;
}

std::unique_ptr<LentRows> DiskTexts::read(const Find& found, std::shared_ptr<Workspace> workspace, Done done) {
  auto lent = std::make_unique<LentRows>(std::move(workspace));
  TakePiece take = [rows = lent->shared(), &engine = engine_, tokens = found.tokens](const KeptPiece& piece,
                                                                                     ByteSpan bytes) -> Result<void> {
    const std::lock_guard lock(rows->mutex);
    if (rows->workspace == nullptr) return fail(ErrorCode::kCancelled, "nobody waits for the text");
    return copy_to(engine, *rows->workspace, tokens, piece, bytes);
  };
  if (!folder_->read(shape_, found.name, std::move(take), std::move(done))) return nullptr;
  return lent;
}

}  // namespace baton::node
