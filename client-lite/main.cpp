// adit-client: wiring only. Exit status: 0 ended when asked to, 1 could not go on, 2 a mistake in
// the configuration or the command line, with nothing started.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <memory>

#include "client-lite/client.h"
#include "client-lite/commands.h"
#include "client-lite/log.h"
#include "client-lite/options.h"

namespace {

using namespace adit;

int run(const client::Options& options) {
  const std::optional<client::Config> config = client::read_config(options);
  if (!config) return client::kExitMistake;
  if (options.check) return 0;
  const client::Log log(config->log_level);

  // Blocked before any thread is made: they arrive at the client's signalfd alone.
  const sigset_t ending = client::Client::ending_signals();
  sigprocmask(SIG_BLOCK, &ending, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_DFL);  // whoever started us may ignore it, and with it our children's ends

  // On the heap for its packet buffers; what no packet has touched takes no memory.
  const std::unique_ptr<client::Client> client(new client::Client(*config, log));
  if (!client->open()) return client::kExitFailure;
  return client->run() ? 0 : client::kExitFailure;
}

// Whoever starts us may have closed some: a socket of ours would be taken for one of them.
void open_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_descriptors();
  int exit_status = 0;
  const std::optional<client::Options> options = client::parse_options(argc, argv, exit_status);
  if (!options) return exit_status;
  return options->command == client::Command::run ? run(*options)
                                                  : client::run_small_command(*options);
}
