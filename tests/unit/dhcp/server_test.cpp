#include "lib/dhcp/server.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "tests/unit/dhcp/messages.h"

namespace adit::dhcp {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

PoolConfig small_pool() {
  PoolConfig pool;
  pool.name = "home";
  pool.network = prefix("192.168.1.0/24");
  pool.router = address("192.168.1.1");
  pool.first = address("192.168.1.10");
  pool.last = address("192.168.1.13");
  pool.excluded = {address("192.168.1.11"), address("192.168.1.200")};
  pool.lease_s = 600;
  pool.dns = {address("9.9.9.9")};
  pool.routes = {{prefix("40.1.1.10/32"), address("192.168.1.1")}};
  pool.mtu_bytes = 1420;
  pool.heartbeat_s = 25;
  return pool;
}

PoolConfig other_pool() {
  PoolConfig pool;
  pool.name = "office";
  pool.network = prefix("10.9.0.0/16");
  pool.router = address("10.9.0.1");
  pool.first = address("10.9.0.1");  // the router's own: the server leaves it out
  pool.last = address("10.9.0.3");
  pool.lease_s = 1000;
  return pool;
}

Message make_query(MessageType type) {
  Message query;
  query.type = type;
  query.xid = 0x1234;
  query.broadcast = true;
  query.vendor_class.assign(kVendorClass);
  return query;
}

Message make_discover(std::optional<Ipv4Address> wanted = std::nullopt, bool rapid_commit = true) {
  Message query = make_query(MessageType::discover);
  query.requested_address = wanted;
  query.rapid_commit = rapid_commit;
  return query;
}

Message make_selecting(Ipv4Address wanted, Ipv4Address server = address("192.168.1.1")) {
  Message query = make_query(MessageType::request);
  query.requested_address = wanted;
  query.server_id = server;
  return query;
}

Message make_reboot(Ipv4Address wanted) {
  Message query = make_query(MessageType::request);
  query.requested_address = wanted;
  return query;
}

Message make_renewal(Ipv4Address own) {
  Message query = make_query(MessageType::request);
  query.broadcast = false;
  query.ciaddr = own;
  return query;
}

Message make_release(Ipv4Address own) {
  Message query = make_query(MessageType::release);
  query.ciaddr = own;
  query.server_id = address("192.168.1.1");
  return query;
}

std::optional<MessageType> type_of(const Outcome& outcome) {
  if (!outcome.reply) return std::nullopt;
  return outcome.reply->message.type;
}

std::string text_of(const Outcome& outcome) {
  const Text& text = outcome.reply->message.text;
  return {text.begin(), text.end()};
}

class DhcpServer : public testing::Test {
 protected:
  Outcome send(uint32_t client, const Message& query, const Assignment& assignment = {}) {
    return server.on_message(now_ns, key_of(client), assignment, query);
  }
  // A lease by Rapid Commit; what the pool gave.
  std::optional<Ipv4Address> lease(uint32_t client, const Assignment& assignment = {}) {
    return send(client, make_discover(), assignment).leased;
  }
  std::vector<Ipv4Address> expire() {
    std::vector<ExpiredLease> expired(64);
    expired.resize(server.tick(now_ns, expired));
    std::vector<Ipv4Address> out;
    for (const ExpiredLease& lease : expired) out.push_back(lease.address);
    return out;
  }

  uint64_t now_ns = 1000 * kSecond;
  Server server{{small_pool(), other_pool()}};
};

TEST_F(DhcpServer, AcknowledgesADiscoverAtOnceWhenItAllowsRapidCommit) {
  const Outcome outcome = send(1, make_discover());
  ASSERT_EQ(type_of(outcome), MessageType::ack);
  const Message& ack = outcome.reply->message;
  EXPECT_EQ(outcome.leased, address("192.168.1.10"));
  EXPECT_EQ(outcome.reply->source, address("192.168.1.1"));
  EXPECT_EQ(outcome.reply->destination, address("255.255.255.255"));
  EXPECT_EQ(ack.op, Op::reply);
  EXPECT_EQ(ack.xid, 0x1234u);
  EXPECT_TRUE(ack.rapid_commit);
  EXPECT_EQ(ack.yiaddr, address("192.168.1.10"));
  EXPECT_EQ(ack.subnet_mask, address("255.255.255.0"));
  EXPECT_EQ(ack.router, address("192.168.1.1"));
  EXPECT_EQ(ack.server_id, address("192.168.1.1"));
  EXPECT_EQ(ack.lease_s, 600u);
  EXPECT_EQ(ack.t1_s, 300u);
  EXPECT_EQ(ack.t2_s, 525u);
  EXPECT_EQ(ack.dns.size(), 1u);
  EXPECT_EQ(ack.routes.size(), 1u);
  EXPECT_EQ(ack.mtu_bytes, 1420);
  EXPECT_EQ(ack.heartbeat_s, 25);
}

TEST_F(DhcpServer, OffersFirstWithoutRapidCommit) {
  const Outcome offer = send(1, make_discover(std::nullopt, false));
  ASSERT_EQ(type_of(offer), MessageType::offer);
  EXPECT_FALSE(offer.leased);
  EXPECT_FALSE(server.lookup(key_of(1))) << "an offer is no lease yet";
  const Outcome ack = send(1, make_selecting(offer.reply->message.yiaddr));
  ASSERT_EQ(type_of(ack), MessageType::ack);
  EXPECT_FALSE(ack.reply->message.rapid_commit);
  EXPECT_EQ(server.lookup(key_of(1))->address, address("192.168.1.10"));
  EXPECT_EQ(server.lookup(key_of(1))->expires_ns, now_ns + 600 * kSecond);
}

TEST_F(DhcpServer, SendsOnlyWhatTheClientAsksFor) {
  Message query = make_discover();
  query.parameter_requests.push_back(kOptionMtu);
  query.vendor_class = {};
  const Message ack = send(1, query).reply->message;
  EXPECT_EQ(ack.mtu_bytes, 1420);
  EXPECT_TRUE(ack.dns.empty());
  EXPECT_TRUE(ack.routes.empty());
  EXPECT_FALSE(ack.router);
  EXPECT_FALSE(ack.heartbeat_s) << "only a client of our vendor class understands option 43";
  EXPECT_TRUE(ack.subnet_mask && ack.lease_s && ack.server_id);
}

TEST_F(DhcpServer, EchoesTheClientIdAndTheHardwareAddress) {
  Message query = make_discover();
  query.client_id = client_id_of(counting_key());
  query.htype = 1;
  query.hlen = 6;
  query.chaddr = {1, 2, 3, 4, 5, 6};
  const Message ack = send(1, query).reply->message;
  EXPECT_EQ(ack.client_id, query.client_id);
  EXPECT_EQ(ack.htype, 1);
  EXPECT_EQ(ack.hlen, 6);
  EXPECT_EQ(ack.chaddr, query.chaddr);
}

TEST_F(DhcpServer, GivesTheLowestAddressNeverUsedAndSkipsExcludedOnes) {
  EXPECT_EQ(lease(1), address("192.168.1.10"));
  EXPECT_EQ(lease(2), address("192.168.1.12"));
  EXPECT_EQ(lease(3), address("192.168.1.13"));
  EXPECT_EQ(server.use(0).capacity, 3u);
  EXPECT_EQ(server.use(0).bound, 3u);
}

TEST_F(DhcpServer, NeverGivesOutTheRoutersAddress) {
  EXPECT_EQ(lease(1, {.pool = 1, .fixed = {}}), address("10.9.0.2"));
  EXPECT_EQ(send(2, make_discover(address("10.9.0.1")), {.pool = 1, .fixed = {}}).leased,
            address("10.9.0.3"));
}

TEST_F(DhcpServer, GivesTheSameKeyTheSameAddressBack) {
  lease(1);
  EXPECT_EQ(lease(2), address("192.168.1.12"));
  EXPECT_EQ(server.release(key_of(2)), address("192.168.1.12"));
  EXPECT_EQ(lease(3), address("192.168.1.13")) << "a never-used address goes before 2's";
  EXPECT_EQ(lease(2), address("192.168.1.12"));
}

TEST_F(DhcpServer, GivesTheRequestedAddressWhenItIsFree) {
  EXPECT_EQ(send(1, make_discover(address("192.168.1.13"))).leased, address("192.168.1.13"));
  EXPECT_EQ(send(2, make_discover(address("192.168.1.13"))).leased, address("192.168.1.10"))
      << "held by 1";
  EXPECT_EQ(send(3, make_discover(address("192.168.1.11"))).leased, address("192.168.1.12"))
      << "excluded";
  EXPECT_TRUE(send(4, make_discover(address("192.168.1.13"))).exhausted);
}

TEST_F(DhcpServer, TakesTheLeastRecentlyReleasedAddressWhenAllWereUsed) {
  for (uint32_t client = 1; client <= 3; ++client) ASSERT_TRUE(lease(client));
  server.release(key_of(2));
  server.release(key_of(1));
  server.release(key_of(3));
  EXPECT_EQ(lease(4), address("192.168.1.12")) << "2 left first";
  EXPECT_EQ(lease(5), address("192.168.1.10")) << "then 1";
  EXPECT_EQ(lease(2), address("192.168.1.13")) << "2 is forgotten, and takes what 3 left";
  EXPECT_TRUE(send(3, make_discover()).exhausted);
}

TEST_F(DhcpServer, RefusesWithATextWhenThePoolIsExhausted) {
  for (uint32_t client = 1; client <= 3; ++client) ASSERT_TRUE(lease(client));
  const Outcome discover = send(4, make_discover());
  ASSERT_EQ(type_of(discover), MessageType::nak);
  EXPECT_EQ(text_of(discover), "address pool exhausted");
  EXPECT_TRUE(discover.exhausted);
  EXPECT_FALSE(discover.leased);
  const Outcome request = send(4, make_selecting(address("192.168.1.12")));
  ASSERT_EQ(type_of(request), MessageType::nak);
  EXPECT_EQ(text_of(request), "address pool exhausted");
  EXPECT_EQ(server.counters().exhausted, 2u);
  EXPECT_EQ(server.counters().nak, 2u);
  server.release(key_of(1));
  EXPECT_EQ(lease(4), address("192.168.1.10"));
}

TEST_F(DhcpServer, KeepsTheTwoPoolsApart) {
  const Assignment office{.pool = 1, .fixed = {}};
  EXPECT_EQ(lease(1), address("192.168.1.10"));
  const Outcome outcome = send(2, make_discover(address("192.168.1.12")), office);
  EXPECT_EQ(outcome.leased, address("10.9.0.2"));
  EXPECT_EQ(outcome.reply->message.server_id, address("10.9.0.1"));
  EXPECT_EQ(outcome.reply->message.subnet_mask, address("255.255.0.0"));
  EXPECT_EQ(outcome.reply->message.lease_s, 1000u);
}

TEST_F(DhcpServer, MovesAClientThatTheConfigurationMoved) {
  lease(1);
  const Outcome outcome = send(1, make_discover(), {.pool = 1, .fixed = {}});
  EXPECT_EQ(outcome.released, address("192.168.1.10"));
  EXPECT_EQ(outcome.leased, address("10.9.0.2"));
  EXPECT_EQ(server.lookup(key_of(1))->pool, 1u);
  EXPECT_EQ(server.use(0).bound, 0u);
  const Outcome back = send(1, make_renewal(address("10.9.0.2")), {.pool = 0, .fixed = {}});
  EXPECT_EQ(type_of(back), MessageType::nak);
  EXPECT_EQ(back.released, address("10.9.0.2"));
}

TEST_F(DhcpServer, GivesASubscriberItsFixedAddress) {
  const Assignment inside{.pool = 0, .fixed = address("192.168.1.11")};
  const Assignment outside{.pool = 0, .fixed = address("192.168.1.200")};
  const Assignment elsewhere{.pool = 0, .fixed = address("172.16.0.1")};
  EXPECT_EQ(lease(1, inside), address("192.168.1.11"));
  EXPECT_EQ(lease(2, outside), address("192.168.1.200"));
  const Outcome outcome = send(3, make_discover(), elsewhere);
  EXPECT_EQ(outcome.leased, address("172.16.0.1"));
  EXPECT_EQ(outcome.reply->message.subnet_mask, address("255.255.255.255"));
  EXPECT_EQ(server.use(0).bound, 3u);
  EXPECT_EQ(server.release(key_of(1)), address("192.168.1.11"));
  EXPECT_EQ(server.use(0).released, 0u) << "no other client may be given it";
  EXPECT_EQ(lease(1, inside), address("192.168.1.11"));
  EXPECT_EQ(lease(4), address("192.168.1.10")) << "the range is untouched";
}

TEST_F(DhcpServer, KnowsAFixedAddressWithoutAnEarlierLease) {
  const Assignment fixed{.pool = 0, .fixed = address("192.168.1.11")};
  EXPECT_EQ(send(1, make_reboot(address("192.168.1.11")), fixed).leased, address("192.168.1.11"));
  EXPECT_EQ(type_of(send(2, make_renewal(address("192.168.1.12")),
                         {.pool = 0, .fixed = address("192.168.1.200")})),
            MessageType::nak);
}

TEST_F(DhcpServer, RefusesAFixedAddressThatAnotherClientHolds) {
  ASSERT_EQ(lease(1), address("192.168.1.10"));
  const Assignment fixed{.pool = 0, .fixed = address("192.168.1.10")};
  const Outcome outcome = send(2, make_discover(), fixed);
  EXPECT_EQ(type_of(outcome), MessageType::nak);
  EXPECT_FALSE(outcome.exhausted);
  server.release(key_of(1));
  EXPECT_EQ(lease(2, fixed), address("192.168.1.10"));
  EXPECT_EQ(lease(1), address("192.168.1.12"));
}

TEST_F(DhcpServer, LetsGoOfItsOfferWhenTheClientTakesAnothers) {
  send(1, make_discover(std::nullopt, false));
  ASSERT_EQ(server.use(0).offered, 1u);
  EXPECT_FALSE(send(1, make_selecting(address("10.0.0.5"), address("10.0.0.1"))).reply);
  EXPECT_EQ(server.use(0).offered, 0u);
}

TEST_F(DhcpServer, RefusesARequestForAnotherAddressThanItOffered) {
  send(1, make_discover(std::nullopt, false));
  EXPECT_EQ(type_of(send(1, make_selecting(address("192.168.1.13")))), MessageType::nak);
}

TEST_F(DhcpServer, ConfirmsTheAddressOfAClientThatRebooted) {
  lease(1);
  EXPECT_EQ(send(1, make_reboot(address("192.168.1.10"))).leased, address("192.168.1.10"));
  server.release(key_of(1));
  EXPECT_EQ(send(1, make_reboot(address("192.168.1.10"))).leased, address("192.168.1.10"))
      << "remembered after release";
}

TEST_F(DhcpServer, RefusesARebootWithAWrongAddress) {
  lease(1);
  EXPECT_EQ(type_of(send(1, make_reboot(address("192.168.1.12")))), MessageType::nak);
  EXPECT_EQ(type_of(send(2, make_reboot(address("10.5.5.5")))), MessageType::nak)
      << "not of this network";
  EXPECT_EQ(server.lookup(key_of(1))->address, address("192.168.1.10")) << "the lease stays";
}

TEST_F(DhcpServer, GrantsAFreeAddressThatItHasNoRecordOf) {
  EXPECT_EQ(send(1, make_reboot(address("192.168.1.12"))).leased, address("192.168.1.12"));
  EXPECT_EQ(send(2, make_renewal(address("192.168.1.10"))).leased, address("192.168.1.10"));
  const Outcome taken = send(3, make_reboot(address("192.168.1.12")));
  ASSERT_TRUE(taken.reply);
  EXPECT_EQ(taken.reply->message.type, MessageType::nak);
  EXPECT_EQ(server.counters().nak, 1u);
}

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
