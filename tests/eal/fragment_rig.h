// What the tests of fragments share: a tunnel with a mapping, and what came out, in order.
#pragma once

#include "tests/eal/rig.h"
#include "tests/support/fragments.h"

namespace adit::gateway::test {

inline constexpr uint64_t kFragmentTimeoutNs = 2 * tunnel::kSecondNs;
inline const Bytes kBody = adit::test::payload_bytes(500);
inline const Endpoint kSecond{Ipv4Address::from_octets(192, 168, 1, 11), Be16::from_host(7)};

class Fragment : public Rig {
 protected:
  explicit Fragment(const RigOptions& options = {}) : Rig(options) {}

  // The inner packets that reached the far end, in order.
  std::vector<Bytes> opened(FarEnd& far) {
    std::vector<Bytes> inner;
    for (const Bytes& packet : sent(0)) {
      const auto text = far.open(Bytes(packet.begin() + 28, packet.end()));
      EXPECT_TRUE(text);
      inner.push_back(text.value_or(Bytes{}));
    }
    return inner;
  }
  Endpoint external() { return external_; }
  FarEnd open_with_mapping() {
    FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
    external_ = external_of(far, adit::test::udp_packet(kApplication, kService, kBody));
    return far;
  }
  void expect_left(const std::vector<Bytes>& wanted, const std::vector<Bytes>& got) {
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], wanted[i]) << i;
  }
  // As expect_left(), for what goes to the Internet: the fragments of one datagram have one id,
  // and not their sender's (RFC 7857 §10).
  void expect_left_renumbered(std::vector<Bytes> wanted, const std::vector<Bytes>& got) {
    ASSERT_FALSE(got.empty());
    const uint16_t id = adit::test::header_of(got[0]).id.host();
    EXPECT_NE(id, adit::test::Ipv4Options{}.id);
    for (Bytes& packet : wanted) packet = adit::test::with_id(packet, id);
    expect_left(wanted, got);
  }

 private:
  Endpoint external_;
};

}  // namespace adit::gateway::test
