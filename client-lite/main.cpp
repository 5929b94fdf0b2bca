// adit-client: wiring only. Exit status: 0 ended when asked to, 1 could not go on, 2 a mistake in
// the configuration or the command line, with nothing started.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "client-lite/client.h"
#include "client-lite/clock.h"
#include "client-lite/config.h"
#include "client-lite/control_socket.h"
#include "client-lite/log.h"
#include "client-lite/options.h"
#include "lib/tunnel/keys.h"

namespace {

using namespace adit;

constexpr int kExitFailure = 1;
constexpr int kExitMistake = 2;

std::optional<client::Config> read_config(const client::Options& options) {
  std::vector<config::Error> errors;
  std::optional<client::Config> config = options.config_file.empty()
                                             ? client::config_of(options, errors)
                                             : client::load(options.config_file, errors);
  for (const config::Error& error : errors) {
    // A mistake on the command line has no place in a file.
    std::cerr << (error.file.empty() ? error.path + ": " + error.message : error.to_string())
              << '\n';
  }
  return config;
}

int run(const client::Options& options) {
  const std::optional<client::Config> config = read_config(options);
  if (!config) return kExitMistake;
  if (options.check) return 0;
  const client::Log log(config->log_level);

  // Blocked before any thread is made: they arrive at the client's signalfd alone.
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  sigprocmask(SIG_BLOCK, &ending, nullptr);
  signal(SIGPIPE, SIG_IGN);

  // On the heap for its packet buffers; what no packet has touched takes no memory.
  const std::unique_ptr<client::Client> client(new client::Client(*config, log));
  if (!client->open()) return kExitFailure;
  return client->run() ? 0 : kExitFailure;
}

int show_status(const client::Options& options) {
  std::string path = options.control_socket;
  if (path.empty() && !options.config_file.empty()) {
    const std::optional<client::Config> config = read_config(options);
    if (!config) return kExitMistake;
    path = config->control_socket;
  }
  if (path.empty()) path = client::default_control_socket(options.device);
  const auto answer = client::ask_control_socket(path, options.json ? "status json" : "status");
  if (!answer) {
    std::cerr << "adit-client: nobody answers at " << path
              << ": no client runs there, or it is not ours to ask\n";
    return kExitFailure;
  }
  std::cout << *answer;
  return 0;
}

// A secret on its way into a file that others may read deserves a word.
void warn_if_readable_by_others() {
  struct stat output;
  if (fstat(STDOUT_FILENO, &output) == 0 && S_ISREG(output.st_mode) && (output.st_mode & 077)) {
    std::cerr << "adit-client: warning: others may read the file that this key goes to; "
                 "set umask 077 before\n";
  }
}

int print_key(bool is_private_key) {
  warn_if_readable_by_others();
  tunnel::PrivateKey key;
  if (is_private_key) {
    key = tunnel::generate_private_key(client::fill_random);
  } else {
    client::fill_random(key.bytes);
  }
  std::cout << tunnel::to_base64(key.bytes) << '\n';
  return 0;
}

int print_public_key() {
  std::string line;
  std::getline(std::cin, line);
  while (!line.empty() && (line.back() == ' ' || line.back() == '\r')) line.pop_back();
  const auto bytes = tunnel::from_base64(line);
  if (!bytes) {
    std::cerr << "adit-client: standard input holds no key: 44 characters of base64 expected\n";
    return kExitFailure;
  }
  const tunnel::PublicKey key = tunnel::public_key_of(tunnel::PrivateKey{*bytes});
  std::cout << tunnel::to_base64(key.bytes) << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  int exit_status = 0;
  const std::optional<client::Options> options = client::parse_options(argc, argv, exit_status);
  if (!options) return exit_status;
  switch (options->command) {
    case client::Command::run:
      return run(*options);
    case client::Command::status:
      return show_status(*options);
    case client::Command::genkey:
      return print_key(true);
    case client::Command::genpsk:
      return print_key(false);
    case client::Command::pubkey:
      return print_public_key();
  }
  return kExitMistake;
}
