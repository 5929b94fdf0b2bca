// What the gateway says about itself: one JSON document, and the socket on which it is asked for.
// aditctl is the asker.
//
// A connection sends one line, "status", "mappings TUNNEL" or "move TUNNEL WORKER", and gets one
// document.
//
// Owner: main; driven by the control thread, which it never blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gateway/config.h"
#include "gateway/control.h"
#include "gateway/counters.h"
#include "gateway/port.h"
#include "lib/nat/nat.h"

namespace adit::gateway {

// Of one worker. Readers may see a value a moment old.
struct WorkerFigures {
  const Counters* counters = nullptr;
  const nat::Nat* nat = nullptr;
};
Counters total(std::span<const WorkerFigures> workers);

// Where the figures come from; everything outlives the one who asks.
struct StatusSources {
  const Config* config = nullptr;
  const Control* control = nullptr;
  const TunnelTable* tunnels = nullptr;
  std::vector<WorkerFigures> workers;
  std::vector<const Port*> ports;
  uint64_t started_ns = 0;
};

// All that there is to say, as JSON, a piece at a time: of a million tunnels it would otherwise
// hold up handshakes for seconds. So it is no picture of one moment: a tunnel that opens or closes
// meanwhile may be in it or not.
class StatusText {
 public:
  static constexpr size_t kSubscribersAtATime = 64;

  explicit StatusText(const StatusSources& sources) : sources_(&sources) {}
  // Appends the next piece; false: that was the last one.
  bool append(std::string& text, uint64_t now_ns);

 private:
  enum class Part : uint8_t { head, tunnels, done };
  void append_tunnels(std::string& text, uint64_t now_ns);

  const StatusSources* sources_;
  Part part_ = Part::head;
  size_t next_ = 0;  // of the subscribers
  bool any_tunnel_ = false;
};
// The whole of it.
std::string status_text(const StatusSources& sources, uint64_t now_ns);
// The counters that are not zero, one a line, for the end of the log.
std::string counters_text(const Counters& counters);

class StatusServer {
 public:
  // Listens on a Unix socket at `path`, mode 0600; throws std::runtime_error.
  StatusServer(const std::string& path, const StatusSources& sources, Control& control);
  ~StatusServer();
  StatusServer(const StatusServer&) = delete;
  StatusServer& operator=(const StatusServer&) = delete;

  // Accepts, reads, answers as far as it goes without waiting and without holding others up. True:
  // there is more to do.
  bool tick(uint64_t now_ns);

 private:
  struct Connection {
    int fd = -1;
    uint64_t deadline_ns = 0;
    std::string request{};
    std::string answer{};  // what of it has been made,
    size_t written = 0;  // and of that, written
    std::optional<StatusText> more{};  // what has not been made
    bool waits_for_mappings = false;
  };
  enum class Served : uint8_t { waits, goes_on, done };
  Served serve(Connection& connection, uint64_t now_ns);
  Served write(Connection& connection, uint64_t now_ns);
  void begin_answer(Connection& connection, const std::string& request);
  std::string mappings_answer() const;

  std::string path_;
  StatusSources sources_;
  Control& control_;
  int listener_ = -1;
  std::vector<Connection> connections_;
  bool mappings_busy_ = false;  // one list at a time
};

}  // namespace adit::gateway
