#include "handoff/messages.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <sstream>

#include "base/file.h"
#include "handoff/transfer_fixture.h"

namespace baton::handoff {
namespace {

using namespace fixture;

Extension extension(std::uint16_t id, std::string_view value) {
  const auto bytes = as_byte_span(value);
  return {id, {bytes.begin(), bytes.end()}};
}

// The golden open: node 1 of a joint plan sends to the coordinator.
Open golden_open() {
  Open open;
  open.request = transfer_id(0x20);
  open.decision = transfer_id(0x40);
  open.agent = "agent";
  open.label = "chat";
  open.lease = Bytes{std::byte{0xde}, std::byte{0xad}};
  open.lease_lifetime_ms = 60'000;
  open.model = sha256(as_byte_span("model"));
  open.plan.nodes = {{"local", "", ""}, {"A", "a:7", "ff"}};
  open.plan.prefill = {{1, {0, 2}}, {0, {2, 4}}};
  open.plan.decode = {{0, {0, 4}}};
  open.sender = 1;
  open.receiver = 0;
  open.prompt_tokens = 1000;
  open.prefix_tokens = 512;
  open.prefix = sha256(as_byte_span("prefix"));
  open.chunk_tokens = 256;
  open.max_new_tokens = 32;
  open.codec = DType::kQ8_0;
  open.hidden = DType::kBf16;
  open.determinism = Determinism::kDeterministic;
  open.allowed_bytes = 1 << 20;
  open.extensions = {extension(5, "abc")};
  return open;
}

const Bytes kGoldenPayload = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};

// By the names that docs/formats/kv-stream.md gives them.
std::map<std::string, Message> golden_messages() {
  const auto of_transfer = [](Body body) { return Message{transfer_id(0), 2, std::move(body)}; };
  SliceHeader header;
  header.key = {SliceKind::kKv, 3, 512, 256};
  header.dtypes = {DType::kF16, DType::kF16};
  header.part_bytes = {8, 8};
  header.checksum = 0x0123456789abcdef;
  header.sent_at_ns = 1'000'000'000;
  header.offset = 8;
  header.length = 4;
  const WireError error{ErrorCode::kNoCapacity, "full"};
  const std::vector<HeldRange> held = {{SliceKind::kKv, 0, 768}, {SliceKind::kHidden, 2, 512}};
  return {
      {"Hello", {{}, 0, Hello{1, 3, "baton 0.1.0", {extension(0x8001, "x")}}}},
      {"Open", of_transfer(golden_open())},
      {"Prompt", of_transfer(Prompt{512, {1, -1, 32000}})},
      {"Resume", of_transfer(Resume{1 << 20, held})},
      {"Credit", of_transfer(Credit{(1ull << 32) + 5, {held[1]}})},
      {"Step", of_transfer(Step{1000, 42})},
      {"Draft", of_transfer(Draft{1000, 4, {42, 7}})},
      {"Commit", of_transfer(Commit{})},
      {"Cancel", of_transfer(Cancel{{ErrorCode::kCancelled, "stop"}})},
      {"Ping", of_transfer(Ping{123'456'789})},
      {"Accepted", of_transfer(Accepted{512, 90'000, 20'000, Pace::kEmulated})},
      {"Refused", of_transfer(Refused{error})},
      {"Slice", of_transfer(Slice{header, kGoldenPayload})},
      {"Progress", of_transfer(Progress{77, WorkState::kComputing, 1500})},
      {"Done", of_transfer(Done{6, 4096, -5, 10'000})},
      {"Failed", of_transfer(Failed{{ErrorCode::kInternal, ""}})},
      {"Released", of_transfer(Released{})},
      {"Pong", of_transfer(Pong{123'456'789, 987'654'321})},
      {"Guesses", of_transfer(Guesses{1002, 1500, {9}})},
  };
}

// The lines "Name hexadecimal..." of the document's block of golden vectors; a vector may go on over indented lines.
std::map<std::string, Bytes> golden_vectors() {
  const auto text = read_text_file(BATON_SOURCE_DIR "/docs/formats/kv-stream.md");
  EXPECT_TRUE(text) << text.error().to_string();
  std::istringstream lines(text.value_or(""));
  std::map<std::string, std::string> hex;
  std::string name;
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line == "```golden")
      inside = true;
    else if (line == "```")
      inside = false;
    else if (inside) {
      std::istringstream words(line);
      if (!line.starts_with(' ')) words >> name;
      for (std::string word; words >> word;) hex[name] += word;
    }
  }
  std::map<std::string, Bytes> vectors;
  for (const auto& [key, value] : hex) vectors[key] = from_hex(value).value();
  return vectors;
}

TEST(Messages, HaveTheBytesOfTheDocument) {
  const auto vectors = golden_vectors();
  const auto messages = golden_messages();
  ASSERT_EQ(messages.size(), std::variant_size_v<Body>);
  for (const auto& [name, message] : messages) {
    EXPECT_EQ(message_name(message.body), name);
    ASSERT_TRUE(vectors.contains(name)) << name;
    EXPECT_EQ(to_hex(encode(message)), to_hex(vectors.at(name))) << name;
    const auto read = decode(vectors.at(name));
    ASSERT_TRUE(read) << name << ": " << read.error().to_string();
    EXPECT_EQ(read->transfer, message.transfer);
    EXPECT_EQ(read->generation, message.generation);
    EXPECT_EQ(read->body.index(), message.body.index());
    EXPECT_EQ(to_hex(encode(*read)), to_hex(vectors.at(name))) << name;
  }
  EXPECT_EQ(vectors.size(), messages.size());
}

TEST(Messages, ComeBackAsTheyWere) {
  const auto read = decode(encode({transfer_id(), 9, golden_open()}));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->transfer, transfer_id());
  EXPECT_EQ(read->generation, 9u);
  EXPECT_EQ(std::get<Open>(read->body), golden_open());
  const Resume resume{5, {{SliceKind::kLogits, 32, 7}}};
  EXPECT_EQ(std::get<Resume>(decode(encode({transfer_id(), 1, resume}))->body), resume);
}

TEST(Messages, ASliceHeaderAndItsPayloadMakeAFrame) {
  const auto slice = golden_messages().at("Slice");
  const auto& body = std::get<Slice>(slice.body);
  Bytes frame = encode_slice_header(slice.transfer, slice.generation, body.header);
  EXPECT_EQ(frame.size(), kSliceHeaderBytes);
  frame.insert(frame.end(), kGoldenPayload.begin(), kGoldenPayload.end());
  EXPECT_EQ(frame, encode(slice));
  const auto read = decode(frame);
  ASSERT_TRUE(read);
  EXPECT_EQ(std::get<Slice>(read->body).header, body.header);
  EXPECT_EQ(std::get<Slice>(read->body).payload.data(), frame.data() + kSliceHeaderBytes) << "borrowed, not copied";
}

TEST(Messages, CutShortAnywhereAreRefused) {
  for (const auto& [name, message] : golden_messages()) {
    const Bytes frame = encode(message);
    for (std::size_t size = 0; size < frame.size(); ++size) {
      const auto read = decode(ByteSpan(frame).first(size));
      ASSERT_FALSE(read) << name << " of " << size << " bytes";
      EXPECT_EQ(read.error().code, ErrorCode::kProtocol);
    }
    Bytes longer = frame;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decode(longer)) << name;
  }
}

// Whatever a changed byte makes of a frame: either it is refused, or it says exactly what it says.
TEST(Messages, WithAChangedByteAreRefusedOrMeanWhatTheySay) {
  std::mt19937 random(3);
  std::size_t refused = 0;
  for (const auto& [name, message] : golden_messages()) {
    const Bytes frame = encode(message);
    for (std::size_t at = 0; at < frame.size(); ++at) {
      for (int i = 0; i < 8; ++i) {
        Bytes changed = frame;
        changed[at] = static_cast<std::byte>(random());
        const auto read = decode(changed);
        if (read) {
          EXPECT_EQ(to_hex(encode(*read)), to_hex(changed)) << name;
        }
        refused += read ? 0 : 1;
      }
    }
  }
  EXPECT_GT(refused, 100u);
}

TEST(Messages, WithFragmentsThatDoNotFitAreRefused) {
  const auto with = [](auto change) {
    Slice slice = std::get<Slice>(golden_messages().at("Slice").body);
    change(slice.header);
    const Bytes payload(slice.header.length);
    slice.payload = payload;
    return decode(encode({transfer_id(), 1, slice})).has_value();
  };
  EXPECT_TRUE(with([](SliceHeader&) {}));
  EXPECT_TRUE(with([](SliceHeader& header) { header.offset = 12; }));
  EXPECT_FALSE(with([](SliceHeader& header) { header.offset = 13; })) << "past the end";
  EXPECT_FALSE(with([](SliceHeader& header) { header.offset = 6; })) << "crosses from K into V";
  EXPECT_TRUE(with([](SliceHeader& header) { header.offset = 4; }));
  EXPECT_FALSE(with([](SliceHeader& header) { header.length = 0; }));
  EXPECT_FALSE(with([](SliceHeader& header) { header.offset = 0xffffffff; }));
  EXPECT_FALSE(with([](SliceHeader& header) {
    header.part_bytes = {1 << 20, 0};
    header.offset = 0;
    header.length = kMaxFragmentBytes + 1;
  }));
}

TEST(Messages, FitTheirFrameAtTheirLargest) {
  Slice slice = std::get<Slice>(golden_messages().at("Slice").body);
  const Bytes payload(kMaxFragmentBytes);
  slice.header.part_bytes = {kMaxFragmentBytes, 0};
  slice.header.offset = 0;
  slice.header.length = kMaxFragmentBytes;
  slice.payload = payload;
  const Bytes frame = encode({transfer_id(), 1, slice});
  EXPECT_LE(frame.size(), kMaxFrameBytes);
  EXPECT_TRUE(decode(frame));

  const Prompt prompt{0, std::vector<Token>(kTokensPerPromptFrame, 7)};
  EXPECT_LE(encode({transfer_id(), 1, prompt}).size(), kMaxFrameBytes);
  Resume resume{0, std::vector<HeldRange>(kMaxLayers + 2)};
  EXPECT_TRUE(decode(encode({transfer_id(), 1, resume})));
  EXPECT_FALSE(decode(Bytes(kMaxFrameBytes + 1)));
}

TEST(Messages, CutLongErrorsAndNothingElse) {
  const Cancel cancel{{ErrorCode::kIo, std::string(5000, 'x')}};
  const auto read = decode(encode({transfer_id(), 1, cancel}));
  ASSERT_TRUE(read);
  EXPECT_EQ(std::get<Cancel>(read->body).error.message, std::string(1024, 'x'));
  Open open = golden_open();
  open.label = std::string(1025, 'x');
  EXPECT_EQ(check(open, 4).error().code, ErrorCode::kProtocol);
}

TEST(Messages, EveryErrorCodeTravels) {
  for (int i = 0; i <= static_cast<int>(ErrorCode::kInternal); ++i) {
    const Failed failed{{static_cast<ErrorCode>(i), "m"}};
    EXPECT_EQ(std::get<Failed>(decode(encode({transfer_id(), 1, failed}))->body), failed);
  }
}

TEST(Open, IsCheckedForMeaning) {
  EXPECT_TRUE(check(golden_open(), 4));
  const auto with = [](auto change) {
    Open open = golden_open();
    change(open);
    const auto checked = check(open, 4);
    return checked ? std::string_view("accepted") : error_code_name(checked.error().code);
  };
  const auto refused = error_code_name(ErrorCode::kProtocol);
  EXPECT_EQ(with([](Open& o) { o.receiver = 1; }), refused);
  EXPECT_EQ(with([](Open& o) { o.sender = 2; }), refused);
  EXPECT_EQ(with([](Open& o) { o.plan.decode.clear(); }), refused);
  EXPECT_EQ(with([](Open& o) { o.plan.prefill[0].layers.end = 3; }), refused);
  EXPECT_EQ(with([](Open& o) { o.chunk_tokens = 0; }), refused);
  EXPECT_EQ(with([](Open& o) { o.chunk_tokens = kMaxChunkTokens + 1; }), refused);
  EXPECT_EQ(with([](Open& o) { o.prefix_tokens = 500; }), refused);
  EXPECT_EQ(with([](Open& o) { o.prompt_tokens = 512; }), refused);
  EXPECT_EQ(with([](Open& o) { o.prompt_tokens = 0; }), refused);
  EXPECT_EQ(with([](Open& o) {
              o.prompt_tokens = kMaxPromptTokens;
              o.chunk_tokens = 1;
            }),
            refused);
  EXPECT_EQ(with([](Open& o) { o.max_new_tokens = 0xffffffff; }), refused);
  EXPECT_EQ(with([](Open& o) { o.codec = DType::kF32; }), refused);
  EXPECT_EQ(with([](Open& o) { o.hidden = DType::kQ8_0; }), refused);
  EXPECT_EQ(with([](Open& o) { o.extensions = {{0x8000, {}}}; }), error_code_name(ErrorCode::kUnsupported));
  EXPECT_EQ(with([](Open& o) { o.extensions = {{0x7fff, {}}}; }), "accepted");
  EXPECT_FALSE(check(golden_open(), 5));
  EXPECT_FALSE(check(golden_open(), 0));
}

TEST(Hello, NegotiatesTheHighestCommonVersion) {
  const auto hello = [](std::uint16_t min, std::uint16_t max) { return Hello{min, max, "baton", {}}; };
  EXPECT_EQ(negotiate(hello(1, 3), hello(2, 5)).value(), 3);
  EXPECT_EQ(negotiate(hello(1, 1), hello(1, 9)).value(), 1);
  EXPECT_EQ(negotiate(hello(1, 2), hello(3, 4)).error().code, ErrorCode::kUnsupported);
  EXPECT_FALSE(negotiate(hello(3, 4), hello(1, 2)));
  Hello critical = hello(1, 1);
  critical.extensions = {{0x8002, {}}};
  EXPECT_EQ(negotiate(hello(1, 1), critical).error().code, ErrorCode::kUnsupported);
}

TEST(AnswerUnknown, EndsWhatTheOtherSideStillWaitsFor) {
  const auto answer = [](const std::string& name) -> std::string {
    const auto message = answer_unknown(golden_messages().at(name));
    if (!message) return "nothing";
    EXPECT_EQ(message->transfer, transfer_id(0));
    EXPECT_EQ(message->generation, 2u);
    // An answer is not answered again.
    EXPECT_FALSE(answer_unknown(*message));
    return std::string(message_name(message->body));
  };
  EXPECT_EQ(answer("Commit"), "Released");
  for (const auto* name : {"Resume", "Ping", "Step", "Credit"}) EXPECT_EQ(answer(name), "Refused") << name;
  for (const auto* name : {"Slice", "Progress", "Accepted", "Done", "Pong"}) EXPECT_EQ(answer(name), "Cancel") << name;
  for (const auto* name : {"Cancel", "Prompt", "Refused", "Failed", "Released"})
    EXPECT_EQ(answer(name), "nothing") << name;
  EXPECT_FALSE(answer_unknown(golden_messages().at("Hello")));
}

}  // namespace
}  // namespace baton::handoff
