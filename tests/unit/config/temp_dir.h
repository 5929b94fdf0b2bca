// A directory of one test, and the errors of a run as the lines that an operator sees.
#pragma once

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "lib/config/error.h"
#include "lib/config/key_file.h"

namespace adit::config {

class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "adit-config-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  std::string write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    std::ofstream(file(name)) << text;
    if (chmod(file(name).c_str(), mode) != 0) throw std::runtime_error("chmod failed");
    return file(name);
  }
  // A key file whose key has `fill` in every byte.
  std::string write_key(const std::string& name, uint8_t fill, mode_t mode = 0600) const {
    return write(name, key_text(fill) + "\n", mode);
  }

  static std::string key_text(uint8_t fill) {
    KeyBytes key;
    key.fill(fill);
    return encode_key(key);
  }

  // One error a line, the directory left out.
  std::string lines(const std::vector<Error>& errors) const {
    std::string out;
    for (const Error& error : errors) out += error.to_string() + "\n";
    for (size_t at = 0; (at = out.find(path_ + "/")) != std::string::npos;) {
      out.erase(at, path_.size() + 1);
    }
    return out;
  }

 private:
  std::string path_;
};

inline std::string read_text(const std::string& path) {
  std::ifstream stream(path);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

}  // namespace adit::config
