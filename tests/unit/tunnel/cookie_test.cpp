#include "lib/tunnel/cookie.h"

#include <gtest/gtest.h>

#include "lib/tunnel/session.h"
#include "tests/unit/tunnel/samples.h"

namespace adit::tunnel {
namespace {

using test::bytes_in;
using Verdict = CookieChecker::Verdict;

const Endpoint kSource{Ipv4Address::from_octets(20, 1, 1, 10), Be16::from_host(20001)};
const Endpoint kOtherPort{kSource.address, Be16::from_host(20002)};
const Endpoint kOtherAddress{Ipv4Address::from_octets(20, 1, 1, 11), kSource.port};

class Cookies : public testing::Test {
 protected:
  InitiationMessage stamped(uint64_t now_ns) {
    InitiationMessage message{};
    message.type = 1;
    message.sender_index = Le32::from_host(5);
    jar.stamp(bytes_in(message), now_ns);
    return message;
  }
  CookieReplyMessage reply_to(const InitiationMessage& message, uint64_t now_ns) {
    return checker.make_reply(bytes_in(message), 5, kSource, now_ns, random);
  }
  Verdict check(const InitiationMessage& message, const Endpoint& source, uint64_t now_ns) {
    return checker.check(bytes_in(message), source, now_ns, random);
  }

  test::TwoEnds ends;
  RandomSource random = test::seeded_random(3);
  CookieChecker checker{ends.gateway.public_key};
  CookieJar jar{ends.gateway.public_key};
};

TEST_F(Cookies, LetAStampedMessagePassTheFirstMacOnly) {
  const InitiationMessage message = stamped(0);
  EXPECT_EQ(check(message, kSource, 0), Verdict::mac1_only);
  EXPECT_TRUE(check_mac1(ends.gateway.public_key, bytes_in(message)));
  EXPECT_FALSE(check_mac1(ends.client.public_key, bytes_in(message)));
  ResponseMessage response{};
  jar.stamp(bytes_in(response), 0);
  EXPECT_EQ(checker.check(bytes_in(response), kSource, 0, random), Verdict::mac1_only);
}

TEST_F(Cookies, RefuseOtherKeysAndOtherLengths) {
  InitiationMessage message{};
  CookieJar(ends.client.public_key).stamp(bytes_in(message), 0);
  EXPECT_EQ(check(message, kSource, 0), Verdict::bad_mac1);
  message = stamped(0);
  for (size_t length = 0; length < sizeof(message); ++length) {
    EXPECT_EQ(checker.check(bytes_in(message).first(length), kSource, 0, random),
              Verdict::bad_mac1);
    EXPECT_FALSE(check_mac1(ends.gateway.public_key, bytes_in(message).first(length)));
  }
}

TEST_F(Cookies, ProveTheAddressAndPortTheyWereGivenTo) {
  const InitiationMessage first = stamped(0);
  ASSERT_TRUE(jar.on_reply(reply_to(first, 1), 2));
  const InitiationMessage second = stamped(3);
  EXPECT_EQ(check(second, kSource, 4), Verdict::mac1_and_mac2);
  EXPECT_EQ(check(second, kOtherPort, 4), Verdict::mac1_only);
  EXPECT_EQ(check(second, kOtherAddress, 4), Verdict::mac1_only);
  InitiationMessage forged = second;
  forged.mac2[0] ^= 1;
  EXPECT_EQ(check(forged, kSource, 4), Verdict::mac1_only);
}

TEST_F(Cookies, AreForgottenAfterTwoMinutesByWhoeverGotThem) {
  ASSERT_TRUE(jar.on_reply(reply_to(stamped(0), 0), 0));
  EXPECT_EQ(check(stamped(120 * kSecondNs - 1), kSource, 0), Verdict::mac1_and_mac2);
  const InitiationMessage late = stamped(120 * kSecondNs);
  for (const uint8_t byte : late.mac2) EXPECT_EQ(byte, 0);
}

TEST_F(Cookies, AreForgottenAfterTwoMinutesByWhoeverGaveThem) {
  ASSERT_TRUE(jar.on_reply(reply_to(stamped(0), 0), 0));
  const InitiationMessage message = stamped(1);
  EXPECT_EQ(check(message, kSource, 120 * kSecondNs - 1), Verdict::mac1_and_mac2);
  EXPECT_EQ(check(message, kSource, 120 * kSecondNs), Verdict::mac1_only);
}

TEST_F(Cookies, AreTakenOnlyFromTheOneWhoSawTheMessage) {
  const InitiationMessage message = stamped(0);
  const CookieReplyMessage reply = reply_to(message, 0);
  for (size_t i = offsetof(CookieReplyMessage, nonce); i < sizeof(reply); ++i) {
    CookieReplyMessage tampered = reply;
    bytes_in(tampered)[i] ^= 1;
    EXPECT_FALSE(jar.on_reply(tampered, 0)) << "byte " << i;
  }
  InitiationMessage other = message;
  other.mac1[0] ^= 1;
  EXPECT_FALSE(jar.on_reply(reply_to(other, 0), 0)) << "a reply to another message";
  EXPECT_TRUE(jar.on_reply(reply, 0));
  EXPECT_FALSE(jar.on_reply(reply, 0)) << "the same reply again";
}

TEST_F(Cookies, AreTakenFromNobodyBeforeAMessageWasSent) {
  const InitiationMessage message = stamped(0);
  CookieJar fresh(ends.gateway.public_key);
  EXPECT_FALSE(fresh.on_reply(reply_to(message, 0), 0));
}

}  // namespace
}  // namespace adit::tunnel
