#include "client-lite/commands.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "client-lite/clock.h"
#include "client-lite/control_socket.h"
#include "client-lite/doctor.h"
#include "client-lite/file_descriptor.h"
#include "client-lite/host_network.h"
#include "client-lite/undo_journal.h"
#include "client-lite/wg_import.h"
#include "lib/tunnel/keys.h"

namespace adit::client {
namespace {

constexpr auto kEndWait = std::chrono::seconds(10);

// The control socket of the client that is meant; nullopt after telling what is wrong.
std::optional<std::string> socket_of(const Options& options) {
  if (!options.control_socket.empty()) return options.control_socket;
  if (options.config_file.empty()) return default_control_socket(options.device);
  const std::optional<Config> config = read_config(options);
  if (!config) return std::nullopt;
  return config->control_socket;
}

int nobody_answers(const std::string& path) {
  std::cerr << "adit-client: nobody answers at " << path
            << ": no client runs there, or it is not ours to ask\n";
  return kExitFailure;
}

int show_status(const Options& options) {
  const std::optional<std::string> path = socket_of(options);
  if (!path) return kExitMistake;
  const auto answer = ask_control_socket(*path, options.json ? "status json" : "status");
  if (!answer) return nobody_answers(*path);
  std::cout << *answer;
  return 0;
}

// Of a client that was killed: its journal says what it did.
int undo_what_was_left(const std::string& control_socket) {
  const std::string journal = journal_path_of(control_socket);
  struct stat found;
  if (stat(journal.c_str(), &found) != 0 || found.st_size == 0) {
    return nobody_answers(control_socket);
  }
  const Log log(config::LogLevel::kInfo);
  HostRights rights;
  HostNetwork network(log, rights);
  std::string refusal;
  if (rights.open(HostRights::Place::here, refusal) && network.open(journal, refusal)) return 0;
  std::cerr << "adit-client: " << refusal << '\n';
  return kExitFailure;
}

// Returns when the client has undone everything and is gone.
int end_client(const Options& options) {
  const std::optional<std::string> path = socket_of(options);
  if (!path) return kExitMistake;
  if (!ask_control_socket(*path, "end")) return undo_what_was_left(*path);
  const auto begin = std::chrono::steady_clock::now();
  while (access(path->c_str(), F_OK) == 0) {
    if (std::chrono::steady_clock::now() - begin > kEndWait) {
      std::cerr << "adit-client: the client at " << *path << " does not end\n";
      return kExitFailure;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
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
    key = tunnel::generate_private_key(fill_random);
  } else {
    fill_random(key.bytes);
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

void print_errors(const std::vector<config::Error>& errors) {
  for (const config::Error& error : errors) {
    // A mistake on the command line has no place in a file.
    std::cerr << (error.file.empty() ? error.path + ": " + error.message : error.to_string())
              << '\n';
  }
}

struct NewFile {
  std::string path;
  std::string text;
};

void take_back(std::span<const NewFile> files) {
  for (const NewFile& file : files) unlink(file.path.c_str());
}

// All or none, and nothing is overwritten. Mode 0600.
bool write_new_files(const std::vector<NewFile>& files) {
  size_t made = 0;
  for (const NewFile& file : files) {
    const FileDescriptor out(
        open(file.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (out.is_open()) ++made;
    if (!out.is_open() || write(out.get(), file.text.data(), file.text.size()) !=
                              static_cast<ssize_t>(file.text.size())) {
      std::cerr << "adit-client: " << file.path << ": " << std::strerror(errno) << '\n';
      take_back(std::span(files).first(made));
      return false;
    }
  }
  return true;
}

// Whether the client takes what was made of `origin`, as --check says; else it is told why not.
bool would_be_taken(const std::string& configuration, const std::string& origin) {
  std::vector<config::Error> errors;
  if (load(configuration, errors, nullptr, config::KeyOwner::anybody)) return true;
  std::cerr << "adit-client: " << origin
            << ": nothing was written, for the client would not take what it becomes:\n";
  for (const config::Error& error : errors) {
    std::cerr << "  " << error.path << ": " << error.message << '\n';
  }
  return false;
}

int import_file(const Options& options) {
  const std::filesystem::path from(options.import_file);
  std::ifstream stream(from);
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  if (!stream.good() && !stream.eof()) {
    std::cerr << "adit-client: " << options.import_file << ": cannot be read\n";
    return kExitFailure;
  }
  const std::string name = from.stem().string();
  if (!is_device_name(name)) {
    std::cerr << "adit-client: \"" << name << "\", the file's name, is no name for a device\n";
    return kExitMistake;
  }
  std::vector<config::Error> errors;
  const std::optional<WgImport> import = import_wg(text, options.import_file, name, errors);
  print_errors(errors);
  if (!import) return kExitMistake;
  const std::string base = (std::filesystem::path(options.import_directory) / name).string();
  std::vector<NewFile> files = {
      {base + ".key", tunnel::to_base64(import->private_key) + "\n"}};
  if (import->preshared_key) {
    files.push_back({base + ".psk", tunnel::to_base64(*import->preshared_key) + "\n"});
  }
  files.push_back({base + ".yaml", import->yaml});
  if (!write_new_files(files)) return kExitFailure;
  if (!would_be_taken(files.back().path, options.import_file)) {
    take_back(files);
    return kExitMistake;
  }
  print_errors(import->left_out);
  for (const NewFile& file : files) std::cout << "wrote " << file.path << '\n';
  return 0;
}

}  // namespace

std::optional<Config> read_config(const Options& options) {
  std::vector<config::Error> errors;
  // Under systemd the client is a user's of its own, whom root asks.
  const auto owner =
      options.command == Command::run ? config::KeyOwner::us : config::KeyOwner::anybody;
  std::optional<Config> config = options.config_file.empty()
                                     ? config_of(options, errors)
                                     : load(options.config_file, errors, nullptr, owner);
  print_errors(errors);
  return config;
}

int run_small_command(const Options& options) {
  switch (options.command) {
    case Command::run:
      break;
    case Command::status:
      return show_status(options);
    case Command::down:
      return end_client(options);
    case Command::doctor: {
      const std::optional<Config> config = read_config(options);
      if (!config) return kExitMistake;
      return examine(*config) ? 0 : kExitFailure;
    }
    case Command::genkey:
      return print_key(true);
    case Command::genpsk:
      return print_key(false);
    case Command::pubkey:
      return print_public_key();
    case Command::import:
      return import_file(options);
  }
  return kExitMistake;
}

}  // namespace adit::client
