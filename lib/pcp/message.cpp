#include "lib/pcp/message.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace adit::pcp {
namespace {

constexpr size_t kMappedOffset = 12;

size_t body_bytes(Opcode opcode) {
  switch (opcode) {
    case Opcode::announce:
      return 0;
    case Opcode::map:
      return sizeof(MapBody);
    case Opcode::peer:
      return sizeof(PeerBody);
  }
  return 0;
}

// `options` is whole words.
Result read_options(std::span<const uint8_t> options, Request& out) {
  while (!options.empty()) {
    OptionHeader header;
    std::memcpy(&header, options.data(), sizeof header);
    const size_t bytes = sizeof header + (size_t{header.bytes.host()} + 3) / 4 * 4;
    if (bytes > options.size()) return Result::malformed_option;
    if (header.code == static_cast<uint8_t>(OptionCode::prefer_failure)) {
      // RFC 6887 §13.2: for MAP, empty, and once.
      if (out.opcode != Opcode::map || header.bytes.host() != 0 || out.prefer_failure) {
        return Result::malformed_option;
      }
      out.prefer_failure = true;
    } else if (header.code < kFirstOptionalOption) {
      return Result::unsupported_option;
    }
    options = options.subspan(bytes);
  }
  return Result::success;
}

}  // namespace

MappedAddress MappedAddress::of(Ipv4Address address) {
  MappedAddress out;
  out.bytes[10] = out.bytes[11] = 0xff;
  std::memcpy(out.bytes.data() + kMappedOffset, &address, sizeof address);
  return out;
}

Ipv4Address MappedAddress::ipv4() const {
  Ipv4Address address;
  std::memcpy(&address, bytes.data() + kMappedOffset, sizeof address);
  return of(address).bytes == bytes ? address : Ipv4Address{};
}

std::optional<Result> read_request(std::span<const uint8_t> message, Request& out) {
  out = Request{};
  if (message.size() < 2 || (message[1] & kIsResponse) != 0) return std::nullopt;
  // NAT-PMP, which is version 0, knows what this means (RFC 6887 appendix A).
  if (message[0] != kVersion) return Result::unsupported_version;
  if (message.size() < 4) return std::nullopt;
  if (message[1] > static_cast<uint8_t>(Opcode::peer)) return Result::unsupported_opcode;
  out.opcode = static_cast<Opcode>(message[1]);
  const size_t fixed_bytes = sizeof(RequestHeader) + body_bytes(out.opcode);
  if (message.size() < fixed_bytes || message.size() > kMessageBytesMax ||
      message.size() % 4 != 0) {
    return Result::malformed_request;
  }
  RequestHeader header;
  std::memcpy(&header, message.data(), sizeof header);
  out.lifetime_s = header.lifetime_s.host();
  out.client = header.client.ipv4();
  if (out.opcode != Opcode::announce) {
    PeerBody body{};  // a MAP's is its beginning
    std::memcpy(&body, message.data() + sizeof header, body_bytes(out.opcode));
    out.nonce = body.map.nonce;
    out.protocol = body.map.protocol;
    out.internal_port = body.map.internal_port;
    out.wanted = {body.map.external.ipv4(), body.map.external_port};
    out.remote = {body.remote.ipv4(), body.remote_port};
  }
  return read_options(message.subspan(fixed_bytes), out);
}

size_t write_response(std::span<const uint8_t> message, const Request& request,
                      const Answer& answer, std::span<uint8_t> out) {
  assert(message.size() >= 2 && out.size() >= kMessageBytesMax);
  const bool is_refused = answer.result != Result::success;
  size_t bytes = sizeof(RequestHeader) + body_bytes(request.opcode);
  if (is_refused) {
    bytes = std::clamp(message.size() / 4 * 4, sizeof(RequestHeader), kMessageBytesMax);
  }
  std::memset(out.data(), 0, bytes);
  std::memcpy(out.data(), message.data(), std::min(bytes, message.size()));

  ResponseHeader header{};
  header.version = kVersion;
  header.opcode = message[1] | kIsResponse;
  header.result = static_cast<uint8_t>(answer.result);
  header.lifetime_s = Be32::from_host(answer.lifetime_s);
  header.epoch_s = Be32::from_host(answer.epoch_s);
  std::memcpy(out.data(), &header, sizeof header);
  if (is_refused || request.opcode == Opcode::announce) return bytes;

  MapBody body;
  std::memcpy(&body, out.data() + sizeof header, sizeof body);
  body.reserved = {};
  body.external_port = answer.external.port;
  body.external = MappedAddress::of(answer.external.address);
  std::memcpy(out.data() + sizeof header, &body, sizeof body);
  if (request.prefer_failure) {  // an option that was heeded is repeated (RFC 6887 §7.3)
    const OptionHeader option{static_cast<uint8_t>(OptionCode::prefer_failure), 0, {}};
    std::memcpy(out.data() + bytes, &option, sizeof option);
    bytes += sizeof option;
  }
  return bytes;
}

}  // namespace adit::pcp
