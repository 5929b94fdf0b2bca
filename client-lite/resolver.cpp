#include "client-lite/resolver.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>

namespace adit::client {

std::vector<Ipv4Address> addresses_of(const addrinfo* list) {
  std::vector<Ipv4Address> addresses;
  for (; list != nullptr && addresses.size() < kAddressesMax; list = list->ai_next) {
    const auto* socket_address = reinterpret_cast<const sockaddr_in*>(list->ai_addr);
    const Ipv4Address address{Be32::from_raw(socket_address->sin_addr.s_addr)};
    if (std::ranges::find(addresses, address) == addresses.end()) addresses.push_back(address);
  }
  return addresses;
}

NameAnswer look_up(const std::string& host) {
  if (const auto address = Ipv4Address::parse(host)) return {{*address}, {}};
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error != 0 || found == nullptr) return {{}, host + ": " + gai_strerror(error)};
  NameAnswer answer{addresses_of(found), {}};
  freeaddrinfo(found);
  return answer;
}

// Written by its thread until `done`, read by the owner after it.
struct Resolver::Question {
  std::string host;
  FileDescriptor wake;  // a duplicate: the resolver may be gone by then
  NameAnswer answer;
  std::atomic<bool> done = false;

  void look_up() {
    answer = adit::client::look_up(host);
    finish();
  }

  void finish() {
    done.store(true, std::memory_order_release);
    eventfd_write(wake.get(), 1);
  }
};

bool Resolver::open() {
  wake_ = FileDescriptor(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  return wake_.is_open();
}

void Resolver::ask(const std::string& host) {
  question_ = std::make_shared<Question>();
  question_->host = host;
  question_->wake = FileDescriptor(fcntl(wake_.get(), F_DUPFD_CLOEXEC, 0));
  if (Ipv4Address::parse(host)) {
    question_->look_up();
    return;
  }
  try {
    std::thread([question = question_] { question->look_up(); }).detach();
  } catch (const std::system_error&) {
    question_->answer.failure = host + ": no thread to look the name up";
    question_->finish();
  }
}

std::optional<NameAnswer> Resolver::take() {
  eventfd_t ignored;
  eventfd_read(wake_.get(), &ignored);
  if (question_ == nullptr || !question_->done.load(std::memory_order_acquire)) {
    return std::nullopt;
  }
  NameAnswer answer = question_->answer;
  question_.reset();
  return answer;
}

}  // namespace adit::client
