#include "lib/dhcp/message.h"

#include <bitset>
#include <cstring>

#include "lib/net/be.h"

namespace adit::dhcp {
namespace {

constexpr uint32_t kMagicCookie = 0x63825363;    // RFC 2131 §3
constexpr uint16_t kBroadcastFlag = 0x8000;      // RFC 2131 §2, figure 2
constexpr uint8_t kVendorHeartbeatInterval = 1;  // ours, see message.h
constexpr uint16_t kMaxMessageBytesMin = 576;    // RFC 2132 §9.10
constexpr uint8_t kOverloadFile = 1;             // RFC 2132 §9.3, a bit each
constexpr uint8_t kOverloadSname = 2;

// RFC 2131 §2, figure 1; the cookie opens the options field.
struct FixedPart {
  uint8_t op;
  uint8_t htype;
  uint8_t hlen;
  uint8_t hops;
  Be32 xid;
  Be16 secs;
  Be16 flags;
  Ipv4Address ciaddr;
  Ipv4Address yiaddr;
  Ipv4Address siaddr;
  Ipv4Address giaddr;
  std::array<uint8_t, 16> chaddr;
  std::array<uint8_t, 64> sname;
  std::array<uint8_t, 128> file;
  Be32 cookie;
};
static_assert(sizeof(FixedPart) == 240 && alignof(FixedPart) == 1);

using Bytes = std::span<const uint8_t>;

// Calls visit(code, value) for each option of `field`. False when one overruns the field or when
// the field ends without the end option that RFC 2131 §4.1 demands.
template <typename Visit>
bool walk_options(Bytes field, Visit visit) {
  size_t at = 0;
  while (at < field.size()) {
    const uint8_t code = field[at++];
    if (code == kOptionPad) continue;
    if (code == kOptionEnd) return true;
    if (at == field.size()) return false;
    const size_t length = field[at++];
    if (length > field.size() - at) return false;
    visit(code, field.subspan(at, length));
    at += length;
  }
  return false;
}

// The options of one message, the pieces of each joined in the order of RFC 3396 §5: the options
// field, then file, then sname. A counting sort: one walk adds up the lengths, one copies.
class JoinedOptions {
 public:
  // `file` and `sname` are read as options only where option 52 says so.
  bool join(Bytes options, Bytes file, Bytes sname) {
    uint8_t overload = 0;
    const auto count = [&](uint8_t code, Bytes value) {
      present_.set(code);
      end_[code] = static_cast<uint16_t>(end_[code] + value.size());
      if (code == kOptionOverload && value.size() == 1) overload = value[0];
    };
    if (!walk_options(options, count)) return false;
    if (present_[kOptionOverload]) {
      const bool known = overload >= 1 && overload <= (kOverloadFile | kOverloadSname);
      if (end_[kOptionOverload] != 1 || !known) return false;
    }
    if ((overload & kOverloadFile) == 0) file = {};
    if ((overload & kOverloadSname) == 0) sname = {};
    if (!file.empty() && !walk_options(file, count)) return false;
    if (!sname.empty() && !walk_options(sname, count)) return false;
    if (present_[kOptionOverload] && end_[kOptionOverload] != 1) return false;

    uint16_t start = 0;
    for (size_t code = 0; code < end_.size(); ++code) {
      start_[code] = start;
      start = static_cast<uint16_t>(start + end_[code]);
      end_[code] = start_[code];
    }
    const auto copy = [&](uint8_t code, Bytes value) {
      std::copy(value.begin(), value.end(), joined_.begin() + end_[code]);
      end_[code] = static_cast<uint16_t>(end_[code] + value.size());
    };
    for (const Bytes field : {options, file, sname}) walk_options(field, copy);
    return true;
  }

  bool has(uint8_t code) const { return present_[code]; }
  Bytes operator[](uint8_t code) const {
    return Bytes(joined_).subspan(start_[code], end_[code] - start_[code]);
  }

 private:
  std::bitset<256> present_;
  std::array<uint16_t, 256> start_{};  // offsets into joined_
  std::array<uint16_t, 256> end_{};    // until the second walk: lengths
  std::array<uint8_t, kMessageBytesMax> joined_;
};

// What lengths an option may have: from min to max, in steps of unit.
struct LengthRule {
  uint8_t code;
  uint16_t min_bytes;
  uint16_t max_bytes;
  uint16_t unit_bytes;
};
constexpr uint16_t kAnyLength = kMessageBytesMax;
constexpr LengthRule kLengthRules[] = {
    {kOptionSubnetMask, 4, 4, 4},
    {kOptionRouter, 4, kAnyLength, 4},
    {kOptionDns, 4, kAnyLength, 4},
    {kOptionMtu, 2, 2, 2},
    {kOptionRequestedAddress, 4, 4, 4},
    {kOptionLeaseTime, 4, 4, 4},
    {kOptionMessageType, 1, 1, 1},
    {kOptionServerId, 4, 4, 4},
    {kOptionParameterRequests, 1, kAnyLength, 1},
    {kOptionText, 1, kAnyLength, 1},
    {kOptionMaxMessage, 2, 2, 2},
    {kOptionRenewalTime, 4, 4, 4},
    {kOptionRebindingTime, 4, 4, 4},
    {kOptionVendorClass, 1, kAnyLength, 1},
    {kOptionClientId, 2, ClientId::capacity(), 1},  // a cut one would name another client
    {kOptionRapidCommit, 0, 0, 1},
    {kOptionClasslessRoutes, 5, kAnyLength, 1},
};

bool lengths_are_right(const JoinedOptions& options) {
  return std::ranges::all_of(kLengthRules, [&](const LengthRule& rule) {
    if (!options.has(rule.code)) return true;
    const size_t length = options[rule.code].size();
    return length >= rule.min_bytes && length <= rule.max_bytes && length % rule.unit_bytes == 0;
  });
}

// The readers below rely on lengths_are_right().
template <typename Wire>
Wire load(Bytes bytes) {
  Wire wire;
  std::memcpy(&wire, bytes.data(), sizeof(wire));
  return wire;
}

std::optional<uint16_t> read_u16(const JoinedOptions& options, uint8_t code) {
  if (!options.has(code)) return std::nullopt;
  return load<Be16>(options[code]).host();
}

std::optional<uint32_t> read_u32(const JoinedOptions& options, uint8_t code) {
  if (!options.has(code)) return std::nullopt;
  return load<Be32>(options[code]).host();
}

std::optional<Ipv4Address> read_address(const JoinedOptions& options, uint8_t code) {
  if (!options.has(code)) return std::nullopt;
  return load<Ipv4Address>(options[code]);
}

// RFC 2132 §2: a sender should not end a text with NUL, a receiver must be ready to delete it.
template <size_t N>
void read_text(Bytes bytes, FixedList<char, N>& out) {
  while (!bytes.empty() && bytes.back() == 0) bytes = bytes.first(bytes.size() - 1);
  for (const uint8_t byte : bytes) {
    const bool printable = byte >= 0x20 && byte < 0x7f;
    if (!out.push_back(printable ? static_cast<char>(byte) : '?')) return;
  }
}

// RFC 3442: a prefix length, the prefix's significant bytes, a router. Bits beyond the length are
// cleared, as the RFC asks. False when malformed or when there are more routes than we can hold.
bool read_routes(Bytes bytes, RouteList& out) {
  while (!bytes.empty()) {
    const uint8_t length_bits = bytes[0];
    if (length_bits > 32) return false;
    const size_t prefix_bytes = (length_bits + 7u) / 8u;
    if (bytes.size() < 1 + prefix_bytes + sizeof(Ipv4Address)) return false;
    Ipv4Address prefix;
    std::memcpy(&prefix, bytes.data() + 1, prefix_bytes);
    const Ipv4Address via = load<Ipv4Address>(bytes.subspan(1 + prefix_bytes));
    if (!out.push_back({Ipv4Interface{prefix, length_bits}.prefix(), via})) return false;
    bytes = bytes.subspan(1 + prefix_bytes + sizeof(Ipv4Address));
  }
  return true;
}

// Another vendor's bytes in option 43 are no error, so the walk's verdict is not asked for; nor
// does an encapsulated list have to end with the end option (RFC 2132 §8.4).
std::optional<uint16_t> read_heartbeat_s(Bytes vendor_options) {
  std::optional<uint16_t> heartbeat_s;
  walk_options(vendor_options, [&](uint8_t code, Bytes value) {
    if (code == kVendorHeartbeatInterval && value.size() == sizeof(Be16)) {
      heartbeat_s = load<Be16>(value).host();
    }
  });
  return heartbeat_s;
}

bool read_options(const JoinedOptions& options, Message& out) {
  if (!options.has(kOptionMessageType) || !lengths_are_right(options)) return false;
  const uint8_t type = options[kOptionMessageType][0];
  if (type < uint8_t(MessageType::discover) || type > uint8_t(MessageType::inform)) return false;
  out.type = static_cast<MessageType>(type);

  out.subnet_mask = read_address(options, kOptionSubnetMask);
  out.router = read_address(options, kOptionRouter);
  for (Bytes dns = options[kOptionDns]; !dns.empty(); dns = dns.subspan(sizeof(Ipv4Address))) {
    if (!out.dns.push_back(load<Ipv4Address>(dns))) break;
  }
  out.mtu_bytes = read_u16(options, kOptionMtu);
  out.heartbeat_s = read_heartbeat_s(options[kOptionVendorSpecific]);
  out.requested_address = read_address(options, kOptionRequestedAddress);
  out.lease_s = read_u32(options, kOptionLeaseTime);
  out.server_id = read_address(options, kOptionServerId);
  out.parameter_requests.assign(options[kOptionParameterRequests]);
  read_text(options[kOptionText], out.text);
  out.max_message_bytes = read_u16(options, kOptionMaxMessage);
  if (out.max_message_bytes < kMaxMessageBytesMin) out.max_message_bytes.reset();
  out.t1_s = read_u32(options, kOptionRenewalTime);
  out.t2_s = read_u32(options, kOptionRebindingTime);
  read_text(options[kOptionVendorClass], out.vendor_class);
  out.client_id.assign(options[kOptionClientId]);
  out.rapid_commit = options.has(kOptionRapidCommit);
  return read_routes(options[kOptionClasslessRoutes], out.routes);
}

// Appends options while there is room, and remembers when there was none.
class OptionWriter {
 public:
  explicit OptionWriter(std::span<uint8_t> out) : out_(out) {}

  // RFC 3396 §4: what exceeds 255 bytes continues in another option of the same code.
  void put(uint8_t code, Bytes value) {
    do {
      const Bytes piece = value.first(std::min<size_t>(value.size(), 255));
      if (!reserve(2 + piece.size())) return;
      out_[at_++] = code;
      out_[at_++] = static_cast<uint8_t>(piece.size());
      std::copy(piece.begin(), piece.end(), out_.begin() + static_cast<ptrdiff_t>(at_));
      at_ += piece.size();
      value = value.subspan(piece.size());
    } while (!value.empty());
  }
  template <typename T>
  void put_object(uint8_t code, const T& object) {
    put(code, Bytes(reinterpret_cast<const uint8_t*>(&object), sizeof(object)));
  }
  void put(uint8_t code, std::optional<uint16_t> value) {
    if (value) put_object(code, Be16::from_host(*value));
  }
  void put(uint8_t code, std::optional<uint32_t> value) {
    if (value) put_object(code, Be32::from_host(*value));
  }
  void put(uint8_t code, std::optional<Ipv4Address> value) {
    if (value) put_object(code, *value);
  }
  // A list of bytes, characters or addresses; an empty one is left out.
  template <typename T, size_t N>
  void put(uint8_t code, const FixedList<T, N>& list) {
    static_assert(alignof(T) == 1);
    if (!list.empty()) put(code, as_bytes(list));
  }
  void end() {
    if (reserve(1)) out_[at_++] = kOptionEnd;
  }

  // Bytes written, 0 when something did not fit.
  size_t size_bytes() const { return overflow_ ? 0 : at_; }

 private:
  template <typename T, size_t N>
  static Bytes as_bytes(const FixedList<T, N>& list) {
    return {reinterpret_cast<const uint8_t*>(list.data()), list.size() * sizeof(T)};
  }
  bool reserve(size_t bytes) {
    if (bytes > out_.size() - at_) overflow_ = true;
    return !overflow_;
  }

  std::span<uint8_t> out_;
  size_t at_ = 0;
  bool overflow_ = false;
};

void put_routes(OptionWriter& writer, const RouteList& routes) {
  constexpr size_t kRouteBytesMax = 1 + 2 * sizeof(Ipv4Address);
  FixedList<uint8_t, RouteList::capacity() * kRouteBytesMax> bytes;
  const auto append = [&](const Ipv4Address& address, size_t count) {
    const auto* at = reinterpret_cast<const uint8_t*>(&address);
    for (size_t i = 0; i < count; ++i) bytes.push_back(at[i]);
  };
  for (const Route& route : routes) {
    bytes.push_back(route.destination.length_bits);
    append(route.destination.address, (route.destination.length_bits + 7u) / 8u);
    append(route.via, sizeof(Ipv4Address));
  }
  writer.put(kOptionClasslessRoutes, bytes);
}

void put_heartbeat(OptionWriter& writer, uint16_t heartbeat_s) {
  const uint8_t encapsulated[] = {kVendorHeartbeatInterval, sizeof(Be16),
                                  static_cast<uint8_t>(heartbeat_s >> 8),
                                  static_cast<uint8_t>(heartbeat_s)};
  writer.put(kOptionVendorSpecific, Bytes(encapsulated));
}

size_t write_options(const Message& message, std::span<uint8_t> out) {
  OptionWriter writer(out);
  writer.put_object(kOptionMessageType, message.type);
  writer.put(kOptionClientId, message.client_id);
  writer.put(kOptionServerId, message.server_id);
  writer.put(kOptionRequestedAddress, message.requested_address);
  writer.put(kOptionLeaseTime, message.lease_s);
  writer.put(kOptionRenewalTime, message.t1_s);
  writer.put(kOptionRebindingTime, message.t2_s);
  writer.put(kOptionSubnetMask, message.subnet_mask);
  writer.put(kOptionRouter, message.router);
  writer.put(kOptionDns, message.dns);
  writer.put(kOptionMtu, message.mtu_bytes);
  put_routes(writer, message.routes);
  if (message.heartbeat_s) put_heartbeat(writer, *message.heartbeat_s);
  writer.put(kOptionParameterRequests, message.parameter_requests);
  writer.put(kOptionMaxMessage, message.max_message_bytes);
  writer.put(kOptionVendorClass, message.vendor_class);
  if (message.rapid_commit) writer.put(kOptionRapidCommit, Bytes());
  writer.put(kOptionText, message.text);
  writer.end();
  return writer.size_bytes();
}

}  // namespace

ClientId client_id_of(const ClientKey& key) {
  ClientId id;
  id.push_back(0);
  for (const uint8_t byte : key) id.push_back(byte);
  return id;
}

std::optional<Message> parse(std::span<const uint8_t> udp_payload) {
  if (udp_payload.size() < sizeof(FixedPart) || udp_payload.size() > kMessageBytesMax) {
    return std::nullopt;
  }
  const auto fixed = load<FixedPart>(udp_payload);
  const bool known_op = fixed.op == uint8_t(Op::request) || fixed.op == uint8_t(Op::reply);
  if (!known_op || fixed.hlen > fixed.chaddr.size() || fixed.cookie.host() != kMagicCookie) {
    return std::nullopt;
  }
  JoinedOptions options;
  if (!options.join(udp_payload.subspan(sizeof(FixedPart)), fixed.file, fixed.sname)) {
    return std::nullopt;
  }
  std::optional<Message> out(std::in_place);
  out->op = static_cast<Op>(fixed.op);
  out->htype = fixed.htype;
  out->hlen = fixed.hlen;
  out->xid = fixed.xid.host();
  out->secs = fixed.secs.host();
  out->broadcast = (fixed.flags.host() & kBroadcastFlag) != 0;
  out->ciaddr = fixed.ciaddr;
  out->yiaddr = fixed.yiaddr;
  out->siaddr = fixed.siaddr;
  out->giaddr = fixed.giaddr;
  out->chaddr = fixed.chaddr;
  if (!read_options(options, *out)) return std::nullopt;
  return out;
}

size_t serialize(const Message& message, std::span<uint8_t> out) {
  if (out.size() < sizeof(FixedPart)) return 0;
  FixedPart fixed{};
  fixed.op = static_cast<uint8_t>(message.op);
  fixed.htype = message.htype;
  fixed.hlen = message.hlen;
  fixed.xid = Be32::from_host(message.xid);
  fixed.secs = Be16::from_host(message.secs);
  fixed.flags = Be16::from_host(message.broadcast ? kBroadcastFlag : 0);
  fixed.ciaddr = message.ciaddr;
  fixed.yiaddr = message.yiaddr;
  fixed.siaddr = message.siaddr;
  fixed.giaddr = message.giaddr;
  fixed.chaddr = message.chaddr;
  fixed.cookie = Be32::from_host(kMagicCookie);
  std::memcpy(out.data(), &fixed, sizeof(fixed));
  const size_t options_bytes = write_options(message, out.subspan(sizeof(FixedPart)));
  return options_bytes == 0 ? 0 : sizeof(FixedPart) + options_bytes;
}

}  // namespace adit::dhcp
