#include "client-lite/undo_journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace adit::client {
namespace {

// What a file system gives to a file at least. Within it there is room for a line though the disk
// may have become full, so a journal in use is emptied only when it has outgrown this.
constexpr off_t kRoomBytes = 4096;

}  // namespace

std::string journal_path_of(const std::string& control_socket) {
  constexpr std::string_view kSuffix = ".sock";
  const bool has_suffix = control_socket.ends_with(kSuffix);
  return control_socket.substr(0, control_socket.size() - (has_suffix ? kSuffix.size() : 0)) +
         ".undo";
}

bool UndoJournal::open(const std::string& path, std::string& refusal) {
  file_ = FileDescriptor(
      ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file_.is_open()) {
    refusal = path + ": " + std::strerror(errno);
    return false;
  }
  if (flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    refusal = errno == EWOULDBLOCK ? path + ": another adit-client runs on this device"
                                   : path + ": " + std::strerror(errno);
    file_.reset();
    return false;
  }
  read_standing();
  return true;
}

void UndoJournal::read_standing() {
  std::string text;
  char part[1024];
  ssize_t got;
  while ((got = pread(file_.get(), part, sizeof part, static_cast<off_t>(text.size()))) > 0) {
    text.append(part, static_cast<size_t>(got));
  }
  standing_.clear();
  size_t end;
  size_t begin = 0;
  // A last line without its newline was being written when the program died: its change was not
  // made yet.
  for (; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = text.substr(begin, end - begin);
    if (line.size() < 3 || line[1] != ' ') continue;
    const std::string change = line.substr(2);
    if (line[0] == '+') {
      standing_.push_back(change);
    } else if (line[0] == '-') {
      const auto found = std::find(standing_.begin(), standing_.end(), change);
      if (found != standing_.end()) standing_.erase(found);
    }
  }
  // Cut the torn line off, lest the next one be appended to it. Failing that, nothing is written:
  // an end without its newline would spoil the next record.
  if (begin < text.size() && ftruncate(file_.get(), static_cast<off_t>(begin)) != 0) file_.reset();
}

bool UndoJournal::append(char sign, std::string_view change) {
  std::string line{sign, ' '};
  line.append(change);
  line.push_back('\n');
  const off_t end = lseek(file_.get(), 0, SEEK_END);
  const ssize_t written = write(file_.get(), line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size())) return true;
  // A full disk takes a part of a line, to which the next one would be appended.
  if (end >= 0 && ftruncate(file_.get(), end) != 0) file_.reset();
  return false;
}

bool UndoJournal::stands(std::string_view change) const {
  return std::find(standing_.begin(), standing_.end(), change) != standing_.end();
}

bool UndoJournal::record(std::string_view change) {
  if (stands(change)) return true;
  if (change.find('\n') != std::string_view::npos || !append('+', change)) return false;
  standing_.emplace_back(change);
  return true;
}

void UndoJournal::strike_out(std::string_view change) {
  const auto found = std::find(standing_.begin(), standing_.end(), change);
  if (found == standing_.end()) return;
  standing_.erase(found);
  // A failure here is harmless: the next start undoes what is undone already.
  append('-', change);
  if (standing_.empty() && lseek(file_.get(), 0, SEEK_END) > kRoomBytes) clear();
}

void UndoJournal::clear() {
  standing_.clear();
  if (ftruncate(file_.get(), 0) != 0) return;  // harmless, as above
}

}  // namespace adit::client
