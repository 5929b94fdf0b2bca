// What a conformance test is written with: the real packet path, subscribers whose tunnels never
// need new keys, and rows of packets on a clock that the test moves.
//
// A test's name begins with the lines of checklist.txt that it proves: R<rfc>_<requirement>_, or
// Ours_<letter>_, as often as it proves one, then a sentence:
//
//   TEST_F(Udp, R4787_6_R4787_6a_TrafficEitherWayRefreshes)
//
// Breaking one rule in the gateway turns that rule's lines red and no others: a test that only
// needs some other rule on its way asks of it no more than it needs. A test that is about every line at
// once begins with Every_ instead, and proves none.
//
// scripts/conformance.py joins names and lines; what a line lacks is said there, in the checklist.
//
// With ADIT_AGAINST=netfilter in its environment the rows go to Linux netfilter instead. A test
// that only the gateway can pass says so with ours_only(), or by its settings, or by the clock; it
// counts as "n/a" then. What fails there is a difference, and the checklist explains it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/conformance/hop.h"
#include "tests/conformance/netfilter.h"
#include "tests/eal/rig.h"

namespace adit::gateway::test {

// Whether it matters from whom the packets come that come out. Of hairpinned ones that is RFC 4787
// REQ-9a's and RFC 5382 REQ-8a's affair: tests of other lines do not ask.
enum class Source : bool { compared, ignored };

// One packet in, and all that comes out because of it.
struct Row {
  const char* description;
  uint64_t at_s;  // since the test began
  Hop in;
  std::vector<Hop> out;
  Fate drop = Fate::next;  // why it was dropped; Fate::next: it was not
  Source source = Source::compared;
};
std::vector<Row> from_anybody(std::vector<Row> rows);
// Gives `hop` the source that `wanted` has, its checksums following: a wrong one stays wrong.
void take_source(const Hop& wanted, Hop& hop);

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

// Only the endpoints that a mapping has sent to, for every protocol.
inline constexpr std::array kStrict{nat::Filtering::address_and_port_dependent,
                                    nat::Filtering::address_and_port_dependent,
                                    nat::Filtering::address_and_port_dependent};

inline Endpoint at(Ipv4Address address, unsigned port) {
  return {address, Be16::from_host(static_cast<uint16_t>(port))};
}
inline const Endpoint kElsewhere = at(Ipv4Address::from_octets(50, 1, 1, 1), 80);
inline const Ipv4Address kSomeRouter = Ipv4Address::from_octets(50, 9, 9, 9);

class Lab : public Rig {
 protected:
  explicit Lab(unsigned public_mtu_bytes = 1500);
  // With settings that netfilter does not have.
  explicit Lab(const RigOptions& options);
  void TearDown() override;

  // What follows is about the gateway alone: to netfilter this test does not apply, and ends here.
  void ours_only(const char* reason);
  // Whether the rows go to the gateway, so that its tables and counters say something.
  bool is_ours() const { return netfilter_ == nullptr; }

  // The inner address of subscriber `slot`, 1 to 15. Its tunnel opens with its first packet.
  static Ipv4Address inner(uint32_t slot);
  FarEnd& far(uint32_t slot);
  // The subscriber's tunnel ends, as when it ages out.
  void close(uint32_t slot);

  void set_time(uint64_t since_start_s);
  void give_in(const Hop& in);
  // All that was sent since the last call, tunnels opened.
  std::vector<Hop> come_out();
  void play(const std::vector<Row>& rows);
  void play(const Row& row) { play(std::vector<Row>{row}); }

  // Gives in a packet from inside and says from which external endpoint it left.
  Endpoint left_from(const Hop& in);
  // The same for a request, checked byte for byte.
  Endpoint map(Kind kind, const Endpoint& internal, const Endpoint& to = kService,
               uint32_t slot = 1);
  // Moves the clock hand over everything.
  void sweep_all();

 private:
  void not_applicable(const char* reason);

  std::map<uint32_t, FarEnd> far_ends_;
  std::unique_ptr<Netfilter> netfilter_;
  Hop last_out_;  // of left_from()
};

class LabEach : public Lab, public testing::WithParamInterface<Kind> {};
std::string kind_name(const testing::TestParamInfo<Kind>& info);

}  // namespace adit::gateway::test
