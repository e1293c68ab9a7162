#include "store/puller.h"

#include <algorithm>
#include <chrono>
#include <format>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "model/digest_cache.h"
#include "model/gguf.h"
#include "store/partial_file.h"

namespace baton::store {

namespace {

constexpr auto kTellInterval = std::chrono::milliseconds(100);
// How often it is looked whether somebody else is done.
constexpr auto kLookAgain = std::chrono::milliseconds(100);

std::int64_t system_clock_s() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// What a file is called as a model: with its ending it would be a path to whoever reads it.
std::string without_ending(std::string_view file) {
  static constexpr std::string_view kEnding = ".gguf";
  if (file.size() > kEnding.size() && file.ends_with(kEnding)) file.remove_suffix(kEnding.size());
  return std::string(file);
}

// A file's name on this disk, which decides about less than a stranger's may: anything odd becomes '_'.
std::string local_name(std::string_view remote) {
  std::string name(remote.substr(remote.rfind('/') + 1));
  for (char& c : name) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    if (!plain) c = '_';
  }
  if (!is_plain_file_name(name) || name == kManifestFile) name = "model.gguf";
  return name;
}

// Of all parts, beside what earlier pulls have left.
std::uint64_t bytes_missing(const std::filesystem::path& folder, const Manifest& manifest) {
  std::uint64_t here = 0;
  for (const ManifestPart& part : manifest.parts) {
    for (const auto& path : {folder / part.file, part_path(folder / part.file)}) {
      std::error_code error;
      const std::uint64_t bytes = std::filesystem::file_size(path, error);
      if (!error) here += bytes;
    }
  }
  return manifest.bytes() - std::min(manifest.bytes(), here);
}

bool passes_by_itself(const Error& error) {
  return error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kTimeout;
}

}  // namespace

void Puller::begin(const std::string& from, std::uint64_t bytes_total) {
  progress_ = {.from = from, .bytes_total = bytes_total};
  bytes_before_part_ = 0;
}

void Puller::begin_part(const ManifestPart& part, const std::optional<Sha256>& sha256) {
  progress_.file = part.file;
  progress_.file_sha256 = sha256;
  progress_.file_bytes_done = 0;
  progress_.file_bytes_total = part.bytes;
}

void Puller::end_part(const ManifestPart& part) {
  next_telling_ = {};
  tell(part.bytes);
  bytes_before_part_ += part.bytes;
}

void Puller::enter(PullPhase phase) {
  progress_.phase = phase;
  next_telling_ = {};
  tell(progress_.bytes_done - bytes_before_part_);
}

void Puller::tell(std::uint64_t bytes_of_part) {
  progress_.bytes_done = bytes_before_part_ + bytes_of_part;
  progress_.file_bytes_done = bytes_of_part;
  const TimePoint time = now();
  if (!options_.on_progress || time < next_telling_) return;
  next_telling_ = time + Duration(kTellInterval);
  options_.on_progress(progress_);
}

DownloadEvents Puller::events() {
  const auto tell_phase = [this](PullPhase phase, std::uint64_t bytes) {
    if (progress_.phase != phase) next_telling_ = {};
    progress_.phase = phase;
    tell(bytes);
  };
  return {.checking = [=](std::uint64_t bytes) { tell_phase(PullPhase::kChecking, bytes); },
          .came =
              [=, this](std::uint64_t bytes, std::uint64_t total) {
                if (progress_.bytes_total == 0) progress_.bytes_total = total;
                if (progress_.file_bytes_total == 0) progress_.file_bytes_total = total;
                tell_phase(PullPhase::kDownloading, bytes);
              },
          .waiting =
              [=, this](const Error& problem) {
                progress_.problem = problem.to_string();
                tell_phase(PullPhase::kWaiting, progress_.bytes_done - bytes_before_part_);
              }};
}

Result<bool> Puller::is_here(const std::filesystem::path& path, const ManifestPart& part) {
  std::error_code error;
  const std::uint64_t bytes = std::filesystem::file_size(path, error);
  if (error) return false;
  enter(PullPhase::kChecking);
  if (bytes == part.bytes && TRY(model::model_digest(path, options_.stop)) == part.sha256) return true;
  std::filesystem::remove(path, error);
  std::filesystem::remove(path.string() + ".sha256", error);
  return false;
}

TakenNames Puller::taken_names() const {
  return options_.naming == Naming::kNamesAlone ? TakenNames::kRefuse : TakenNames::kMove;
}

Result<void> Puller::check_names(const Sha256& digest, const std::vector<std::string>& names) const {
  if (taken_names() == TakenNames::kRefuse) TRY(library_.check_free(digest, names));
  if (options_.may_be_called) TRY(options_.may_be_called(digest, names));
  return {};
}

Result<StoredModel> Puller::finish(Staging staging, Manifest manifest) {
  enter(PullPhase::kFinishing);
  // Now rather than when somebody waits for an answer.
  if (const auto file = model::GgufFile::open(staging.folder / manifest.parts.front().file); !file) {
    library_.discard(staging);
    return fail(file.error().code, std::format("what {} gave is no model that can be used, and is thrown away: {}",
                                               progress_.from, file.error().message));
  }
  manifest.pulled_s = system_clock_s();
  TRY(check_names(manifest.digest(), manifest.names));
  return library_.adopt(std::move(staging), manifest, taken_names());
}

Result<Staging> Puller::stage(const std::string& key) {
  while (true) {
    auto staging = library_.stage(key);
    const bool is_taken = !staging && staging.error().code == ErrorCode::kNoCapacity;
    if (!is_taken || options_.when_pulled == WhenPulled::kFail) return staging;
    progress_.problem = "the same model is being pulled already";
    enter(PullPhase::kWaiting);
    if (!wait_unless_stopped(Duration(kLookAgain), options_.stop)) return fail(ErrorCode::kCancelled, "stopped");
  }
}

Result<std::optional<StoredModel>> Puller::name_what_is_here(const Sha256& digest,
                                                             const std::vector<std::string>& names) {
  if (!library_.read_manifest(digest)) return std::nullopt;
  TRY(check_names(digest, names));
  for (const std::string& name : names) TRY(library_.add_name(digest, name, taken_names()));
  for (StoredModel& model : TRY(library_.list())) {
    if (model.digest == digest) return std::move(model);
  }
  return std::nullopt;
}

Result<StoredModel> Puller::pull_files(Wanted wanted, const std::string& key) {
  Manifest& manifest = wanted.manifest;
  Staging staging = TRY(stage(key));
  // Perhaps since a moment, by another name.
  const bool knows_all = std::ranges::all_of(wanted.digests, [](const auto& digest) { return digest.has_value(); });
  if (knows_all) {
    if (auto here = TRY(name_what_is_here(manifest.digest(), manifest.names))) {
      library_.discard(staging);
      return *std::move(here);
    }
  }
  begin(manifest.source, manifest.bytes());
  // Before the first of several parts, not with the last.
  TRY(check_free_space(staging.folder, bytes_missing(staging.folder, manifest)));
  for (std::size_t i = 0; i < manifest.parts.size(); ++i) {
    ManifestPart& part = manifest.parts[i];
    const std::filesystem::path path = staging.folder / part.file;
    const std::optional<Sha256>& digest = wanted.digests[i];
    if (digest) part.sha256 = *digest;
    begin_part(part, digest);
    if (!digest || !TRY(is_here(path, part))) {
      enter(PullPhase::kDownloading);
      const Download file{
          .what = part.file, .url = wanted.urls[i], .path = path, .bytes = part.bytes, .sha256 = digest};
      part.sha256 = TRY(download(file, hub_, events(), options_.stop));
      std::error_code error;
      part.bytes = std::filesystem::file_size(path, error);
      model::remember_digest(path, part.sha256);
    }
    end_part(part);
  }
  return finish(std::move(staging), manifest);
}

Result<StoredModel> Puller::pull_from_hub(const HubName& name, const std::string& called) {
  const std::string repository = std::format("hf.co/{}/{}", name.owner, name.repository);
  begin(repository, 0);
  enter(PullPhase::kAsking);
  const Hub hub(hub_, options_.stop);
  const std::vector<RemoteFile> files = TRY(hub.files(name));
  auto chosen = choose(models_in(files), name.quantisation, options_.memory_bytes);
  if (!chosen) {
    chosen.error().context = repository;
    return std::unexpected(chosen.error());
  }
  Wanted wanted;
  wanted.manifest.source = std::format("{}:{}", repository, chosen->quantisation);
  wanted.manifest.names = {called.empty() ? wanted.manifest.source : called};
  for (const RemoteFile& part : chosen->parts) {
    wanted.manifest.parts.push_back({local_name(part.path), part.bytes, part.sha256.value_or(Sha256{})});
    wanted.digests.push_back(part.sha256);
    wanted.urls.push_back(TRY(hub.file_url(name, part.path)));
  }
  // By what it is where that is known, so that a pull from elsewhere goes on with it.
  const bool knows_all = std::ranges::all_of(wanted.digests, [](const auto& digest) { return digest.has_value(); });
  if (knows_all) TRY(check_names(wanted.manifest.digest(), wanted.manifest.names));
  const std::string key =
      knows_all ? wanted.manifest.digest().hex() : sha256(as_byte_span(wanted.manifest.source)).hex();
  return pull_files(std::move(wanted), key);
}

Result<StoredModel> Puller::pull_from_url(const std::string& text) {
  const Url url = TRY(Url::parse(text));
  const std::string_view path = std::string_view(url.target).substr(0, url.target.find('?'));
  Wanted wanted;
  wanted.digests = {std::nullopt};
  std::string file = local_name(path);
  std::string name = without_ending(file);
  wanted.manifest = {.names = {std::move(name)}, .source = text, .parts = {{std::move(file), 0, {}}}};
  wanted.urls = {url};
  return pull_files(std::move(wanted), sha256(as_byte_span(url.to_string())).hex());
}

Result<StoredModel> Puller::pull_from_member(const std::string& node, const std::string& model) {
  if (!options_.peers || options_.peers->nodes.empty()) {
    return fail(ErrorCode::kNotFound,
                std::format("this machine is in no cluster with another node, so there is no '{}' "
                            "to ask; if a repository of the hub is meant: hf.co/{}/{}",
                            node, node, model));
  }
  const auto peer = std::ranges::find(options_.peers->nodes, node, &PeerNode::name);
  if (peer == options_.peers->nodes.end()) {
    std::string names;
    for (const PeerNode& known : options_.peers->nodes) names += (names.empty() ? "" : ", ") + known.name;
    return fail(ErrorCode::kNotFound, std::format("no node '{}' is known here, but {}; if a repository of the hub is "
                                                  "meant: hf.co/{}/{}",
                                                  node, names, node, model));
  }
  if (!is_plain_name(model)) {
    return fail(ErrorCode::kInvalidArgument, std::format("'{}' cannot be a model's name on {}", model, node));
  }
  begin("node " + node, 0);
  enter(PullPhase::kAsking);
  const auto taker = TRY(ModelTaker::create(*options_.peers, *peer, options_.stop));
  const Offer offer = TRY(taker->ask(model));
  return take(*taker, offer, model);
}

Result<StoredModel> Puller::pull_from_members(const std::string& model) {
  if (options_.peers) {
    for (const PeerNode& node : options_.peers->nodes) {
      begin("node " + node.name, 0);
      enter(PullPhase::kAsking);
      const auto taker = TRY(ModelTaker::create(*options_.peers, node, options_.stop));
      const auto offer = taker->ask(model);
      if (!offer) {
        if (offer.error().code == ErrorCode::kCancelled) return std::unexpected(offer.error());
        log::debug("{}: {}", node.name, offer.error().to_string());
        continue;
      }
      auto taken = take(*taker, *offer, model);
      // Another may have it whole, where this one's copy is damaged or it goes away.
      if (taken || taken.error().code == ErrorCode::kCancelled || taken.error().code == ErrorCode::kIo ||
          taken.error().code == ErrorCode::kNoCapacity) {
        return taken;
      }
      log::warning("{}: {}", node.name, taken.error().to_string());
    }
  }
  return fail(ErrorCode::kNotFound, std::format("no node of this cluster that answers has '{}'", model));
}

Result<StoredModel> Puller::take(ModelTaker& taker, const Offer& offer, const std::string& called) {
  const Sha256 digest = offer.digest();
  begin("node " + taker.node(), offer.bytes());
  const bool is_named = !digest.hex().starts_with(called);
  const std::vector<std::string> asked_by = is_named ? std::vector{without_ending(called)} : std::vector<std::string>();
  if (auto here = TRY(name_what_is_here(digest, asked_by))) return *std::move(here);
  Manifest manifest{.names = {}, .source = "node " + taker.node(), .parts = offer.parts};
  // Under the name that it was asked for by, unless that was its digest.
  if (!is_named) {
    for (const std::string& name : offer.names) manifest.names.push_back(without_ending(name));
  } else {
    // A repository alone does not say which of its models this is.
    const auto full = std::ranges::find_if(offer.names, [&](const std::string& name) {
      return name.starts_with("hf.co/") && name.starts_with(called + ":");
    });
    manifest.names = {full == offer.names.end() ? without_ending(called) : *full};
  }
  TRY(check_names(digest, manifest.names));
  Staging staging = TRY(stage(digest.hex()));
  if (auto here = TRY(name_what_is_here(digest, asked_by))) {
    library_.discard(staging);
    return *std::move(here);
  }
  for (std::uint32_t i = 0; i < offer.parts.size(); ++i) {
    const std::filesystem::path path = staging.folder / offer.parts[i].file;
    begin_part(offer.parts[i], offer.parts[i].sha256);
    if (!TRY(is_here(path, offer.parts[i]))) TRY(take_part(taker, offer, i, path));
    end_part(offer.parts[i]);
  }
  return finish(std::move(staging), std::move(manifest));
}

Result<void> Puller::take_part(ModelTaker& taker, const Offer& offer, std::uint32_t index,
                               const std::filesystem::path& path) {
  const ManifestPart& wanted = offer.parts[index];
  const DownloadEvents told = events();
  PartialFile part = TRY(PartialFile::open(path, options_.stop, told.checking));
  const std::string version = wanted.sha256.hex();
  if (part.version() != version || part.size() > wanted.bytes) TRY(part.restart(version));
  TRY(check_free_space(path.parent_path(), wanted.bytes - part.size()));
  enter(PullPhase::kDownloading);
  int failures = 0;
  while (part.size() < wanted.bytes) {
    const std::uint64_t before = part.size();
    const auto on_piece = [&](ByteSpan piece) -> Result<void> {
      if (part.size() + piece.size() > wanted.bytes) {
        return fail(ErrorCode::kProtocol, "it sends more than the part has", taker.node());
      }
      TRY(part.write(piece));
      told.came(part.size(), offer.bytes());
      return {};
    };
    auto done = taker.read(index, part.size(), on_piece);
    if (done && part.size() < wanted.bytes) done = fail(ErrorCode::kUnavailable, "it ended too early", taker.node());
    if (done) break;
    if (!passes_by_itself(done.error())) return done;
    failures = part.size() > before ? 1 : failures + 1;
    if (failures >= hub_.most_failures) return done;
    told.waiting(done.error());
    const Duration delay = hub_.first_retry_delay * (1 << std::min(failures - 1, 5));
    if (!wait_unless_stopped(delay, options_.stop)) return fail(ErrorCode::kCancelled, "stopped", taker.node());
    const auto again = taker.ask(offer.digest().hex());
    if (again && again->parts != offer.parts) {
      return fail(ErrorCode::kProtocol, "it offers something else than before", taker.node());
    }
    if (!again && !passes_by_itself(again.error())) return std::unexpected(again.error());
  }
  if (part.digest() != wanted.sha256) {
    part.discard();
    return fail(ErrorCode::kCorrupt,
                std::format("{} has another SHA-256 than that node said: its file is damaged; what came is thrown away",
                            wanted.file),
                taker.node());
  }
  TRY(part.commit());
  model::remember_digest(path, wanted.sha256);
  return {};
}

}  // namespace baton::store
