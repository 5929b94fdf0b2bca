// What is dear in a handshake, the asymmetric cryptography, apart from all that decides: threads of
// their own do it, which own nothing, or the caller does where there are none.
//
//   control thread ─ job ► ring of the thread that the client's endpoint hashes to ─ Diffie-Hellman
//         ▲────────────────────────────────── ring ◄─────────────────────────────────────────┘
//
// A handshake makes the journey twice: its initiation is opened, the control thread decides, its
// answer is made. Both take the same way, so what comes from an endpoint is answered in its order.
// A job stands in one place until it has ended, and whoever has its pointer owns it: so its secrets
// are in one place too, and are wiped there.
//
// Owner: Control, whose thread calls everything but what says otherwise.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "gateway/channel.h"
#include "lib/net/address.h"
#include "lib/tunnel/noise.h"
#include "lib/tunnel/peer.h"
#include "lib/tunnel/remotes.h"

namespace adit::gateway {

struct HandshakeJob {
  enum Stage : uint8_t { opening, answering };

  // From the control thread.
  tunnel::InitiationMessage initiation;
  Endpoint from;
  unsigned worker = 0;      // that received it
  bool is_limited = false;  // came under load, and so with a cookie: its failure is its source's
  Stage stage = opening;

  // Opened: not_authentic, unknown_peer or none; whose it is, and what it says.
  tunnel::HandshakeReject reject = tunnel::HandshakeReject::none;
  uint32_t subscriber = tunnel::Remotes::kNobody;  // its position
  tunnel::OpenedInitiation opened;

  // What the control thread wants it answered with.
  tunnel::Peer::Answer answer;
  uint64_t established_ns = 0;

  // Answered; no session: the other end's ephemeral key is none.
  std::optional<tunnel::Session> session;
  tunnel::ResponseMessage response;
};

class HandshakeThreads {
 public:
  // Jobs under way at a time, for each thread: more than it does in the millisecond of a tick.
  static constexpr unsigned kJobsPerThread = 32;

  // `threads` of them, 0 for none, on `cores` (empty: where the caller is). What is referred to
  // outlives this. Throws std::runtime_error without memory.
  HandshakeThreads(const tunnel::Identity& local, tunnel::Remotes& remotes, unsigned threads,
                   const std::vector<uint32_t>& cores);
  // Waits for what the threads have in hand; what else is under way is forgotten.
  ~HandshakeThreads();
  HandshakeThreads(const HandshakeThreads&) = delete;
  HandshakeThreads& operator=(const HandshakeThreads&) = delete;

  // A job to be filled in and given away; nullptr: as many as there may be are under way.
  HandshakeJob* begin();
  bool has_room() const { return !free_.empty(); }
  size_t under_way() const { return jobs_.size() - free_.size(); }
  // Has its stage done.
  void give(HandshakeJob* job);
  // One whose stage is done; nullptr: there is none.
  HandshakeJob* take();
  // Its secrets are wiped.
  void end(HandshakeJob* job);

  // Readable when there may be something to take, until hush(); -1 without threads.
  int event() const { return event_; }
  void hush();

  unsigned threads() const { return static_cast<unsigned>(threads_.size()); }
  // Stages done so far by each thread, or by the caller's where there are none. From any thread.
  std::vector<uint64_t> done() const;

 private:
  struct Thread {
    Thread(const char* todo_name, const char* done_name, unsigned capacity)
        : todo(todo_name, capacity), done(done_name, capacity) {}
    Channel<HandshakeJob*> todo;
    Channel<HandshakeJob*> done;
    std::atomic<uint32_t> bell = 0;  // rung when there is something to do, or to end
    std::atomic<uint64_t> count = 0;
    std::jthread thread;  // the first to end: it uses the others
  };

  static void forget(HandshakeJob& job);
  static void ring(Thread& thread);
  void run(const std::stop_token& stop, Thread& thread);
  void work(HandshakeJob& job) const;
  void open(HandshakeJob& job) const;

  const tunnel::Identity& local_;
  tunnel::Remotes& remotes_;
  const tunnel::RandomSource random_;  // getrandom(): keeps nothing, so threads may share it
  std::vector<HandshakeJob> jobs_;
  std::vector<HandshakeJob*> free_;
  HandshakeJob* taken_ = nullptr;  // without threads: what has been done and not taken
  std::atomic<uint64_t> own_count_ = 0;
  unsigned turn_ = 0;  // whose ring take() looks into first
  int event_ = -1;
  std::vector<std::unique_ptr<Thread>> threads_;
};

}  // namespace adit::gateway
