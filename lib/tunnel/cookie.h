// mac1, mac2 and cookies: how a responder under load makes senders prove their address before it
// spends a Diffie-Hellman on them (WireGuard white paper, section 5.4.7).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "lib/net/address.h"
#include "lib/tunnel/keys.h"
#include "lib/tunnel/wire.h"

namespace adit::tunnel {

// Whether `message`, 1 or 2, carries the right mac1 for the owner of this key. CookieChecker does
// the same with the key made ahead; this is for who opens one response a minute.
bool check_mac1(const PublicKey& own_public_key, std::span<const uint8_t> message);

// The responder's side: checks macs and hands out cookies. One per identity, one thread.
class CookieChecker {
 public:
  explicit CookieChecker(const PublicKey& own_public_key);

  enum class Verdict : uint8_t { bad_mac1, mac1_only, mac1_and_mac2 };
  // Checks the macs of message 1 or 2 (exactly its size), sent from `source`.
  Verdict check(std::span<const uint8_t> message, const Endpoint& source, uint64_t now_ns,
                const RandomSource& random);
  // The answer to a message whose mac1 was right but which has no valid mac2. `receiver_index` is
  // the message's sender index.
  CookieReplyMessage make_reply(std::span<const uint8_t> message, uint32_t receiver_index,
                                const Endpoint& source, uint64_t now_ns,
                                const RandomSource& random);

 private:
  std::array<uint8_t, 16> cookie_for(const Endpoint& source) const;
  void refresh_secret(uint64_t now_ns, const RandomSource& random);

  std::array<uint8_t, 32> mac1_key_{};
  std::array<uint8_t, 32> cookie_key_{};
  std::array<uint8_t, 32> secret_{};  // replaced every two minutes
  uint64_t secret_made_ns_ = 0;
  bool has_secret_ = false;
};

// The initiator's side (and a responder's towards the peer it answers): fills in the macs.
class CookieJar {
 public:
  explicit CookieJar(const PublicKey& remote_public_key);

  // Writes mac1, and mac2 if a cookie younger than two minutes is at hand, into message 1 or 2.
  void stamp(std::span<uint8_t> message, uint64_t now_ns);
  // Takes in a cookie reply to the message stamped last. False if it does not authenticate.
  bool on_reply(const CookieReplyMessage& reply, uint64_t now_ns);

 private:
  std::array<uint8_t, 32> mac1_key_{};
  std::array<uint8_t, 32> cookie_key_{};
  std::array<uint8_t, 16> last_mac1_{};
  std::array<uint8_t, 16> cookie_{};
  uint64_t cookie_received_ns_ = 0;
  bool has_cookie_ = false;
  bool has_last_mac1_ = false;
};

}  // namespace adit::tunnel
