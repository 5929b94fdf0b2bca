// What a conformance test is written with: the real packet path, subscribers whose tunnels never
// need new keys, and rows of packets on a clock that the test moves.
//
// A test's name begins with the lines of checklist.txt that it proves: R<rfc>_<requirement>_, or
// Ours_<letter>_, as often as it proves one, then a sentence:
//
//   TEST_F(Udp, R4787_6_R4787_6a_TrafficEitherWayRefreshes)
//
// scripts/conformance.py joins names and lines; what a line lacks is said there, in the checklist.
#pragma once

#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "tests/eal/rig.h"

namespace adit::gateway::test {

// Where a packet comes from or goes to: a tunnel's slot, or the Internet.
inline constexpr uint32_t kInternet = 0;
inline constexpr unsigned kSubscribersMax = 15;

struct Hop {
  uint32_t place = kInternet;
  Bytes packet;
  friend bool operator==(const Hop&, const Hop&) = default;
};
void PrintTo(const Hop& hop, std::ostream* out);
inline Hop internet(Bytes packet) { return {kInternet, std::move(packet)}; }
inline Hop inside(Bytes packet, uint32_t slot = 1) { return {slot, std::move(packet)}; }

// One packet in, and all that comes out because of it.
struct Row {
  const char* description;
  uint64_t at_s;  // since the test began
  Hop in;
  std::vector<Hop> out;
  Fate drop = Fate::next;  // why it was dropped; Fate::next: it was not
};

enum class Kind : uint8_t { udp, tcp, icmp };
inline constexpr Kind kKinds[] = {Kind::udp, Kind::tcp, Kind::icmp};
nat::Protocol protocol_of(Kind kind);

// A packet as an inner host sends it, or as it leaves (`from` external then): UDP, a TCP
// acknowledgement, or an echo request whose id is from.port. And the answer to it.
Bytes request(Kind kind, const Endpoint& from, const Endpoint& to,
              const adit::test::Ipv4Options& ip = {});
Bytes reply(Kind kind, const Endpoint& from, const Endpoint& to,
            const adit::test::Ipv4Options& ip = {});
inline const adit::test::Ipv4Options kForwarded{.ttl = 63};

inline Endpoint at(Ipv4Address address, unsigned port) {
  return {address, Be16::from_host(static_cast<uint16_t>(port))};
}
inline const Endpoint kElsewhere = at(Ipv4Address::from_octets(50, 1, 1, 1), 80);
inline const Ipv4Address kSomeRouter = Ipv4Address::from_octets(50, 9, 9, 9);

class Lab : public Rig {
 protected:
  explicit Lab(const RigOptions& options = {}) : Rig(options) {}

  // The inner address of subscriber `slot`, 1 to 15. Its tunnel opens with its first packet.
  static Ipv4Address inner(uint32_t slot);
  FarEnd& far(uint32_t slot);
  // The subscriber's tunnel ends, as when it ages out.
  void close(uint32_t slot);

  void set_time(uint64_t since_start_s) { now_ns_ = kStartNs + since_start_s * tunnel::kSecondNs; }
  void give_in(const Hop& in);
  // All that was sent since the last call, tunnels opened.
  std::vector<Hop> come_out();
  void play(const std::vector<Row>& rows);
  void play(const Row& row) { play(std::vector<Row>{row}); }

  // Sends a request and says from where it left; checks it byte for byte.
  Endpoint map(Kind kind, const Endpoint& internal, const Endpoint& to = kService,
               uint32_t slot = 1);
  // Moves the clock hand over everything.
  void sweep_all();

 private:
  std::map<uint32_t, FarEnd> far_ends_;
};

class LabEach : public Lab, public testing::WithParamInterface<Kind> {};
std::string kind_name(const testing::TestParamInfo<Kind>& info);

}  // namespace adit::gateway::test
