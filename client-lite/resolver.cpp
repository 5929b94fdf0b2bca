#include "client-lite/resolver.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <system_error>
#include <thread>

namespace adit::client {

// Written by its thread until `done`, read by the owner after it.
struct Resolver::Question {
  std::string host;
  FileDescriptor wake;  // a duplicate: the resolver may be gone by then
  Answer answer;
  std::atomic<bool> done = false;

  void look_up() {
    addrinfo hints{};
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_DGRAM;
    addrinfo* found = nullptr;
    const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
    if (error == 0 && found != nullptr) {
      const auto* address = reinterpret_cast<const sockaddr_in*>(found->ai_addr);
      answer.address = Ipv4Address{Be32::from_raw(address->sin_addr.s_addr)};
    } else {
      answer.failure = host + ": " + gai_strerror(error);
    }
    if (found != nullptr) freeaddrinfo(found);
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
  question_->answer.address = Ipv4Address::parse(host);
  if (question_->answer.address) {
    question_->finish();
    return;
  }
  try {
    std::thread([question = question_] { question->look_up(); }).detach();
  } catch (const std::system_error&) {
    question_->answer.failure = host + ": no thread to look the name up";
    question_->finish();
  }
}

std::optional<Resolver::Answer> Resolver::take() {
  eventfd_t ignored;
  eventfd_read(wake_.get(), &ignored);
  if (question_ == nullptr || !question_->done.load(std::memory_order_acquire)) {
    return std::nullopt;
  }
  Answer answer = question_->answer;
  question_.reset();
  return answer;
}

}  // namespace adit::client
