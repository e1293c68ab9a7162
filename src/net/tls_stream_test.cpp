#include "net/tls_stream.h"

#include <gtest/gtest.h>

#include "net/frames.h"
#include "net/handshake.h"
#include "net/test_support.h"

namespace baton::net {
namespace {

// Two ends of one TLS session over a real socket, after the handshake.
struct StreamPair {
  StreamPair(TestLoop& loop, std::uint64_t records_per_key) {
    const LoopHandle handle = handle_of(*loop);
    const auto tls = must(TlsContext::create(new_identity()));
    boost::asio::ip::tcp::acceptor acceptor(handle->context, Address(boost::asio::ip::address_v4::loopback(), 0));
    Socket near_socket(handle->context);
    near_socket.connect(acceptor.local_endpoint());
    Socket far_socket = acceptor.accept();
    const PeerCheck anyone{.accepts = [](const Fingerprint&) { return true; }};
    const auto shake = [&](Socket socket, TlsSide side, std::shared_ptr<TlsStream>* stream) {
      auto made = must(TlsStream::create(handle, std::move(socket), *tls, side, anyone,
                                         {.emulator = nullptr, .records_per_key = records_per_key}));
      return Handshake::start(handle, std::move(made), side, [&loop, stream](auto done) {
        *stream = must(std::move(done));
        loop.poke();
      });
    };
    const auto dialling = shake(std::move(near_socket), TlsSide::kDialer, &near_end);
    const auto listening = shake(std::move(far_socket), TlsSide::kListener, &far_end);
    EXPECT_TRUE(loop.run_until([&] { return near_end && far_end; }));
  }
  ~StreamPair() {
    near_end->close();
    far_end->close();
  }

  std::shared_ptr<TlsStream> near_end;
  std::shared_ptr<TlsStream> far_end;
};

// Writes records one by one and reads each at the other end at once; returns all bytes on the socket.
std::uint64_t exchange_records(TestLoop& loop, TlsStream& from, TlsStream& to, int records) {
  const std::uint64_t before = from.bytes_sent();
  for (int i = 0; i < records; ++i) {
    const Bytes record(100, static_cast<std::byte>(i));
    EXPECT_TRUE(from.write(record));
    EXPECT_TRUE(must(from.flush()));
    Bytes got;
    while (got.size() < record.size()) {
      std::array<std::byte, 100> part;
      const std::size_t size = must(to.read(part));
      if (size == 0) {
        bool readable = false;
        to.wait_readable([&] {
          readable = true;
          loop.poke();
        });
        if (!loop.run_until([&] { return readable; })) break;
      }
      got.insert(got.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(size));
    }
    EXPECT_EQ(got, record) << "record " << i;
  }
  return from.bytes_sent() - before;
}

TEST(TlsStream, ChangesItsKeyAndGoesOn) {
  TestLoop loop;
  constexpr int kRecords = 50;
  StreamPair changing(loop, 10);
  StreamPair constant(loop, 1 << 20);
  const auto plain = exchange_records(loop, *constant.near_end, *constant.far_end, kRecords);
  const auto there = exchange_records(loop, *changing.near_end, *changing.far_end, kRecords);
  const auto back = exchange_records(loop, *changing.far_end, *changing.near_end, kRecords);
  // A KeyUpdate is a record of 5 + 22 bytes, and every tenth record brings one.
  EXPECT_EQ(there, plain + 5 * 27);
  EXPECT_GE(back, plain + 5 * 27);
}

TEST(TlsStream, SpeaksTls13WithTheCipherTheHardwareIsFastAt) {
  TestLoop loop;
  StreamPair pair(loop, 1 << 20);
  EXPECT_EQ(pair.near_end->protocol(), "TLSv1.3 TLS_AES_128_GCM_SHA256");
  EXPECT_EQ(pair.far_end->protocol(), "TLSv1.3 TLS_AES_128_GCM_SHA256");
}

TEST(TlsStream, SendsNothingUntilItIsFlushed) {
  TestLoop loop;
  StreamPair pair(loop, 1 << 20);
  const std::uint64_t before = pair.near_end->bytes_sent();
  ASSERT_TRUE(pair.near_end->write(Bytes(kRecordBytes)));
  EXPECT_EQ(pair.near_end->bytes_sent(), before);
  EXPECT_GT(pair.near_end->unsent(), kRecordBytes);
  ASSERT_TRUE(must(pair.near_end->flush()));
  EXPECT_EQ(pair.near_end->unsent(), 0u);
}

}  // namespace
}  // namespace baton::net
