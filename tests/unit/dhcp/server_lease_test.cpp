// How leases go on and end, in time and by the thousands.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "tests/unit/dhcp/server_rig.h"

namespace adit::dhcp {
namespace {

TEST_F(DhcpServer, ExtendsALeaseAtItsRenewal) {
  lease(1);
  now_ns += 300 * kSecond;
  const Outcome outcome = send(1, make_renewal(address("192.168.1.10")));
  EXPECT_EQ(type_of(outcome), MessageType::ack);
  EXPECT_EQ(outcome.reply->destination, address("192.168.1.10")) << "unicast to ciaddr";
  EXPECT_EQ(outcome.reply->message.ciaddr, address("192.168.1.10"));
  EXPECT_EQ(server.lookup(key_of(1))->expires_ns, now_ns + 600 * kSecond);
  now_ns += 599 * kSecond;
  EXPECT_TRUE(expire().empty());
  now_ns += 1 * kSecond;
  EXPECT_EQ(expire(), std::vector{address("192.168.1.10")});
  EXPECT_EQ(server.counters().expired, 1u);
  EXPECT_FALSE(server.lookup(key_of(1)));
}

TEST_F(DhcpServer, EndsLeasesInTheOrderOfTheirDeadlinesAndNoMoreThanAskedFor) {
  for (uint32_t client = 1; client <= 3; ++client) {
    lease(client);
    now_ns += kSecond;
  }
  send(1, make_renewal(address("192.168.1.10")));
  now_ns += 600 * kSecond;
  std::array<ExpiredLease, 2> two;
  ASSERT_EQ(server.tick(now_ns, two), 2u);
  EXPECT_EQ(two[0].address, address("192.168.1.12"));
  EXPECT_EQ(two[1].address, address("192.168.1.13"));
  EXPECT_EQ(two[1].key, key_of(3));
  ASSERT_EQ(server.tick(now_ns, two), 1u);
  EXPECT_EQ(two[0].address, address("192.168.1.10"));
  EXPECT_EQ(server.tick(now_ns, two), 0u);
}

TEST_F(DhcpServer, FreesAnOfferThatNobodyTook) {
  for (uint32_t client = 1; client <= 3; ++client) send(client, make_discover({}, false));
  EXPECT_TRUE(send(4, make_discover()).exhausted);
  now_ns += 30 * kSecond;
  EXPECT_TRUE(expire().empty()) << "an offer was nobody's address";
  EXPECT_EQ(lease(4), address("192.168.1.10"));
}

TEST_F(DhcpServer, KeepsALeaseWhoseClientAsksForAnOfferAnew) {
  lease(1);
  EXPECT_EQ(type_of(send(1, make_discover({}, false))), MessageType::offer);
  now_ns += 60 * kSecond;
  expire();
  EXPECT_TRUE(server.lookup(key_of(1)));
}

TEST_F(DhcpServer, TakesAReleaseOfTheClientsOwnAddressOnly) {
  lease(1);
  lease(2);
  EXPECT_FALSE(send(1, make_release(address("192.168.1.12"))).released);
  EXPECT_TRUE(server.lookup(key_of(1)) && server.lookup(key_of(2)));
  const Outcome outcome = send(1, make_release(address("192.168.1.10")));
  EXPECT_EQ(outcome.released, address("192.168.1.10"));
  EXPECT_FALSE(outcome.reply);
  EXPECT_FALSE(server.lookup(key_of(1)));
  EXPECT_FALSE(send(1, make_release(address("192.168.1.10"))).released) << "once";
  EXPECT_FALSE(server.release(key_of(1))) << "the tunnel's end frees it no second time";
  EXPECT_EQ(server.counters().release, 3u);
}

TEST_F(DhcpServer, KeepsADeclinedAddressBackForTenMinutes) {
  lease(1);
  Message decline = make_query(MessageType::decline);
  decline.requested_address = address("192.168.1.10");
  EXPECT_EQ(send(1, decline).released, address("192.168.1.10"));
  EXPECT_EQ(server.use(0).quarantined, 1u);
  EXPECT_EQ(lease(1), address("192.168.1.12")) << "another address for the same client";
  EXPECT_EQ(lease(2), address("192.168.1.13"));
  EXPECT_TRUE(send(3, make_discover(address("192.168.1.10"))).exhausted);
  now_ns += 599 * kSecond;
  expire();
  EXPECT_TRUE(send(3, make_discover()).exhausted);
  now_ns += kSecond;
  EXPECT_EQ(expire().size(), 2u) << "the two leases; the quarantine ends silently";
  EXPECT_EQ(server.use(0).quarantined, 0u);
  EXPECT_EQ(send(3, make_discover(address("192.168.1.10"))).leased, address("192.168.1.10"));
}

TEST_F(DhcpServer, AnswersInformWithParametersButNoLease) {
  Message inform = make_query(MessageType::inform);
  EXPECT_FALSE(send(1, inform).reply) << "it must name its address";
  inform.ciaddr = address("192.168.1.50");
  const Outcome outcome = send(1, inform);
  ASSERT_EQ(type_of(outcome), MessageType::ack);
  EXPECT_TRUE(outcome.reply->message.yiaddr.is_zero());
  EXPECT_FALSE(outcome.reply->message.lease_s || outcome.reply->message.t1_s);
  EXPECT_EQ(outcome.reply->message.mtu_bytes, 1420);
  EXPECT_EQ(outcome.reply->destination, address("192.168.1.50"));
  EXPECT_FALSE(server.lookup(key_of(1)));
}

TEST_F(DhcpServer, CountsWhatNoClientShouldSend) {
  Message reply = make_discover();
  reply.op = Op::reply;
  Message relayed = make_discover();
  relayed.giaddr = address("10.0.0.1");
  for (const Message& query :
       {reply, relayed, make_query(MessageType::offer), make_query(MessageType::ack),
        make_query(MessageType::nak), make_query(MessageType::request)}) {
    EXPECT_FALSE(send(1, query).reply);
  }
  EXPECT_EQ(server.counters().malformed, 6u);
}

TEST_F(DhcpServer, AnswersByUnicastWhereTheClientCanTakeIt) {
  Message query = make_discover();
  query.broadcast = false;
  EXPECT_EQ(send(1, query).reply->destination, address("192.168.1.10"));
  EXPECT_EQ(send(1, make_renewal(address("192.168.1.12"))).reply->destination,
            address("255.255.255.255"))
      << "a NAK is always broadcast";
}

TEST(DhcpServerTimes, RaisesAShortLeaseAndKnowsAnInfiniteOne) {
  PoolConfig brief = small_pool();
  brief.lease_s = 5;
  PoolConfig endless = other_pool();
  endless.lease_s = kLeaseInfinite;
  Server server({brief, endless});
  EXPECT_EQ(server.on_message(0, key_of(1), {}, make_discover()).reply->message.lease_s, 60u);
  const Message ack =
      server.on_message(0, key_of(2), {.pool = 1, .fixed = {}}, make_discover()).reply->message;
  EXPECT_EQ(ack.lease_s, kLeaseInfinite);
  EXPECT_FALSE(ack.t1_s || ack.t2_s);
  std::array<ExpiredLease, 8> expired;
  EXPECT_EQ(server.tick(UINT64_MAX - 1, expired), 1u) << "the brief one only";
  EXPECT_EQ(server.lookup(key_of(2))->expires_ns, UINT64_MAX);
}

// Random clients do random things for a long time; whatever they do, no two hold one address, the
// outcomes tell the whole story, and the pool's accounts are right.
TEST(DhcpServerModel, NeverGivesOneAddressToTwoClients) {
  PoolConfig pool = small_pool();
  pool.last = address("192.168.1.40");
  pool.lease_s = 60;
  Server server({pool});
  std::mt19937_64 random(7);
  std::map<uint32_t, Ipv4Address> held;  // as a gateway would know it from outcomes alone
  uint64_t now_ns = 0;
  uint64_t exhausted = 0;
  for (unsigned round = 0; round < 200'000; ++round) {
    now_ns += random() % (2 * kSecond);
    const auto client = static_cast<uint32_t>(random() % 40);
    const auto somewhere =
        Ipv4Address::from_host(pool.first.host() - 2 + static_cast<uint32_t>(random() % 36));
    const Ipv4Address own = held.contains(client) ? held[client] : somewhere;
    Assignment assignment;
    if (client < 2) assignment.fixed = Ipv4Address::from_octets(192, 168, 1, uint8_t(200 + client));
    if (client == 2) assignment.fixed = address("192.168.1.11");
    Message decline = make_query(MessageType::decline);
    decline.requested_address = own;
    const Message queries[] = {
        make_discover(),           make_discover(somewhere), make_discover(somewhere, false),
        make_selecting(somewhere), make_reboot(own),         make_renewal(own),
        make_renewal(own),         make_release(own),        decline};
    const Outcome outcome =
        server.on_message(now_ns, key_of(client), assignment, queries[random() % 9]);
    exhausted += outcome.exhausted;
    if (outcome.released) {
      ASSERT_EQ(held.at(client), *outcome.released);
      held.erase(client);
    }
    if (outcome.leased) held[client] = *outcome.leased;
    if (random() % 16 == 0) {
      std::array<ExpiredLease, 4> expired;
      for (size_t i = server.tick(now_ns, expired); i > 0; --i) {
        const ExpiredLease& lease = expired[i - 1];
        ASSERT_EQ(held.erase(static_cast<uint32_t>(lease.key[0])), 1u);
      }
    }
    std::set<Ipv4Address> distinct;
    for (const auto& [holder, taken] : held) {
      ASSERT_TRUE(distinct.insert(taken).second) << taken.to_string();
      ASSERT_EQ(server.lookup(key_of(holder))->address, taken);
    }
    ASSERT_EQ(server.use(0).bound, held.size());
  }
  EXPECT_GT(exhausted, 100u) << "the pool was too large to test anything";
  EXPECT_GT(server.counters().expired, 100u);
}

TEST(DhcpServerScale, LeasesAMillionAddressesAndEndsThemAll) {
  PoolConfig pool;
  pool.network = prefix("10.0.0.0/8");
  pool.router = address("10.0.0.1");
  pool.first = address("10.0.0.2");
  pool.last = Ipv4Address::from_host(pool.first.host() + 999'999);
  Server server({pool});
  const Message query = make_discover();
  for (uint32_t client = 0; client < 1'000'000; ++client) {
    const Outcome outcome = server.on_message(client, key_of(client), {}, query);
    ASSERT_EQ(outcome.leased, Ipv4Address::from_host(pool.first.host() + client));
  }
  EXPECT_TRUE(server.on_message(0, key_of(1'000'000), {}, query).exhausted);
  std::vector<ExpiredLease> expired(1024);
  size_t ended = 0;
  while (const size_t count = server.tick(3601 * kSecond, expired)) ended += count;
  EXPECT_EQ(ended, 1'000'000u);
  EXPECT_EQ(server.on_message(0, key_of(77), {}, query).leased, address("10.0.0.79"));
}

}  // namespace
}  // namespace adit::dhcp
