#include "lib/tunnel/cookie.h"

#include <algorithm>
#include <cassert>
#include <string_view>

#include "lib/tunnel/crypto.h"
#include "lib/tunnel/session.h"

namespace adit::tunnel {

namespace {

// WireGuard white paper, sections 5.4.4, 5.4.7 and 6.1.
constexpr std::string_view kMac1Label = "mac1----";
constexpr std::string_view kCookieLabel = "cookie--";
constexpr uint64_t kCookieLifetimeNs = 120 * kSecondNs;

Bytes32 labelled_key(std::string_view label, const PublicKey& public_key) {
  return blake2s(
      {ByteSpan(reinterpret_cast<const uint8_t*>(label.data()), label.size()), public_key.bytes});
}

// Messages 1 and 2 both end in mac1 and mac2.
ByteSpan before_mac1(ByteSpan message) {
  return message.first(message.size() - 2 * kMacBytes);
}
ByteSpan before_mac2(ByteSpan message) {
  return message.first(message.size() - kMacBytes);
}
ByteSpan mac1_of(ByteSpan message) {
  return message.subspan(message.size() - 2 * kMacBytes, kMacBytes);
}
ByteSpan mac2_of(ByteSpan message) {
  return message.last(kMacBytes);
}

bool has_macs(ByteSpan message) {
  return message.size() == sizeof(InitiationMessage) || message.size() == sizeof(ResponseMessage);
}

}  // namespace

bool check_mac1(const PublicKey& own_public_key, std::span<const uint8_t> message) {
  return has_macs(message) &&
         equal_constant_time(
             blake2s_mac(labelled_key(kMac1Label, own_public_key), before_mac1(message)),
             mac1_of(message));
}

CookieChecker::CookieChecker(const PublicKey& own_public_key)
    : mac1_key_(labelled_key(kMac1Label, own_public_key)),
      cookie_key_(labelled_key(kCookieLabel, own_public_key)) {}

CookieChecker::Verdict CookieChecker::check(std::span<const uint8_t> message,
                                            const Endpoint& source, uint64_t now_ns,
                                            const RandomSource& random) {
  if (!has_macs(message) ||
      !equal_constant_time(blake2s_mac(mac1_key_, before_mac1(message)), mac1_of(message))) {
    return Verdict::bad_mac1;
  }
  // Whoever has no cookie writes zeros: that is told without a hash.
  if (std::ranges::all_of(mac2_of(message), [](uint8_t byte) { return byte == 0; })) {
    return Verdict::mac1_only;
  }
  refresh_secret(now_ns, random);
  const Bytes16 cookie = cookie_for(source);
  const bool good =
      equal_constant_time(blake2s_mac(cookie, before_mac2(message)), mac2_of(message));
  return good ? Verdict::mac1_and_mac2 : Verdict::mac1_only;
}

CookieReplyMessage CookieChecker::make_reply(std::span<const uint8_t> message,
                                             uint32_t receiver_index, const Endpoint& source,
                                             uint64_t now_ns, const RandomSource& random) {
  assert(has_macs(message));
  refresh_secret(now_ns, random);
  CookieReplyMessage reply{};
  reply.type = static_cast<uint8_t>(MessageType::cookie_reply);
  reply.receiver_index = Le32::from_host(receiver_index);
  Nonce24 nonce;
  random(nonce);
  std::copy(nonce.begin(), nonce.end(), reply.nonce);
  xchacha20_poly1305_seal(cookie_key_, nonce, mac1_of(message), cookie_for(source),
                          reply.sealed_cookie);
  return reply;
}

std::array<uint8_t, 16> CookieChecker::cookie_for(const Endpoint& source) const {
  return blake2s_mac(secret_, ByteSpan(reinterpret_cast<const uint8_t*>(&source), sizeof(source)));
}

void CookieChecker::refresh_secret(uint64_t now_ns, const RandomSource& random) {
  if (has_secret_ && now_ns < secret_made_ns_ + kCookieLifetimeNs) return;
  random(secret_);
  secret_made_ns_ = now_ns;
  has_secret_ = true;
}

CookieJar::CookieJar(const PublicKey& remote_public_key)
    : mac1_key_(labelled_key(kMac1Label, remote_public_key)),
      cookie_key_(labelled_key(kCookieLabel, remote_public_key)) {}

void CookieJar::stamp(std::span<uint8_t> message, uint64_t now_ns) {
  assert(has_macs(message));
  last_mac1_ = blake2s_mac(mac1_key_, before_mac1(message));
  has_last_mac1_ = true;
  std::copy(last_mac1_.begin(), last_mac1_.end(), message.end() - 2 * kMacBytes);
  if (has_cookie_ && now_ns >= cookie_received_ns_ + kCookieLifetimeNs) has_cookie_ = false;
  Bytes16 mac2{};
  if (has_cookie_) mac2 = blake2s_mac(cookie_, before_mac2(message));
  std::copy(mac2.begin(), mac2.end(), message.end() - kMacBytes);
}

bool CookieJar::on_reply(const CookieReplyMessage& reply, uint64_t now_ns) {
  if (!has_last_mac1_ || reply.type != static_cast<uint8_t>(MessageType::cookie_reply)) {
    return false;
  }
  Nonce24 nonce;
  std::copy(std::begin(reply.nonce), std::end(reply.nonce), nonce.begin());
  Bytes16 cookie;
  if (!xchacha20_poly1305_open(cookie_key_, nonce, last_mac1_, reply.sealed_cookie, cookie)) {
    return false;
  }
  cookie_ = cookie;
  cookie_received_ns_ = now_ns;
  has_cookie_ = true;
  has_last_mac1_ = false;  // one message, one cookie: the reply cannot be played again
  return true;
}

}  // namespace adit::tunnel
