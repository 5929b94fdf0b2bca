// What the server answers, and which address it gives.
#include "lib/dhcp/server.h"

#include <gtest/gtest.h>

#include "tests/unit/dhcp/server_rig.h"

namespace adit::dhcp {
namespace {

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

}  // namespace
}  // namespace adit::dhcp
