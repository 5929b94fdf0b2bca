// The command line of adit-client. Running takes either a configuration file or, for the common
// case, flags that set the same fields; anything else is one of the small commands.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client-lite/config.h"

namespace adit::client {

enum class Command : uint8_t { run, status, down, doctor, genkey, genpsk, pubkey, import };

struct Options {
  Command command = Command::run;
  // Of `run`: a file, or the flags below.
  std::string config_file;
  std::string gateway;
  std::string peer_public_key;
  std::string private_key_file;
  std::string preshared_key_file;
  std::string address;
  std::vector<std::string> routes;
  std::vector<std::string> protections;
  bool stock_wireguard = false;
  uint16_t listen_port = 0;
  unsigned lanes = 1;
  uint16_t mtu_bytes = 0;  // 0: absent
  std::string log_level;
  bool check = false;
  // Of `import`.
  std::string import_file;
  std::string import_directory = ".";
  // Of `run`, `status` and `down`.
  std::string device = "adit0";
  std::string control_socket;
  bool json = false;
};

// Parses the command line. When there is nothing to run (--help, a mistake) it has said so and
// `exit_status` is set.
std::optional<Options> parse_options(int argc, char** argv, int& exit_status);

// The configuration that the flags of `run` say. Mistakes go to `errors`, as load() does it, with
// the flag in the key's place and no file.
std::optional<Config> config_of(const Options& options, std::vector<config::Error>& errors);

}  // namespace adit::client
