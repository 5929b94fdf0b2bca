// The codec against bytes written by hand from RFC 6887's figures, and against hostile ones.
#include "lib/pcp/message.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/packets.h"

namespace adit::pcp {
namespace {

using adit::test::Bytes;

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// 192.168.1.10 asks for an hour.
Bytes header(uint8_t opcode) {
  return {2, opcode, 0, 0, 0, 0, 0x0e, 0x10, 0, 0, 0, 0, 0,
          0, 0,      0, 0, 0, 0xff, 0xff, 192, 168, 1, 10};
}
// UDP, internal port 1025, external 30.1.1.10:2048.
const Bytes kMap = {1,  2,    3,    4, 5, 6, 7, 8, 9, 10, 11, 12, 17,   0,    0,  0, 4, 1,
                    8,  0,    0,    0, 0, 0, 0, 0, 0, 0,  0,  0,  0xff, 0xff, 30, 1, 1, 10};
// 40.1.1.10:6600
const Bytes kRemote = {0x19, 0xc8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 40, 1, 1, 10};
const Bytes kPreferFailure = {2, 0, 0, 0};

std::optional<Result> read(const Bytes& message) {
  Request request;
  return read_request(message, request);
}

TEST(PcpRequest, MapIsRead) {
  Request request;
  ASSERT_EQ(read_request(header(1) + kMap + kPreferFailure, request), Result::success);
  EXPECT_EQ(request.opcode, Opcode::map);
  EXPECT_EQ(request.lifetime_s, 3600u);
  EXPECT_EQ(request.client.to_string(), "192.168.1.10");
  EXPECT_EQ(request.nonce, (Nonce{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  EXPECT_EQ(request.protocol, 17);
  EXPECT_EQ(request.internal_port.host(), 1025);
  EXPECT_EQ(request.wanted.to_string(), "30.1.1.10:2048");
  EXPECT_TRUE(request.prefer_failure);
}

TEST(PcpRequest, PeerAndAnnounceAreRead) {
  Request request;
  ASSERT_EQ(read_request(header(2) + kMap + kRemote, request), Result::success);
  EXPECT_EQ(request.opcode, Opcode::peer);
  EXPECT_EQ(request.remote.to_string(), "40.1.1.10:6600");
  ASSERT_EQ(read_request(header(0), request), Result::success);
  EXPECT_EQ(request.opcode, Opcode::announce);
  EXPECT_EQ(request.client.to_string(), "192.168.1.10");
}

TEST(PcpRequest, ClientThatIsNotIpv4ReadsAsNobody) {
  Bytes message = header(0);
  message[8] = 0x20;
  Request request;
  ASSERT_EQ(read_request(message, request), Result::success);
  EXPECT_TRUE(request.client.is_zero());
}

TEST(PcpRequest, WhatMayNotBeAnsweredIsNot) {
  EXPECT_EQ(read({}), std::nullopt);
  EXPECT_EQ(read({2}), std::nullopt);
  EXPECT_EQ(read({2, 1, 0}), std::nullopt);
  EXPECT_EQ(read(header(0x81) + kMap), std::nullopt) << "a response";
  EXPECT_EQ(read({0, 0x80}), std::nullopt);
}

TEST(PcpRequest, EachMistakeHasItsResult) {
  EXPECT_EQ(read({0, 0}), Result::unsupported_version) << "NAT-PMP asks for its address";
  EXPECT_EQ(read({1, 1, 0, 0}), Result::unsupported_version);
  EXPECT_EQ(read({3, 1, 0, 0}), Result::unsupported_version);
  EXPECT_EQ(read({2, 3, 0, 0}), Result::unsupported_opcode);
  EXPECT_EQ(read({2, 127, 0, 0}), Result::unsupported_opcode);
  EXPECT_EQ(read({2, 1, 0, 0}), Result::malformed_request);
  EXPECT_EQ(read(header(1)), Result::malformed_request);
  EXPECT_EQ(read(header(2) + kMap), Result::malformed_request);
  EXPECT_EQ(read(header(1) + kMap + Bytes{0, 0}), Result::malformed_request) << "no whole words";
  EXPECT_EQ(read(header(1) + kMap + Bytes(1044, 200)), Result::malformed_request) << "too long";
  EXPECT_EQ(read(header(1) + kMap + Bytes{1, 0, 0, 16} + Bytes(16)), Result::unsupported_option);
  EXPECT_EQ(read(header(1) + kMap + Bytes{3, 0, 0, 20} + Bytes(20)), Result::unsupported_option);
  EXPECT_EQ(read(header(1) + kMap + Bytes{127, 0, 0, 0}), Result::unsupported_option);
  EXPECT_EQ(read(header(1) + kMap + Bytes{200, 0, 0, 3} + Bytes(4)), Result::success);
  EXPECT_EQ(read(header(1) + kMap + Bytes{200, 0, 0, 5} + Bytes(4)), Result::malformed_option);
  EXPECT_EQ(read(header(1) + kMap + Bytes{2, 0, 0, 4} + Bytes(4)), Result::malformed_option);
  EXPECT_EQ(read(header(1) + kMap + kPreferFailure + kPreferFailure), Result::malformed_option);
  EXPECT_EQ(read(header(2) + kMap + kRemote + kPreferFailure), Result::malformed_option);
  EXPECT_EQ(read(header(0) + kPreferFailure), Result::malformed_option);
}

Bytes answer_to(const Bytes& message, const Answer& answer) {
  Request request;
  read_request(message, request);
  Bytes out(kMessageBytesMax, 0xee);
  out.resize(write_response(message, request, answer, out));
  return out;
}

TEST(PcpResponse, SuccessSaysWhatIsMapped) {
  const Bytes expected =
      Bytes{2, 0x81, 0, 0, 0, 0, 0, 120, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} +
      Bytes{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 17, 0, 0,    0,    4,  1,
            9, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  0,  0xff, 0xff, 30, 1, 1, 11};
  const Answer answer{Result::success, 120, 77, *Endpoint::parse("30.1.1.11:2304")};
  EXPECT_EQ(answer_to(header(1) + kMap, answer), expected);
  EXPECT_EQ(answer_to(header(1) + kMap + Bytes{200, 0, 0, 0}, answer), expected)
      << "an option that was not heeded is not repeated";
  EXPECT_EQ(answer_to(header(1) + kMap + kPreferFailure, answer), expected + kPreferFailure);
  Bytes of_peer = expected + kRemote;
  of_peer[1] = 0x82;
  EXPECT_EQ(answer_to(header(2) + kMap + kRemote, answer), of_peer);
  EXPECT_EQ(answer_to(header(0), {Result::success, 0, 5, {}}),
            (Bytes{2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST(PcpResponse, RefusalRepeatsTheRequest) {
  const Bytes error = {2, 0x81, 0, 10, 0, 0, 0, 30, 0, 0, 0, 9,
                       0, 0,    0, 0,  0, 0, 0, 0,  0, 0, 0, 0};
  const Answer answer{Result::user_exceeded_quota, 30, 9, {}};
  EXPECT_EQ(answer_to(header(1) + kMap + kPreferFailure, answer), error + kMap + kPreferFailure);
  const Answer version{Result::unsupported_version, 30, 9, {}};
  Bytes short_error = error;
  short_error[1] = 0x80;
  short_error[3] = 1;
  EXPECT_EQ(answer_to({0, 0}, version), short_error);
  const Bytes long_one = header(1) + kMap + Bytes(1200, 200);
  EXPECT_EQ(answer_to(long_one, {Result::malformed_request, 30, 9, {}}).size(), kMessageBytesMax);
}

// Bytes of all lengths, most of them nearly right; the sanitizers and the lengths watch.
TEST(PcpHostile, RandomBytesAreReadAndAnsweredWithinBounds) {
  std::mt19937 random(6887);
  const Bytes whole = header(2) + kMap + kRemote + kPreferFailure + Bytes(1200, 200);
  for (unsigned round = 0; round < 200'000; ++round) {
    Bytes message(whole.begin(), whole.begin() + random() % whole.size());
    for (unsigned i = random() % 4; i > 0 && !message.empty(); --i) {
      message[random() % std::min<size_t>(message.size(), 120)] = static_cast<uint8_t>(random());
    }
    Request request;
    const auto result = read_request(message, request);
    if (!result) continue;
    Bytes out(kMessageBytesMax);
    const size_t bytes = write_response(message, request, {*result, 1, 2, {}}, out);
    ASSERT_GE(bytes, sizeof(ResponseHeader));
    ASSERT_LE(bytes, kMessageBytesMax);
    ASSERT_EQ(bytes % 4, 0u);
  }
}

}  // namespace
}  // namespace adit::pcp
