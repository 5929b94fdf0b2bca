// What the client has changed outside its own TUN device, kept in a file so that it is undone
// even after SIGKILL: by the next start. A line is written before its change is made and struck
// out after the change is undone:
//
//     + route 30.1.1.10/32 via 10.1.1.1 dev eth0
//     + refuse 0.0.0.0/1
//     + dns resolvconf adit0
//     - dns resolvconf adit0
//
// The TUN device's own address and routes are not listed: the kernel removes them together with
// the device when its last user is gone, however that ended.
//
// The file is also the lock that keeps a second client from the same device. It is emptied in the
// end, never removed: two programs could otherwise hold locks on two files of one name. It lives in
// /run, for a reboot undoes all of this too.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "client-lite/file_descriptor.h"

namespace adit::client {

// It stands beside the control socket: /run/adit/adit0.sock, /run/adit/adit0.undo.
std::string journal_path_of(const std::string& control_socket);

class UndoJournal {
 public:
  // Opens (creates) and locks the file. False: `refusal` says why, in a sentence.
  bool open(const std::string& path, std::string& refusal);

  // What is recorded and not struck out, oldest first. After open(): what a killed run left.
  const std::vector<std::string>& standing() const { return standing_; }

  bool stands(std::string_view change) const;
  // Call before a change is made; what stands is not written again. False when it could not be written: do not make the change.
  bool record(std::string_view change);
  // Call after a change was undone.
  void strike_out(std::string_view change);
  // All is undone.
  void clear();

 private:
  bool append(char sign, std::string_view change);
  void read_standing();

  FileDescriptor file_;
  std::vector<std::string> standing_;
};

}  // namespace adit::client
