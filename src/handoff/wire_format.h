// The numbers of the format that encoder and decoder share: docs/formats/kv-stream.md. Internal to the room.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace baton::handoff::wire {

// The byte that tells messages apart; never reused.
enum class Type : std::uint8_t {
  kHello = 0x01,
  kOpen = 0x10,
  kPrompt = 0x11,
  kResume = 0x12,
  kCredit = 0x13,
  kStep = 0x14,
  kCommit = 0x15,
  kCancel = 0x16,
  kPing = 0x17,
  kDraft = 0x18,
  kAccepted = 0x20,
  kRefused = 0x21,
  kSlice = 0x22,
  kProgress = 0x23,
  kDone = 0x24,
  kFailed = 0x25,
  kReleased = 0x26,
  kPong = 0x27,
  kGuesses = 0x28,
};

inline constexpr std::uint32_t kMagic = 0x4e544142;  // "BATN"
inline constexpr std::size_t kHeaderBytes = 24;

// The codes of errors on the wire, in the order of their numbers.
inline constexpr std::array kErrorCodes = {
    ErrorCode::kInvalidArgument, ErrorCode::kNotFound,    ErrorCode::kUnsupported,
    ErrorCode::kCorrupt,         ErrorCode::kIo,          ErrorCode::kNoCapacity,
    ErrorCode::kRefused,         ErrorCode::kUnavailable, ErrorCode::kTimeout,
    ErrorCode::kProtocol,        ErrorCode::kCancelled,   ErrorCode::kInternal};

// What strings and lists may have at most.
inline constexpr std::size_t kSoftwareBytes = 64;
inline constexpr std::size_t kAgentBytes = 256;
inline constexpr std::size_t kLabelBytes = 1024;
inline constexpr std::size_t kLeaseBytes = 16 * 1024;
inline constexpr std::size_t kNameBytes = 64;
inline constexpr std::size_t kAddressBytes = 272;
inline constexpr std::size_t kFingerprintBytes = 128;
inline constexpr std::size_t kErrorBytes = 1024;
inline constexpr std::size_t kExtensions = 64;
inline constexpr std::size_t kExtensionBytes = 2048;
inline constexpr std::size_t kHeldRanges = 8192;
inline constexpr std::uint32_t kMaxChunks = 1u << 16;

}  // namespace baton::handoff::wire
