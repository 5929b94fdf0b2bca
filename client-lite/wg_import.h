// A wg-quick style file (wg(8), wg-quick(8)) as a configuration of ours: text in, text out. What
// such a file can say and ours cannot is told line by line and left out or changed; what we do not
// know at all is a mistake, since nobody could say what is lost without it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/config/error.h"
#include "lib/config/key_file.h"

namespace adit::client {

struct WgImport {
  std::string yaml;  // names the key files NAME.key and NAME.psk beside it
  config::KeyBytes private_key{};
  std::optional<config::KeyBytes> preshared_key;
  std::vector<config::Error> left_out;
};

// `file` names the text in errors; `name` becomes the device's name and that of the key files.
// Nothing when there is any mistake: `errors` holds every one.
std::optional<WgImport> import_wg(std::string_view text, const std::string& file,
                                  const std::string& name, std::vector<config::Error>& errors);

}  // namespace adit::client
