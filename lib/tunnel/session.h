// A session: the keys that one handshake made, valid for at most kRejectAfterNs, and the three
// that a tunnel holds at a time. Plain values, no I/O: the gateway's worker and the client each
// hold a SessionSet per tunnel and are its only writer.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>

#include "lib/tunnel/wire.h"

namespace adit::tunnel {

using SessionKey = std::array<uint8_t, 32>;

// Specification constants (WireGuard white paper, section 6.1).
inline constexpr uint64_t kSecondNs = 1'000'000'000;
inline constexpr uint64_t kRekeyAfterNs = 120 * kSecondNs;
inline constexpr uint64_t kRejectAfterNs = 180 * kSecondNs;
inline constexpr uint64_t kRekeyAfterMessages = uint64_t{1} << 60;
inline constexpr uint64_t kRejectAfterMessages = ~uint64_t{0} - (uint64_t{1} << 13);

// What a handshake gives to the data path. Trivially copyable: it travels in a ring message.
struct Session {
  SessionKey send_key{};  // of the session's AEAD; for plain, of its control packets' ChaCha20
  SessionKey receive_key{};
  uint32_t local_index = 0;   // in what the other end sends to us; 0 = no session
  uint32_t remote_index = 0;  // in what we send
  Protection protection = Protection::chacha20_poly1305;
  bool initiator = false;
  std::array<uint8_t, 3> send_tag{};  // type 5; made of the handshake, all three bytes
  std::array<uint8_t, 3> receive_tag{};
  uint64_t established_ns = 0;

  constexpr bool exists() const { return local_index != 0; }
  // Added, not subtracted: one thread's `now_ns` may be a little before another's established_ns.
  constexpr bool expired(uint64_t now_ns) const {
    return now_ns >= established_ns + kRejectAfterNs;
  }
};

// RFC 6479-style sliding window over a 64-bit counter. A counter is accepted once, and only if
// it is above the highest seen minus kWindow.
class ReplayWindow {
 public:
  static constexpr unsigned kWindow = 2048;  // counters below the highest that are still taken

  // True if `counter` would be accepted; changes nothing. Call before spending a decryption.
  bool would_accept(uint64_t counter) const {
    // WireGuard's limit, far below where next_ would wrap to zero.
    if (counter >= kRejectAfterMessages) return false;
    if (counter >= next_) return true;
    if (counter + kWindow < next_) return false;
    return (seen_[place_of(counter / 64)] >> (counter % 64) & 1) == 0;
  }
  // Marks `counter` as seen; false if it was seen or is too old. Call after authentication.
  bool accept(uint64_t counter) {
    if (!would_accept(counter)) return false;
    if (counter >= next_) {
      if (counter / 64 != (next_ - 1) / 64) enter(counter / 64);
      next_ = counter + 1;
    }
    seen_[place_of(counter / 64)] |= uint64_t{1} << (counter % 64);
    return true;
  }
  // Whether `counter` is above all seen so far: the condition for roaming.
  bool is_highest(uint64_t counter) const { return counter >= next_; }
  // Where it will look for `counter`, beside its own first line.
  const void* place(uint64_t counter) const { return &seen_[place_of(counter / 64)]; }

 private:
  void enter(uint64_t word);
  static constexpr size_t place_of(uint64_t word) { return static_cast<size_t>(word % kWords); }
  static constexpr unsigned kWords = kWindow / 64 + 1;  // one spare, so whole words can be cleared
  uint64_t next_ = 0;                                   // highest counter seen + 1
  std::array<uint64_t, kWords> seen_{};
};

// The sessions of one tunnel. A rekey makes a new one while the old still carries what is in
// flight, so that no packet is lost:
//   initiator: the new session is `current` at once, the old becomes `previous`;
//   responder: the new session is `next` until its first authenticated packet confirms that the
//   initiator has it, then becomes `current`.
class SessionSet {
 public:
  enum Place : uint8_t { kCurrent = 0, kPrevious = 1, kNext = 2, kPlaces = 3, kNone = 3 };

  // Puts a new session in its place; returns what it displaced that no longer exists anywhere
  // (local_index 0 if nothing).
  Session install(const Session& session);
  // Where the session that owns `local_index` stands, or kNone.
  Place find(uint32_t local_index) const;
  // An authenticated type 4 packet arrived on `place`: if it is kNext, it becomes kCurrent.
  // Returns whether anything moved. Type 5 must never be passed here (rule 8).
  bool confirm(Place place);
  // Forgets sessions past kRejectAfterNs (checked against established_ns); returns how many.
  unsigned expire(uint64_t now_ns);
  void clear();

  const Session& at(Place place) const { return slots_[place].session; }
  ReplayWindow& replay(Place place) { return slots_[place].replay; }
  const ReplayWindow& replay(Place place) const { return slots_[place].replay; }
  // The counter for the next sent packet; refuse to send at kRejectAfterMessages.
  uint64_t& send_counter(Place place) { return slots_[place].send_counter; }

 private:
  // The keys are a line of memory, which is not needed where they have been expanded; what else a
  // packet needs is the next, and the part of the window where its counter belongs.
  struct alignas(64) Slot {
    Session session;
    uint64_t send_counter = 0;
    ReplayWindow replay;
  };
  std::array<Slot, kPlaces> slots_{};
};

}  // namespace adit::tunnel
