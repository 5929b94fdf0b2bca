#include "gateway/arp.h"

#include <gtest/gtest.h>

#include <cstring>

namespace adit::gateway {
namespace {

inline constexpr uint64_t kSecondNs = 1'000'000'000;
const MacAddress kOurs{{2, 0, 0, 0, 0, 1}};
const MacAddress kTheirs{{2, 0, 0, 0, 0, 2}};
const MacAddress kOther{{2, 0, 0, 0, 0, 3}};
const Ipv4Address kOurAddress = Ipv4Address::from_octets(30, 1, 1, 10);
const Ipv4Address kPoolAddress = Ipv4Address::from_octets(30, 1, 1, 20);
const Ipv4Address kRouted = Ipv4Address::from_octets(30, 1, 1, 64);  // and seven more
const Ipv4Address kNeighbour = Ipv4Address::from_octets(30, 1, 1, 1);

class ArpTest : public testing::Test, private Arp::Sink {
 protected:
  struct Sent {
    MacAddress to;
    ArpPacket packet;
  };

  std::vector<Sent> take_sent() { return std::exchange(sent_, {}); }
  void receive(uint16_t operation, const MacAddress& from_mac, Ipv4Address from,
               Ipv4Address target) {
    const ArpPacket packet{Be16::from_host(1), Be16::from_host(kEtherTypeIpv4), 6, 4,
                           Be16::from_host(operation), from_mac, from, {}, target};
    arp_.on_packet(0, {reinterpret_cast<const uint8_t*>(&packet), sizeof packet}, now_ns_);
  }
  void pass(uint64_t seconds) {
    for (uint64_t i = 0; i < seconds * 10; ++i) arp_.tick(now_ns_ += kSecondNs / 10);
  }

  uint64_t now_ns_ = 1000 * kSecondNs;
  std::vector<Sent> sent_;
  std::vector<MacAddress> found_;
  unsigned lost_ = 0;
  Arp arp_{{{kOurs, {kOurAddress, 24}, {{kRouted, 29}, {kPoolAddress, 32}}}}, 8, *this};

 private:
  void send_arp(unsigned, const MacAddress& to, const ArpPacket& packet) override {
    sent_.push_back({to, packet});
  }
  void neighbour_found(unsigned, Ipv4Address, const MacAddress& mac) override {
    found_.push_back(mac);
  }
  void neighbour_lost(unsigned, Ipv4Address) override { ++lost_; }
};

TEST_F(ArpTest, AnswersForItsOwnAndItsPoolsAddressesOnly) {
  for (Ipv4Address target : {kOurAddress, kPoolAddress}) {
    receive(kArpRequest, kTheirs, kNeighbour, target);
    const auto sent = take_sent();
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].to, kTheirs);
    EXPECT_EQ(sent[0].packet.operation.host(), kArpReply);
    EXPECT_EQ(sent[0].packet.sender_mac, kOurs);
    EXPECT_EQ(sent[0].packet.sender_address, target);
    EXPECT_EQ(sent[0].packet.target_address, kNeighbour);
  }
  receive(kArpRequest, kTheirs, kNeighbour, Ipv4Address::from_octets(30, 1, 1, 21));
  EXPECT_TRUE(take_sent().empty());
}

TEST_F(ArpTest, AnswersForARoutedPrefixAndNotBesideIt) {
  for (const auto& [host, answers] :
       {std::pair<uint8_t, size_t>{63, 0}, {64, 1}, {71, 1}, {72, 0}}) {
    receive(kArpRequest, kTheirs, kNeighbour, Ipv4Address::from_octets(30, 1, 1, host));
    EXPECT_EQ(take_sent().size(), answers) << unsigned{host};
  }
}

TEST_F(ArpTest, AnswersAnAddressProbe) {
  receive(kArpRequest, kTheirs, Ipv4Address{}, kOurAddress);  // RFC 5227 §2.1.1
  EXPECT_EQ(take_sent().size(), 1u);
}

TEST_F(ArpTest, ResolvesByBroadcastAndLearnsFromTheAnswer) {
  arp_.resolve(0, kNeighbour, now_ns_);
  const auto sent = take_sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].to, kBroadcastMac);
  EXPECT_EQ(sent[0].packet.target_address, kNeighbour);
  receive(kArpReply, kTheirs, kNeighbour, kOurAddress);
  EXPECT_EQ(found_, std::vector<MacAddress>{kTheirs});
}

TEST_F(ArpTest, LearnsNothingItDidNotAskFor) {
  receive(kArpReply, kTheirs, kNeighbour, kOurAddress);
  EXPECT_TRUE(found_.empty());
  EXPECT_TRUE(arp_.entries().empty());
}

TEST_F(ArpTest, NobodyElseMayClaimOurAddress) {
  receive(kArpReply, kTheirs, kOurAddress, kOurAddress);
  arp_.resolve(0, kOurAddress, now_ns_);
  EXPECT_TRUE(found_.empty());
  EXPECT_EQ(lost_, 1u);
}

TEST_F(ArpTest, GivesUpAfterThreeRequests) {
  arp_.resolve(0, kNeighbour, now_ns_);
  pass(3);
  EXPECT_EQ(take_sent().size(), 3u);
  EXPECT_EQ(lost_, 0u);
  pass(1);
  EXPECT_TRUE(take_sent().empty());
  EXPECT_EQ(lost_, 1u);
  EXPECT_TRUE(arp_.entries().empty());
}

TEST_F(ArpTest, AsksAnOldNeighbourItselfBeforeItIsForgotten) {
  arp_.resolve(0, kNeighbour, now_ns_);
  receive(kArpReply, kTheirs, kNeighbour, kOurAddress);
  take_sent();
  pass(29);
  EXPECT_TRUE(take_sent().empty());
  pass(2);
  const auto sent = take_sent();
  ASSERT_FALSE(sent.empty());
  EXPECT_EQ(sent[0].to, kTheirs);
  receive(kArpReply, kTheirs, kNeighbour, kOurAddress);
  pass(20);
  EXPECT_EQ(lost_, 0u);
  pass(20);
  EXPECT_EQ(lost_, 1u) << "silent since";
}

TEST_F(ArpTest, FollowsANeighbourThatChangesItsCard) {
  arp_.resolve(0, kNeighbour, now_ns_);
  receive(kArpReply, kTheirs, kNeighbour, kOurAddress);
  receive(kArpRequest, kOther, kNeighbour, kNeighbour);  // gratuitous
  EXPECT_EQ(found_, (std::vector<MacAddress>{kTheirs, kOther}));
}

TEST_F(ArpTest, TableIsBounded) {
  for (uint8_t host = 100; host < 110; ++host) {
    const Ipv4Address address = Ipv4Address::from_octets(30, 1, 1, host);
    arp_.resolve(0, address, now_ns_);
    receive(kArpReply, kTheirs, address, kOurAddress);
  }
  EXPECT_EQ(arp_.entries().size(), 8u);
  EXPECT_EQ(lost_, 2u);
}

TEST_F(ArpTest, SilentNeighboursTakeAQuarterOfTheTableAtMost) {
  for (uint8_t host = 100; host < 110; ++host) {
    arp_.resolve(0, Ipv4Address::from_octets(30, 1, 1, host), now_ns_);
  }
  EXPECT_EQ(arp_.entries().size(), 2u);
  pass(5);
  EXPECT_TRUE(arp_.entries().empty());
  arp_.resolve(0, kNeighbour, now_ns_);
  EXPECT_EQ(arp_.entries().size(), 1u) << "there is room again";
}

TEST_F(ArpTest, NextHopIsNeverForgotten) {
  arp_.keep(0, kNeighbour, now_ns_);
  pass(20);
  EXPECT_EQ(arp_.entries().size(), 1u);
  receive(kArpReply, kTheirs, kNeighbour, kOurAddress);
  EXPECT_EQ(found_, std::vector<MacAddress>{kTheirs});
}

TEST_F(ArpTest, NeighbourThatAnswersIsForgottenInTimeAndComesBackWhenUsed) {
  arp_.resolve(0, kNeighbour, now_ns_);
  for (int i = 0; i < 20 && lost_ == 0; ++i) {
    receive(kArpReply, kTheirs, kNeighbour, kOurAddress);
    pass(31);
  }
  EXPECT_EQ(lost_, 1u);
  arp_.resolve(0, kNeighbour, now_ns_);
  EXPECT_EQ(arp_.entries().size(), 1u);
}

TEST_F(ArpTest, AnnouncesEveryAddressOnce) {
  arp_.announce();
  const auto sent = take_sent();
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].packet.sender_address, kOurAddress);
  EXPECT_EQ(sent[1].packet.target_address, kPoolAddress);
}

TEST_F(ArpTest, IgnoresWhatIsNotArpForIpv4) {
  ArpPacket packet{Be16::from_host(1), Be16::from_host(kEtherTypeIpv4), 6, 4,
                   Be16::from_host(kArpRequest), kTheirs, kNeighbour, {}, kOurAddress};
  const auto bytes = [&] {
    return std::span{reinterpret_cast<const uint8_t*>(&packet), sizeof packet};
  };
  arp_.on_packet(0, bytes().first(27), now_ns_);
  packet.hardware_bytes = 8;
  arp_.on_packet(0, bytes(), now_ns_);
  packet.hardware_bytes = 6;
  packet.sender_mac = kBroadcastMac;
  arp_.on_packet(0, bytes(), now_ns_);
  arp_.on_packet(7, bytes(), now_ns_);
  EXPECT_TRUE(take_sent().empty());
}

}  // namespace
}  // namespace adit::gateway
