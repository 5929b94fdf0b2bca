// Who gets a packet on the link, and what happens while that is not known.
#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::payload_bytes;
using adit::test::udp_packet;

const Endpoint kOnLink{Ipv4Address::from_octets(30, 1, 1, 77), Be16::from_host(9)};
const MacAddress kOnLinkMac{{2, 0, 0, 0, 0, 77}};

class NeighbourPath : public Rig {
 protected:
  Bytes to_neighbour(uint8_t seed) {
    return udp_packet(kApplication, kOnLink, payload_bytes(20, seed));
  }
  void tell(ToWorker::Kind kind) {
    ToWorker message;
    message.kind = kind;
    message.address = kOnLink.address;
    message.mac = kOnLinkMac;
    Rig::tell(message);
  }
};

TEST_F(NeighbourPath, OnePacketWaitsWhileTheControlThreadAsks) {
  FarEnd far = open_tunnel(1, Protection::plain);
  receive_from(far, far.plain(to_neighbour(1)));
  EXPECT_TRUE(sent_frames(0).empty());
  const auto items = handed_out();
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].kind, ToControl::resolve);
  EXPECT_EQ(items[0].address, kOnLink.address);
  EXPECT_EQ(counters_.held(), 1);

  receive_from(far, far.plain(to_neighbour(2)));  // displaces the first
  EXPECT_TRUE(handed_out().empty()) << "asked once";
  EXPECT_EQ(drops(Fate::neighbour_unresolved), 1u);

  tell(ToWorker::set_neighbour);
  const auto frames = sent_frames(0);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_TRUE(std::equal(kOnLinkMac.bytes.begin(), kOnLinkMac.bytes.end(), frames[0].begin()));
  const Bytes payload = payload_bytes(20, 2);
  EXPECT_EQ(Bytes(frames[0].end() - 20, frames[0].end()), payload);
}

TEST_F(NeighbourPath, SilentNeighbourIsForgottenAndAskedForAgain) {
  FarEnd far = open_tunnel(1, Protection::plain);
  receive_from(far, far.plain(to_neighbour(1)));
  handed_out();
  tell(ToWorker::lose_neighbour);
  expect_only_drop(Fate::neighbour_unresolved);
  receive_from(far, far.plain(to_neighbour(1)));
  EXPECT_EQ(handed_out().size(), 1u);
}

TEST_F(NeighbourPath, FullTableIsADropOfItsOwn) {
  FarEnd far = open_tunnel(1, Protection::plain);
  uint64_t full = 0;
  for (unsigned host = 2; host < 250 && full == 0; ++host) {
    Endpoint to = kOnLink;
    to.address = Ipv4Address::from_octets(30, 1, 1, static_cast<uint8_t>(host == 10 ? 11 : host));
    receive_from(far, far.plain(udp_packet(kApplication, to, payload_bytes(5))));
    handed_out();
    full = drops(Fate::neighbour_table_full);
  }
  EXPECT_EQ(full, 1u);
}

TEST_F(NeighbourPath, FrameForAnotherMachineIsDropped) {
  Bytes frame(60, 0);
  frame[0] = 2;
  frame[5] = 9;
  receive_frame(0, frame);
  expect_only_drop(Fate::not_our_mac);
}

TEST_F(NeighbourPath, Ipv4InABroadcastFrameIsDropped) {
  Bytes frame(60, 0xff);
  frame[12] = 0x08;
  frame[13] = 0x00;
  receive_frame(0, frame);
  expect_only_drop(Fate::not_our_mac);
}

TEST_F(NeighbourPath, ShortFrameIsDropped) {
  receive_frame(0, Bytes(13, 0xff));
  expect_only_drop(Fate::frame_truncated);
}

TEST_F(NeighbourPath, FrameOfAnotherKindIsDropped) {
  Bytes frame(60, 0xff);
  frame[12] = 0x86;
  frame[13] = 0xdd;
  receive_frame(0, frame);
  expect_only_drop(Fate::not_ip);
}

TEST_F(NeighbourPath, ArpGoesToTheControlThread) {
  Bytes frame(42, 0xff);
  frame[12] = 0x08;
  frame[13] = 0x06;
  receive_frame(0, frame);
  const auto items = handed_out();
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].kind, ToControl::arp);
}

}  // namespace
}  // namespace adit::gateway::test
