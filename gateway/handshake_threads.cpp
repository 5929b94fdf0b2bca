#include "gateway/handshake_threads.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <stdexcept>
#include <utility>

#include "gateway/random.h"
#include "lib/tunnel/crypto.h"

namespace adit::gateway {
namespace {

// Taken from the ring at a time: so many are done before the control thread hears of the first.
inline constexpr unsigned kBatch = 4;

unsigned thread_of(const Endpoint& from, unsigned threads) {
  const uint64_t number = uint64_t{from.address.host()} << 16 | from.port.host();
  return static_cast<unsigned>((number * 0x9e3779b97f4a7c15 >> 32) % threads);
}

void run_on(const std::vector<uint32_t>& cores, std::jthread& thread) {
  if (cores.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const uint32_t core : cores) CPU_SET(core, &set);
  if (pthread_setaffinity_np(thread.native_handle(), sizeof set, &set) != 0) {
    throw std::runtime_error("control.cores: a handshake thread may not run there");
  }
}

}  // namespace

HandshakeThreads::HandshakeThreads(const tunnel::Identity& local, tunnel::Remotes& remotes,
                                   unsigned threads, const std::vector<uint32_t>& cores)
    : local_(local),
      remotes_(remotes),
      random_(fill_random),
      jobs_(threads == 0 ? 1 : threads * kJobsPerThread) {
  for (HandshakeJob& job : jobs_) free_.push_back(&job);
  if (threads == 0) return;
  event_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event_ < 0) throw std::runtime_error("no event for handshake threads");
  // All may be one thread's; a ring leaves one place empty.
  const auto capacity = static_cast<unsigned>(std::bit_ceil(jobs_.size() + 1));
  for (unsigned i = 1; i <= threads; ++i) {
    threads_.push_back(std::make_unique<Thread>(fmt::format("handshakes-todo{}", i).c_str(),
                                                fmt::format("handshakes-done{}", i).c_str(),
                                                capacity));
    Thread& thread = *threads_.back();
    thread.thread = std::jthread(
        [this, &thread](const std::stop_token& stop) { run(stop, thread); });
    pthread_setname_np(thread.thread.native_handle(), fmt::format("handshakes-{}", i).c_str());
    run_on(cores, thread.thread);
  }
}

HandshakeThreads::~HandshakeThreads() {
  threads_.clear();
  if (event_ >= 0) close(event_);
  for (HandshakeJob& job : jobs_) forget(job);
}

HandshakeJob* HandshakeThreads::begin() {
  if (free_.empty()) return nullptr;
  HandshakeJob* const job = free_.back();
  free_.pop_back();
  return job;
}

void HandshakeThreads::give(HandshakeJob* job) {
  if (threads_.empty()) {
    work(*job);
    own_count_.fetch_add(1, std::memory_order_relaxed);
    taken_ = job;
    return;
  }
  Thread& thread = *threads_[thread_of(job->from, threads())];
  thread.todo.push(job);  // which has room for all jobs
  ring(thread);
}

HandshakeJob* HandshakeThreads::take() {
  HandshakeJob* job = std::exchange(taken_, nullptr);
  for (unsigned i = 0; i < threads() && job == nullptr; ++i) {
    threads_[turn_++ % threads()]->done.pop({&job, 1});
  }
  return job;
}

void HandshakeThreads::end(HandshakeJob* job) {
  forget(*job);
  free_.push_back(job);
}

void HandshakeThreads::forget(HandshakeJob& job) {
  tunnel::wipe(job.opened.chaining_key);
  if (job.session) {
    tunnel::wipe(job.session->send_key);
    tunnel::wipe(job.session->receive_key);
  }
  job = {};
}

void HandshakeThreads::ring(Thread& thread) {
  thread.bell.fetch_add(1);
  thread.bell.notify_one();
}

void HandshakeThreads::hush() {
  uint64_t ignored = 0;
  if (event_ >= 0) [[maybe_unused]] const ssize_t got = read(event_, &ignored, sizeof ignored);
}

std::vector<uint64_t> HandshakeThreads::done() const {
  if (threads_.empty()) return {own_count_.load(std::memory_order_relaxed)};
  std::vector<uint64_t> counts;
  for (const auto& thread : threads_) {
    counts.push_back(thread->count.load(std::memory_order_relaxed));
  }
  return counts;
}

// ---- In a thread ----

// Sleeps while there is nothing in its ring. The bell is looked at first: whatever is rung for
// after that, a job or the end, keeps it from sleeping.
void HandshakeThreads::run(const std::stop_token& stop, Thread& thread) {
  const std::stop_callback wake(stop, [&thread] { ring(thread); });
  std::array<HandshakeJob*, kBatch> jobs;
  for (;;) {
    const uint32_t rung = thread.bell.load();
    if (stop.stop_requested()) return;
    const unsigned count = thread.todo.pop(jobs);
    if (count == 0) {
      thread.bell.wait(rung);
      continue;
    }
    for (HandshakeJob* const job : std::span(jobs).first(count)) work(*job);
    thread.done.push_burst(std::span<HandshakeJob* const>(jobs).first(count));
    thread.count.fetch_add(count, std::memory_order_relaxed);
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(event_, &one, sizeof one);
  }
}

void HandshakeThreads::work(HandshakeJob& job) const {
  if (job.stage == HandshakeJob::opening) return open(job);
  const tunnel::RemoteIdentity* const remote = remotes_.identity(job.subscriber);
  job.session = tunnel::create_response(job.opened, *remote, job.answer.local_index,
                                        job.answer.chosen, job.established_ns, random_,
                                        job.response, job.answer.lanes);
}

void HandshakeThreads::open(HandshakeJob& job) const {
  using tunnel::HandshakeReject;
  job.reject = HandshakeReject::not_authentic;
  auto named = tunnel::open_name(local_, job.initiation);
  if (!named) return;
  job.subscriber = remotes_.find(named->remote_public_key);
  const bool is_known = job.subscriber != tunnel::Remotes::kNobody;
  std::optional<tunnel::RemoteIdentity> stranger;
  if (!is_known) stranger = tunnel::make_remote_identity(local_, named->remote_public_key, {});
  const tunnel::RemoteIdentity* const remote =
      is_known ? remotes_.identity(job.subscriber) : stranger ? &*stranger : nullptr;
  if (remote != nullptr) {
    if (const auto opened = tunnel::open_initiation(*named, *remote, job.initiation)) {
      job.opened = *opened;
      job.reject = is_known ? HandshakeReject::none : HandshakeReject::unknown_peer;
    }
  }
  tunnel::wipe(named->chaining_key);
}

}  // namespace adit::gateway
