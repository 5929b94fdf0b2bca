#include "lib/dhcp/client.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/dhcp/messages.h"

namespace adit::dhcp {
namespace {

using Event = Client::Event;
using State = Client::State;

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kStart = 5000 * kSecond;
constexpr uint64_t kNever = UINT64_MAX;

class DhcpClient : public testing::Test {
 protected:
  // A server's answer to the client's latest query.
  Message answer(MessageType type) const {
    Message message = golden_ack();
    message.type = type;
    message.xid = query.message.xid;
    message.rapid_commit = query.message.type == MessageType::discover && type == MessageType::ack;
    return message;
  }
  Message nak(std::string_view text) const {
    Message message;
    message.op = Op::reply;
    message.type = MessageType::nak;
    message.xid = query.message.xid;
    message.server_id = address("192.168.1.1");
    message.text.assign(text);
    return message;
  }
  Client::Step keep(Client::Step step) {
    if (step.send) query = *step.send;
    return step;
  }
  Client::Step receive(const Message& message) { return keep(client.on_message(now_ns, message)); }
  Client::Step tick_at_deadline() {
    now_ns = client.next_deadline_ns();
    return keep(client.tick(now_ns));
  }
  void bind(const Message& changes) {
    keep(client.start(now_ns));
    Message ack = changes;
    ack.xid = query.message.xid;
    ack.rapid_commit = true;
    ASSERT_EQ(receive(ack).event, Event::configured);
  }
  static std::string text_of(const Client::Step& step) {
    return {step.text.begin(), step.text.end()};
  }
  // Within the jitter of 10 %.
  static void expect_about(uint64_t interval_ns, uint64_t wanted_s) {
    EXPECT_GE(interval_ns, wanted_s * kSecond / 10 * 9);
    EXPECT_LE(interval_ns, wanted_s * kSecond / 10 * 11);
  }

  std::mt19937_64 random{1};
  Client client{counting_key(), [this] { return random(); }};
  uint64_t now_ns = kStart;
  Datagram query;
};

TEST_F(DhcpClient, BeginsWithADiscoverToEverybody) {
  EXPECT_EQ(client.next_deadline_ns(), kNever);
  const auto step = keep(client.start(now_ns));
  ASSERT_TRUE(step.send);
  EXPECT_EQ(step.send->source, Ipv4Address{});
  EXPECT_EQ(step.send->destination, address("255.255.255.255"));
  Message expected = golden_discover();
  expected.xid = query.message.xid;
  expected.secs = 0;
  expected.requested_address.reset();
  EXPECT_EQ(query.message, expected);
  EXPECT_EQ(client.state(), State::selecting);
}

TEST_F(DhcpClient, IsBoundByOneRoundTripOfRapidCommit) {
  keep(client.start(now_ns));
  const uint64_t sent_ns = now_ns;
  now_ns += kSecond / 10;
  const auto step = receive(answer(MessageType::ack));
  EXPECT_EQ(step.event, Event::configured);
  EXPECT_FALSE(step.send);
  EXPECT_EQ(client.state(), State::bound);
  const ClientLease& lease = *client.lease();
  EXPECT_EQ(lease.address, *Ipv4Interface::parse("192.168.1.10/24"));
  EXPECT_EQ(lease.server, address("192.168.1.1"));
  EXPECT_EQ(lease.router, address("192.168.1.1"));
  EXPECT_EQ(lease.dns, golden_ack().dns);
  EXPECT_EQ(lease.routes, golden_ack().routes);
  EXPECT_EQ(lease.mtu_bytes, 1420);
  EXPECT_EQ(lease.heartbeat_s, 25);
  EXPECT_EQ(lease.lease_s, 3600u);
  EXPECT_EQ(lease.t1_ns, sent_ns + 1800 * kSecond);
  EXPECT_EQ(lease.t2_ns, sent_ns + 3150 * kSecond);
  EXPECT_EQ(lease.expires_ns, sent_ns + 3600 * kSecond);
  EXPECT_EQ(client.next_deadline_ns(), lease.t1_ns);
}

TEST_F(DhcpClient, TakesNoAckForADiscoverWithoutRapidCommit) {
  keep(client.start(now_ns));
  Message ack = answer(MessageType::ack);
  ack.rapid_commit = false;
  EXPECT_EQ(receive(ack).event, Event::none);
  EXPECT_EQ(client.state(), State::selecting);
}

TEST_F(DhcpClient, RequestsWhatItIsOffered) {
  keep(client.start(now_ns));
  const uint32_t xid = query.message.xid;
  const auto step = receive(answer(MessageType::offer));
  ASSERT_TRUE(step.send);
  EXPECT_EQ(query.message.type, MessageType::request);
  EXPECT_EQ(query.message.xid, xid);
  EXPECT_EQ(query.message.server_id, address("192.168.1.1"));
  EXPECT_EQ(query.message.requested_address, address("192.168.1.10"));
  EXPECT_TRUE(query.message.ciaddr.is_zero());
  EXPECT_FALSE(query.message.rapid_commit);
  EXPECT_EQ(receive(answer(MessageType::ack)).event, Event::configured);
}

TEST_F(DhcpClient, RepeatsItsDiscoverMoreAndMoreSlowlyUpToSixteenSeconds) {
  keep(client.start(now_ns));
  for (const uint64_t wanted_s : {1, 2, 4, 8, 16, 16, 16}) {
    const uint64_t before_ns = now_ns;
    EXPECT_FALSE(client.tick(client.next_deadline_ns() - 1).send) << "not yet";
    EXPECT_EQ(tick_at_deadline().send->message.type, MessageType::discover);
    expect_about(now_ns - before_ns, wanted_s);
  }
  EXPECT_EQ(query.message.secs, (now_ns - kStart) / kSecond);
}

TEST_F(DhcpClient, SpreadsItsRetransmissions) {
  std::vector<uint64_t> intervals;
  for (unsigned i = 0; i < 200; ++i) {
    client.start(now_ns);
    intervals.push_back(client.next_deadline_ns() - now_ns);
    expect_about(intervals.back(), 1);
  }
  const auto [least, most] = std::ranges::minmax(intervals);
  EXPECT_GT(most - least, kSecond / 10 * 15 / 10) << "of 0.2 s";
}

TEST_F(DhcpClient, GoesBackToDiscoverAfterFourRequestsWithoutAnswer) {
  keep(client.start(now_ns));
  receive(answer(MessageType::offer));
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_EQ(tick_at_deadline().send->message.type, MessageType::request);
  }
  EXPECT_EQ(tick_at_deadline().send->message.type, MessageType::discover);
}

TEST_F(DhcpClient, AsksForItsPreviousAddressFirst) {
  keep(client.start(now_ns, address("192.168.1.10")));
  EXPECT_EQ(client.state(), State::rebooting);
  EXPECT_EQ(query.message.type, MessageType::request);
  EXPECT_EQ(query.message.requested_address, address("192.168.1.10"));
  EXPECT_FALSE(query.message.server_id);
  EXPECT_TRUE(query.message.ciaddr.is_zero());
  EXPECT_EQ(receive(answer(MessageType::ack)).event, Event::configured);
}

TEST_F(DhcpClient, AsksForItsPreviousAddressInADiscoverWhenNobodyAnswers) {
  keep(client.start(now_ns, address("192.168.1.10")));
  EXPECT_EQ(tick_at_deadline().send->message.type, MessageType::request);
  tick_at_deadline();
  EXPECT_EQ(query.message.type, MessageType::discover);
  EXPECT_EQ(query.message.requested_address, address("192.168.1.10"));
  EXPECT_LE(now_ns - kStart, 33 * kSecond / 10);
}

TEST_F(DhcpClient, AsksForAnyAddressAtOnceWhenThePreviousOneIsRefused) {
  keep(client.start(now_ns, address("192.168.1.10")));
  const auto step = receive(nak("address not assigned to this client"));
  EXPECT_EQ(step.event, Event::none);
  EXPECT_EQ(query.message.type, MessageType::discover);
  EXPECT_FALSE(query.message.requested_address);
}

TEST_F(DhcpClient, StartsPlainlyWhenThePreviousAddressIsNone) {
  for (const auto* text : {"0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1"}) {
    keep(client.start(now_ns, address(text)));
    EXPECT_EQ(query.message.type, MessageType::discover);
    EXPECT_FALSE(query.message.requested_address);
  }
}

TEST_F(DhcpClient, ReportsARefusalAndAsksAgainLaterAndLater) {
  keep(client.start(now_ns));
  for (const uint64_t wanted_s : {1, 2, 4, 8, 16, 16}) {
    const auto step = receive(nak("address pool exhausted"));
    EXPECT_EQ(step.event, Event::refused);
    EXPECT_EQ(text_of(step), "address pool exhausted");
    EXPECT_FALSE(step.send);
    EXPECT_EQ(client.state(), State::init);
    const uint64_t before_ns = now_ns;
    EXPECT_EQ(tick_at_deadline().send->message.type, MessageType::discover);
    expect_about(now_ns - before_ns, wanted_s);
  }
  // A lease in between, here one lost in a long sleep, forgives the refusals.
  receive(answer(MessageType::ack));
  now_ns += 100'000 * kSecond;
  EXPECT_EQ(keep(client.tick(now_ns)).event, Event::lost);
  receive(nak(""));
  expect_about(client.next_deadline_ns() - now_ns, 1);
}

TEST_F(DhcpClient, RenewsAtT1WithItsServerAlone) {
  bind(golden_ack());
  const uint32_t old_xid = query.message.xid;
  tick_at_deadline();
  EXPECT_EQ(now_ns, kStart + 1800 * kSecond);
  EXPECT_EQ(client.state(), State::renewing);
  EXPECT_EQ(query.message.type, MessageType::request);
  EXPECT_NE(query.message.xid, old_xid);
  EXPECT_EQ(query.message.ciaddr, address("192.168.1.10"));
  EXPECT_FALSE(query.message.requested_address || query.message.server_id);
  EXPECT_EQ(query.source, address("192.168.1.10"));
  EXPECT_EQ(query.destination, address("192.168.1.1"));
  EXPECT_EQ(receive(answer(MessageType::ack)).event, Event::configured);
  EXPECT_EQ(client.lease()->expires_ns, now_ns + 3600 * kSecond);
  EXPECT_EQ(client.state(), State::bound);
}

TEST_F(DhcpClient, RebindsAtT2AndLosesTheLeaseAtItsEnd) {
  bind(golden_ack());
  tick_at_deadline();
  // After half of what is left until T2, then half of that.
  const uint64_t t1_ns = now_ns;
  tick_at_deadline();
  expect_about(now_ns - t1_ns, 675);
  EXPECT_EQ(client.state(), State::renewing);
  while (client.state() == State::renewing) tick_at_deadline();
  EXPECT_EQ(now_ns, kStart + 3150 * kSecond);
  EXPECT_EQ(client.state(), State::rebinding);
  EXPECT_EQ(query.destination, address("255.255.255.255"));
  EXPECT_EQ(query.source, address("192.168.1.10"));
  EXPECT_EQ(query.message.ciaddr, address("192.168.1.10"));
  Client::Step step;
  unsigned tries = 1;
  while (client.state() == State::rebinding) {
    step = tick_at_deadline();
    ++tries;
  }
  EXPECT_EQ(now_ns, kStart + 3600 * kSecond);
  EXPECT_EQ(step.event, Event::lost);
  EXPECT_FALSE(client.lease());
  EXPECT_EQ(query.message.type, MessageType::discover);
  EXPECT_EQ(query.message.requested_address, address("192.168.1.10"));
  EXPECT_LT(tries, 12u);
}

TEST_F(DhcpClient, LosesTheLeaseWhenItsRenewalIsRefused) {
  bind(golden_ack());
  tick_at_deadline();
  const auto step = receive(nak("address not assigned to this client"));
  EXPECT_EQ(step.event, Event::lost);
  EXPECT_EQ(text_of(step), "address not assigned to this client");
  EXPECT_EQ(query.message.type, MessageType::discover);
  EXPECT_FALSE(client.lease());
}

TEST_F(DhcpClient, WakesUpFromALongSleepWithoutItsLease) {
  bind(golden_ack());
  now_ns += 100'000 * kSecond;
  EXPECT_EQ(keep(client.tick(now_ns)).event, Event::lost);
  EXPECT_EQ(query.message.type, MessageType::discover);
}

TEST_F(DhcpClient, WakesUpPastT2AndRebinds) {
  bind(golden_ack());
  now_ns = kStart + 3200 * kSecond;
  keep(client.tick(now_ns));
  EXPECT_EQ(client.state(), State::rebinding);
}

TEST_F(DhcpClient, GivesTheAddressBack) {
  bind(golden_ack());
  const auto step = keep(client.release(now_ns));
  ASSERT_TRUE(step.send);
  EXPECT_EQ(query.message.type, MessageType::release);
  EXPECT_EQ(query.message.ciaddr, address("192.168.1.10"));
  EXPECT_EQ(query.message.server_id, address("192.168.1.1"));
  EXPECT_EQ(query.destination, address("192.168.1.1"));
  EXPECT_EQ(query.source, address("192.168.1.10"));
  // RFC 2131, table 5: none of these in a RELEASE.
  EXPECT_FALSE(query.message.requested_address || query.message.max_message_bytes ||
               query.message.rapid_commit);
  EXPECT_TRUE(query.message.parameter_requests.empty());
  EXPECT_EQ(client.state(), State::stopped);
  EXPECT_EQ(client.next_deadline_ns(), kNever);
  EXPECT_FALSE(client.tick(kNever).send);
  EXPECT_FALSE(client.release(now_ns).send) << "nothing left to give back";
}

TEST_F(DhcpClient, IgnoresWhatIsNotForIt) {
  keep(client.start(now_ns));
  const Message right = answer(MessageType::ack);
  std::vector<Message> wrongs(6, right);
  wrongs[0].op = Op::request;
  ++wrongs[1].xid;
  wrongs[2].server_id.reset();
  wrongs[3].lease_s.reset();
  wrongs[4].yiaddr = Ipv4Address{};
  wrongs[5].yiaddr = address("224.0.0.9");
  for (const Message& wrong : wrongs) {
    EXPECT_EQ(receive(wrong).event, Event::none);
    EXPECT_EQ(client.state(), State::selecting);
  }
  ASSERT_EQ(receive(right).event, Event::configured);
  EXPECT_EQ(receive(right).event, Event::none) << "a late copy";
  EXPECT_EQ(receive(nak("")).event, Event::none) << "BOUND takes no NAK";
  EXPECT_EQ(client.state(), State::bound);
}

struct TimesRow {
  const char* what;
  std::optional<uint32_t> lease_s, t1_s, t2_s;
  uint64_t want_lease_s, want_t1_s, want_t2_s;
};

TEST_F(DhcpClient, HasSaneTimesWhateverTheServerSays) {
  const TimesRow rows[] = {
      {"as given", 1000, 100, 900, 1000, 100, 900},
      {"defaults", 1000, {}, {}, 1000, 500, 875},
      {"no T2", 1000, 100, {}, 1000, 100, 875},
      {"no lease at all", 0, {}, {}, 60, 30, 52},
      {"too short", 59, 10, 20, 60, 10, 20},
      {"T1 beyond T2", 1000, 900, 100, 1000, 500, 875},
      {"T1 equals T2", 1000, 500, 500, 1000, 500, 875},
      {"T2 is the lease", 1000, 500, 1000, 1000, 500, 875},
      {"T1 zero", 1000, 0, 800, 1000, 500, 875},
      {"T1 endless", 1000, 0xffffffff, 0xffffffff, 1000, 500, 875},
      {"almost endless", 0xfffffffe, {}, {}, 0xfffffffe, 0x7fffffff, 3758096382},
  };
  for (const TimesRow& row : rows) {
    SCOPED_TRACE(row.what);
    Message ack = golden_ack();
    ack.lease_s = row.lease_s;
    ack.t1_s = row.t1_s;
    ack.t2_s = row.t2_s;
    bind(ack);
    const ClientLease& lease = *client.lease();
    EXPECT_EQ(lease.lease_s, row.want_lease_s);
    EXPECT_EQ((lease.expires_ns - now_ns) / kSecond, row.want_lease_s);
    EXPECT_EQ((lease.t1_ns - now_ns) / kSecond, row.want_t1_s);
    EXPECT_EQ((lease.t2_ns - now_ns) / kSecond, row.want_t2_s);
  }
}

TEST_F(DhcpClient, NeverRenewsAnInfiniteLease) {
  Message ack = golden_ack();
  ack.lease_s = kLeaseInfinite;
  bind(ack);
  EXPECT_EQ(client.next_deadline_ns(), kNever);
  EXPECT_EQ(client.lease()->expires_ns, kNever);
  EXPECT_FALSE(client.tick(kNever - 1).send);
}

TEST_F(DhcpClient, DropsParametersThatMakeNoSense) {
  Message ack = golden_ack();
  ack.mtu_bytes = 575;
  ack.heartbeat_s = 0;
  ack.subnet_mask = address("255.0.255.0");
  bind(ack);
  EXPECT_FALSE(client.lease()->mtu_bytes);
  EXPECT_FALSE(client.lease()->heartbeat_s);
  EXPECT_EQ(client.lease()->address.length_bits, 32);
  ack.mtu_bytes = 576;
  ack.subnet_mask.reset();
  bind(ack);
  EXPECT_EQ(client.lease()->mtu_bytes, 576);
  EXPECT_EQ(client.lease()->address.length_bits, 32);
}

TEST_F(DhcpClient, TakesNoMaskThatIsARouteToHalfOfTheInternet) {
  const std::pair<const char*, unsigned> rows[] = {
      {"0.0.0.0", 32}, {"128.0.0.0", 32}, {"254.0.0.0", 32}, {"255.0.0.0", 8}, {"255.240.0.0", 12},
      {"255.255.255.255", 32}};
  for (const auto& [mask, want_bits] : rows) {
    Message ack = golden_ack();
    ack.subnet_mask = address(mask);
    bind(ack);
    EXPECT_EQ(client.lease()->address.length_bits, want_bits) << mask;
  }
}

TEST_F(DhcpClient, TakesNoNameServerThatCannotBeOne) {
  Message ack = golden_ack();
  ack.dns = {};
  for (const char* server : {"0.0.0.0", "127.0.0.53", "9.9.9.9", "255.255.255.255"}) {
    ack.dns.push_back(address(server));
  }
  bind(ack);
  ASSERT_EQ(client.lease()->dns.size(), 1u);
  EXPECT_EQ(client.lease()->dns[0], address("9.9.9.9"));
}

}  // namespace
}  // namespace adit::dhcp
