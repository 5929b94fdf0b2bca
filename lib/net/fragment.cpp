#include "lib/net/fragment.h"

#include <algorithm>
#include <cstring>

#include "lib/net/checksum.h"

namespace adit {
namespace {

inline constexpr unsigned kUnitBytes = 8;
inline constexpr unsigned kDatagramBytesMax = 65535;

inline constexpr uint8_t kOptionEnd = 0;  // RFC 791 §3.1
inline constexpr uint8_t kOptionNop = 1;
inline constexpr uint8_t kOptionCopied = 0x80;

}  // namespace

FragmentError read_fragment(const uint8_t* packet, const ParsedIpv4& parsed, FragmentRange& out) {
  const uint16_t field = reinterpret_cast<const Ipv4Header*>(packet)->fragment.host();
  const unsigned payload = parsed.total_bytes - parsed.header_bytes;
  const unsigned begin = (field & kIpFragmentOffsetMask) * kUnitBytes;
  const bool is_last = (field & kIpMoreFragments) == 0;
  if (payload == 0 || (!is_last && payload % kUnitBytes != 0) ||
      parsed.header_bytes + begin + payload > kDatagramBytesMax) {
    return FragmentError::malformed;
  }
  if (parsed.protocol == kIpTcp && begin != 0 && begin < sizeof(TcpHeader)) {
    return FragmentError::in_header;
  }
  out.begin = static_cast<uint16_t>(begin / kUnitBytes);
  out.end = static_cast<uint16_t>((begin + payload + kUnitBytes - 1) / kUnitBytes);
  out.is_last = is_last;
  return FragmentError::none;
}

FragmentCoverage::Refusal FragmentCoverage::add(const FragmentRange& range) {
  const uint16_t reach = runs_ == 0 ? uint16_t{0} : run_[runs_ - 1u].end;
  if (last_end_ != 0 ? range.end > last_end_ || (range.is_last && range.end != last_end_)
                     : range.is_last && range.end < reach) {
    return Refusal::beyond_end;
  }
  unsigned at = 0;  // the first run that does not end before the range
  while (at < runs_ && run_[at].end < range.begin) ++at;
  const bool joins_left = at < runs_ && run_[at].end == range.begin;
  const unsigned right = joins_left ? at + 1 : at;
  if (right < runs_ && run_[right].begin < range.end) return Refusal::overlap;
  const bool joins_right = right < runs_ && run_[right].begin == range.end;
  if (joins_left && joins_right) {
    run_[at].end = run_[right].end;
    std::copy(run_.begin() + right + 1, run_.begin() + runs_, run_.begin() + right);
    --runs_;
  } else if (joins_left) {
    run_[at].end = range.end;
  } else if (joins_right) {
    run_[right].begin = range.begin;
  } else {
    if (runs_ == kRunsMax) return Refusal::scattered;
    std::copy_backward(run_.begin() + at, run_.begin() + runs_, run_.begin() + runs_ + 1);
    run_[at] = {range.begin, range.end};
    ++runs_;
  }
  if (range.is_last) last_end_ = range.end;
  return Refusal::none;
}

namespace {

// The header of every fragment but the first: without the options that are not to be copied.
// Malformed options end the walk. Returns its length.
unsigned copy_later_header(std::span<const uint8_t> header, uint8_t* out) {
  std::memcpy(out, header.data(), sizeof(Ipv4Header));
  unsigned written = sizeof(Ipv4Header);
  unsigned at = sizeof(Ipv4Header);
  while (at < header.size() && header[at] != kOptionEnd) {
    if (header[at] == kOptionNop) {
      ++at;
      continue;
    }
    if (at + 2 > header.size()) break;
    const unsigned length = header[at + 1];
    if (length < 2 || at + length > header.size()) break;
    if ((header[at] & kOptionCopied) != 0) {
      std::memcpy(out + written, header.data() + at, length);
      written += length;
    }
    at += length;
  }
  while (written % 4 != 0) out[written++] = kOptionEnd;
  return written;
}

unsigned payload_max(unsigned mtu_bytes, unsigned header_bytes) {
  return (mtu_bytes - header_bytes) / kUnitBytes * kUnitBytes;
}

}  // namespace

Fragmentation::Fragmentation(std::span<const uint8_t> packet, unsigned mtu_bytes)
    : packet_(packet),
      header_bytes_(header().header_bytes()),
      payload_bytes_(header().total_bytes.host() - header_bytes_),
      later_header_bytes_(copy_later_header(packet.first(header_bytes_), later_header_.data())),
      first_payload_max_(payload_max(mtu_bytes, header_bytes_)),
      later_payload_max_(payload_max(mtu_bytes, later_header_bytes_)) {}

unsigned Fragmentation::left() const {
  unsigned payload = payload_bytes_ - at_;
  unsigned count = 0;
  if (at_ == 0) {
    payload -= std::min(payload, first_payload_max_);
    count = 1;
  }
  return count + (payload + later_payload_max_ - 1) / later_payload_max_;
}

unsigned Fragmentation::next(std::span<uint8_t> out) {
  const bool is_first = at_ == 0;
  const uint8_t* const from = is_first ? packet_.data() : later_header_.data();
  const unsigned header_bytes = is_first ? header_bytes_ : later_header_bytes_;
  const unsigned payload =
      std::min(payload_bytes_ - at_, is_first ? first_payload_max_ : later_payload_max_);
  std::memcpy(out.data(), from, header_bytes);
  std::memcpy(out.data() + header_bytes, packet_.data() + header_bytes_ + at_, payload);

  // A packet that is a fragment already lends its pieces its own offset, and its MF to the last.
  const uint16_t was = header().fragment.host();
  const unsigned offset = (was & kIpFragmentOffsetMask) + at_ / kUnitBytes;
  const bool more = at_ + payload < payload_bytes_ || (was & kIpMoreFragments) != 0;
  auto& ip = *reinterpret_cast<Ipv4Header*>(out.data());
  ip.version_ihl = static_cast<uint8_t>(0x40 | header_bytes / 4);
  ip.total_bytes = Be16::from_host(static_cast<uint16_t>(header_bytes + payload));
  ip.fragment = Be16::from_host(static_cast<uint16_t>(offset | (more ? kIpMoreFragments : 0u)));
  ip.checksum = {};
  ip.checksum = internet_checksum(out.first(header_bytes));
  at_ += payload;
  return header_bytes + payload;
}

}  // namespace adit
