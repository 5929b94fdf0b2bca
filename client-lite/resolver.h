// A gateway's name turned into an address, without stopping the packets: getaddrinfo() can block
// for half a minute when the network is down, so it runs in a thread of its own that lives for one
// question. An IPv4 address needs no thread.
//
// Owner: Client. A question that is no longer wanted is abandoned, not waited for: its thread
// keeps its own share of the answer's memory and goes away when getaddrinfo() returns.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "client-lite/file_descriptor.h"
#include "lib/net/address.h"

namespace adit::client {

class Resolver {
 public:
  bool open();
  // Becomes readable when an answer is there: call take() then.
  int fd() const { return wake_.get(); }

  // Asks; a question under way is abandoned.
  void ask(const std::string& host);
  bool is_asking() const { return question_ != nullptr; }

  struct Answer {
    std::optional<Ipv4Address> address;
    std::string failure;  // a sentence, when there is no address
  };
  // The answer to the last question, once; nullopt when it is not there yet.
  std::optional<Answer> take();

 private:
  struct Question;
  FileDescriptor wake_;
  std::shared_ptr<Question> question_;
};

}  // namespace adit::client
