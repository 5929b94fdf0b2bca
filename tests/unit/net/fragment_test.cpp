// Fragments cut and accounted for. What is cut is put together again here by hand.
#include "lib/net/fragment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "lib/net/checksum.h"

namespace adit {
namespace {

using Bytes = std::vector<uint8_t>;
using Refusal = FragmentCoverage::Refusal;

Bytes packet_of(size_t payload_bytes, uint16_t fragment = 0, Bytes options = {},
                uint8_t protocol = kIpUdp) {
  Ipv4Header ip{};
  const size_t header_bytes = sizeof ip + options.size();
  ip.version_ihl = static_cast<uint8_t>(0x40 | header_bytes / 4);
  ip.tos = 0x28;
  ip.total_bytes = Be16::from_host(static_cast<uint16_t>(header_bytes + payload_bytes));
  ip.id = Be16::from_host(0xbeef);
  ip.fragment = Be16::from_host(fragment);
  ip.ttl = 61;
  ip.protocol = protocol;
  ip.source = Ipv4Address::from_octets(192, 168, 1, 10);
  ip.destination = Ipv4Address::from_octets(40, 1, 1, 10);
  Bytes out(header_bytes + payload_bytes);
  std::memcpy(out.data(), &ip, sizeof ip);
  std::copy(options.begin(), options.end(), out.begin() + sizeof ip);
  const Be16 sum = internet_checksum(std::span(out).first(header_bytes));
  std::memcpy(out.data() + 10, &sum, sizeof sum);
  for (size_t i = 0; i < payload_bytes; ++i) out[header_bytes + i] = static_cast<uint8_t>(i * 7);
  return out;
}

std::vector<Bytes> cut(const Bytes& packet, unsigned mtu_bytes) {
  Fragmentation fragmentation(packet, mtu_bytes);
  const unsigned count = fragmentation.left();
  std::vector<Bytes> pieces;
  while (fragmentation.left() > 0) {
    Bytes piece(mtu_bytes);
    piece.resize(fragmentation.next(piece));
    pieces.push_back(piece);
  }
  EXPECT_EQ(pieces.size(), count);
  return pieces;
}

const Ipv4Header& header_of(const Bytes& packet) {
  return *reinterpret_cast<const Ipv4Header*>(packet.data());
}
unsigned offset_of(const Bytes& piece) {
  return (header_of(piece).fragment.host() & kIpFragmentOffsetMask) * 8u;
}
bool has_more(const Bytes& piece) {
  return (header_of(piece).fragment.host() & kIpMoreFragments) != 0;
}
Bytes payload_of(const Bytes& piece) {
  return {piece.begin() + header_of(piece).header_bytes(), piece.end()};
}

TEST(Fragmentation, EveryByteIsThereOnceAndEveryHeaderIsRight) {
  for (const size_t payload : {61u, 64u, 65u, 1000u, 1421u, 8972u}) {
    for (const unsigned mtu : {68u, 69u, 75u, 576u, 1440u}) {
      const Bytes packet = packet_of(payload);
      Bytes joined;
      const std::vector<Bytes> pieces = cut(packet, mtu);
      for (const Bytes& piece : pieces) {
        const Ipv4Header& ip = header_of(piece);
        EXPECT_LE(piece.size(), mtu);
        EXPECT_EQ(ip.total_bytes.host(), piece.size());
        EXPECT_EQ(internet_checksum(std::span(piece).first(20)).raw(), 0);
        EXPECT_EQ(offset_of(piece), joined.size());
        EXPECT_EQ(has_more(piece), &piece != &pieces.back());
        EXPECT_EQ(ip.id.host(), 0xbeef);
        EXPECT_EQ(ip.ttl, 61);
        EXPECT_EQ(ip.tos, 0x28);
        EXPECT_EQ(ip.source, header_of(packet).source);
        const Bytes part = payload_of(piece);
        joined.insert(joined.end(), part.begin(), part.end());
      }
      EXPECT_EQ(joined, payload_of(packet)) << payload << " by " << mtu;
    }
  }
}

TEST(Fragmentation, FillsThePiecesAsFarAsTheGridAllows) {
  const std::vector<Bytes> pieces = cut(packet_of(1481), 1500);
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[0].size(), 1500u);
  EXPECT_EQ(pieces[1].size(), 21u);
}

TEST(Fragmentation, FragmentIsCutFurtherWithItsOwnOffsetAndMore) {
  const std::vector<Bytes> middle = cut(packet_of(160, kIpMoreFragments | 100), 100);
  ASSERT_EQ(middle.size(), 2u);
  EXPECT_EQ(offset_of(middle[0]), 800u);
  EXPECT_EQ(offset_of(middle[1]), 880u);
  EXPECT_TRUE(has_more(middle[0]));
  EXPECT_TRUE(has_more(middle[1])) << "more follows the fragment that was cut";
  const std::vector<Bytes> last = cut(packet_of(160, 100), 100);
  EXPECT_TRUE(has_more(last[0]));
  EXPECT_FALSE(has_more(last[1]));
}

// RFC 791 §3.1: record route (7) stands in the first fragment only, loose source route (131) in
// all.
TEST(Fragmentation, OnlyCopiedOptionsAreInLaterFragments) {
  const Bytes route = {131, 7, 4, 10, 0, 0, 1};
  const Bytes record = {7, 7, 4, 0, 0, 0, 0};
  Bytes options = {1};
  options.insert(options.end(), record.begin(), record.end());
  options.insert(options.end(), route.begin(), route.end());
  options.push_back(0);
  const std::vector<Bytes> pieces = cut(packet_of(200, 0, options), 100);
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(Bytes(pieces[0].begin() + 20, pieces[0].begin() + 36), options);
  for (size_t i = 1; i < pieces.size(); ++i) {
    ASSERT_EQ(header_of(pieces[i]).header_bytes(), 28u);
    Bytes kept = route;
    kept.push_back(0);
    EXPECT_EQ(Bytes(pieces[i].begin() + 20, pieces[i].begin() + 28), kept);
    EXPECT_EQ(internet_checksum(std::span(pieces[i]).first(28)).raw(), 0);
  }
}

TEST(Fragmentation, MalformedOptionsEndTheWalk) {
  for (const Bytes& options : {Bytes{131, 0, 0, 0}, Bytes{131, 1, 0, 0}, Bytes{131, 40, 0, 0},
                               Bytes{1, 1, 1, 131}}) {
    const std::vector<Bytes> pieces = cut(packet_of(200, 0, options), 100);
    EXPECT_EQ(header_of(pieces[1]).header_bytes(), 20u);
  }
}

FragmentError read(const Bytes& packet, FragmentRange& range) {
  ParsedIpv4 parsed;
  EXPECT_EQ(parse_ipv4(packet, HeaderChecksum::verify, parsed), ParseError::none);
  return read_fragment(packet.data(), parsed, range);
}

TEST(ReadFragment, SaysWhereItLies) {
  FragmentRange range;
  ASSERT_EQ(read(packet_of(16, kIpMoreFragments | 5), range), FragmentError::none);
  EXPECT_EQ(range.begin, 5);
  EXPECT_EQ(range.end, 7);
  EXPECT_FALSE(range.is_last);
  ASSERT_EQ(read(packet_of(17, 5), range), FragmentError::none);
  EXPECT_EQ(range.end, 8) << "the last may end inside a unit";
  EXPECT_TRUE(range.is_last);
}

TEST(ReadFragment, RefusesWhatNoSenderMakes) {
  FragmentRange range;
  EXPECT_EQ(read(packet_of(15, kIpMoreFragments | 5), range), FragmentError::malformed);
  EXPECT_EQ(read(packet_of(0, 5), range), FragmentError::malformed);
  EXPECT_EQ(read(packet_of(8, 8191), range), FragmentError::malformed) << "beyond 65,535 bytes";
  EXPECT_EQ(read(packet_of(64, 1, {}, kIpTcp), range), FragmentError::in_header);
  EXPECT_EQ(read(packet_of(64, 2, {}, kIpTcp), range), FragmentError::in_header);
  EXPECT_EQ(read(packet_of(64, 3, {}, kIpTcp), range), FragmentError::none);
  EXPECT_EQ(read(packet_of(64, 1), range), FragmentError::none) << "UDP's header is one unit";
}

TEST(FragmentCoverage, IsCompleteInAnyOrder) {
  std::vector<FragmentRange> pieces = {{0, 3, false}, {3, 5, false}, {5, 9, false}, {9, 10, true}};
  const auto before = [](const FragmentRange& a, const FragmentRange& b) {
    return a.begin < b.begin;
  };
  do {
    FragmentCoverage coverage;
    for (const FragmentRange& piece : pieces) {
      EXPECT_FALSE(coverage.is_complete());
      EXPECT_EQ(coverage.add(piece), Refusal::none);
    }
    EXPECT_TRUE(coverage.is_complete());
  } while (std::next_permutation(pieces.begin(), pieces.end(), before));
}

TEST(FragmentCoverage, RefusesOverlapsFromEverySide) {
  FragmentCoverage coverage;
  ASSERT_EQ(coverage.add({10, 20, false}), Refusal::none);
  ASSERT_EQ(coverage.add({30, 40, false}), Refusal::none);
  for (const FragmentRange& range :
       {FragmentRange{10, 20, false}, FragmentRange{9, 11, false}, FragmentRange{19, 21, false},
        FragmentRange{12, 13, false}, FragmentRange{5, 50, false}, FragmentRange{20, 31, false},
        FragmentRange{29, 30, false}}) {
    const Refusal expected = range.begin == 29 ? Refusal::none : Refusal::overlap;
    EXPECT_EQ(coverage.add(range), expected) << range.begin;
  }
}

TEST(FragmentCoverage, RefusesTwoEnds) {
  FragmentCoverage coverage;
  ASSERT_EQ(coverage.add({10, 20, true}), Refusal::none);
  EXPECT_EQ(coverage.add({20, 30, false}), Refusal::beyond_end);
  EXPECT_EQ(coverage.add({5, 8, true}), Refusal::beyond_end);
  FragmentCoverage other;
  ASSERT_EQ(other.add({10, 20, false}), Refusal::none);
  EXPECT_EQ(other.add({5, 8, true}), Refusal::beyond_end);
}

TEST(FragmentCoverage, IsBounded) {
  FragmentCoverage coverage;
  unsigned taken = 0;
  for (uint16_t i = 0; i < 100; ++i) {
    const auto begin = static_cast<uint16_t>(2 * i + 1);
    const Refusal refusal = coverage.add({begin, static_cast<uint16_t>(begin + 1), false});
    EXPECT_EQ(refusal, i < 16 ? Refusal::none : Refusal::scattered) << i;
    taken += refusal == Refusal::none;
  }
  EXPECT_EQ(taken, 16u);
  EXPECT_EQ(coverage.add({0, 1, false}), Refusal::none) << "what joins a run still fits";
}

}  // namespace
}  // namespace adit
