#include "client-lite/wg_import.h"

#include <algorithm>
#include <cctype>
#include <limits>

#include "client-lite/config.h"
#include "lib/config/formats.h"

namespace adit::client {
namespace {

// Some editors begin a text in UTF-8 with it.
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr uint16_t kHeartbeatMaxS = 3600;  // our own longest

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::vector<std::string_view> items_of(std::string_view list) {
  std::vector<std::string_view> items;
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (const auto item = trimmed(list.substr(0, comma)); !item.empty()) items.push_back(item);
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
  }
  return items;
}

// Both kinds of prefix may have host bits, and may be a bare address.
std::optional<Ipv4Interface> parse_interface(std::string_view text) {
  if (text.find('/') != std::string_view::npos) return Ipv4Interface::parse(text);
  const auto address = Ipv4Address::parse(text);
  if (!address) return std::nullopt;
  return Ipv4Interface{*address, 32};
}

class Reader {
 public:
  Reader(const std::string& file, std::vector<config::Error>& errors)
      : file_(file), errors_(errors) {}

  void read(std::string_view text) {
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    for (line_ = 1; !text.empty(); ++line_) {
      const size_t end = text.find('\n');
      read_line(text.substr(0, end));
      text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    }
    line_ = std::max(line_ - 1, 1);
    require(private_key_.has_value(), "Interface.PrivateKey");
    require(address_.has_value(), "Interface.Address");
    require(public_key_.has_value(), "Peer.PublicKey");
    require(!endpoint_.empty(), "Peer.Endpoint");
  }

  WgImport result(const std::string& name) const {
    WgImport out;
    out.private_key = *private_key_;
    out.preshared_key = preshared_key_;
    out.left_out = left_out_;
    out.yaml = "# From " + file_ +
               ". The gateway is taken for a stock WireGuard server. For an adit-gateway leave\n"
               "# out stock_wireguard, address and protections: the client then asks for one.\n"
               "gateways:\n  - endpoint: " + endpoint_ +
               "\n    public_key: " + config::encode_key(*public_key_) +
               "\n    stock_wireguard: true\nprivate_key_file: " + name + ".key\n";
    if (preshared_key_) out.yaml += "preshared_key_file: " + name + ".psk\n";
    out.yaml += "device: " + name + "\naddress: " + address_->to_string() + "\nroutes: [";
    const size_t routes = takes_routes_ ? routes_.size() : 0;
    for (size_t i = 0; i < routes; ++i) out.yaml += (i == 0 ? "" : ", ") + routes_[i];
    out.yaml += "]\nprotections: [chacha20-poly1305]\n";
    add_number(out.yaml, "mtu", mtu_);
    add_number(out.yaml, "listen_port", listen_port_);
    add_number(out.yaml, "fwmark", fwmark_);
    add_number(out.yaml, "heartbeat", heartbeat_s_);
    return out;
  }

 private:
  void fail(const std::string& message) { errors_.push_back(remark(message)); }
  void leave_out(const std::string& message) { left_out_.push_back(remark(message)); }
  config::Error remark(const std::string& message) const {
    return {file_, line_, 1, path_.empty() ? "(file)" : path_, message};
  }
  void require(bool is_there, const std::string& path) {
    const bool was_wrong = std::any_of(
        errors_.begin(), errors_.end(),
        [&](const config::Error& error) { return lower(error.path) == lower(path); });
    if (is_there || was_wrong) return;
    path_ = path;
    fail("required key is missing");
  }

  void read_line(std::string_view line) {
    path_.clear();
    line = trimmed(line.substr(0, line.find('#')));
    if (line.empty()) return;
    if (line.front() == '[') return begin_section(line);
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) return fail("expected KEY = VALUE or [SECTION]");
    const std::string_view key = trimmed(line.substr(0, equals));
    const std::string_view value = trimmed(line.substr(equals + 1));
    path_ = key;
    if (section_ == Section::none) return fail("stands before any section");
    if (section_ == Section::unknown) return;  // reported with its heading
    path_.insert(0, section_ == Section::interface ? "Interface." : "Peer.");
    const bool known = section_ == Section::interface ? read_interface(lower(key), value)
                                                      : read_peer(lower(key), value);
    if (!known) fail("unknown key");
  }

  void begin_section(std::string_view line) {
    const std::string word = lower(line);
    section_ = word == "[interface]" ? Section::interface
               : word == "[peer]"    ? Section::peer
                                     : Section::unknown;
    if (section_ == Section::unknown) fail("unknown section " + std::string(line));
    if (section_ == Section::peer && ++peers_ == 2) {
      fail("a second peer: a client has one gateway at a time; import a file for each");
    }
  }

  template <typename T, typename Out>
  void take(std::string_view value, const config::Format<T>& format, Out& out) {
    if (const auto parsed = format.parse(value)) {
      out = *parsed;
    } else {
      fail("expected " + format.expected);  // a value may be a secret: it is not repeated
    }
  }
  // Of a number that is given twice the last counts, as everywhere in such a file; "off" is 0, and
  // leaves out what was given before.
  template <typename T>
  void take_unless_off(std::string_view value, std::optional<T>& out) {
    if (value == "off" || value == "0") {
      out.reset();
    } else {
      take(value, config::integer<T>(1, std::numeric_limits<T>::max()), out);
    }
  }
  template <typename T>
  static void add_number(std::string& yaml, const char* key, const std::optional<T>& number) {
    if (number) yaml += key + (": " + std::to_string(*number)) + "\n";
  }

  bool read_interface(const std::string& key, std::string_view value) {
    if (key == "privatekey") {
      take(value, config::key(), private_key_);
    } else if (key == "address") {
      read_addresses(value);
    } else if (key == "mtu") {
      take(value, config::integer<uint16_t>(576, 9000), mtu_);
    } else if (key == "listenport") {
      take(value, config::integer<uint16_t>(0, 65535), listen_port_);
    } else if (key == "fwmark") {
      take_unless_off(value, fwmark_);
    } else if (key == "table") {
      takes_routes_ = value != "off";
      if (value != "auto" && value != "off") leave_out("left out: routes go to the main table");
    } else if (key == "dns") {
      leave_out("left out: tell this machine's resolver yourself");
    } else if (key == "preup" || key == "postup" || key == "predown" || key == "postdown") {
      leave_out("left out: the client runs no commands");
    } else if (key == "saveconfig") {
      leave_out("left out: the client never writes its configuration");
    } else {
      return false;
    }
    return true;
  }

  bool read_peer(const std::string& key, std::string_view value) {
    if (key == "publickey") {
      take(value, config::key(), public_key_);
    } else if (key == "presharedkey") {
      take(value, config::key(), preshared_key_);
    } else if (key == "endpoint") {
      if (parse_gateway(value) && value.find(':') != std::string_view::npos) {
        endpoint_ = value;
      } else {
        fail("expected an IPv4 address or a DNS name, and a port");
      }
    } else if (key == "allowedips") {
      read_allowed(value);
    } else if (key == "persistentkeepalive") {
      take_unless_off(value, heartbeat_s_);
      limit_heartbeat();
    } else {
      return false;
    }
    return true;
  }

  void limit_heartbeat() {
    if (heartbeat_s_.value_or(0) <= kHeartbeatMaxS) return;
    heartbeat_s_ = kHeartbeatMaxS;
    leave_out("becomes " + std::to_string(kHeartbeatMaxS) + ", the longest that the client takes");
  }

  bool is_ipv6(std::string_view item) {
    if (item.find(':') == std::string_view::npos) return false;
    leave_out(std::string(item) + " left out: the tunnel carries IPv4");
    return true;
  }

  void read_addresses(std::string_view value) {
    for (const std::string_view item : items_of(value)) {
      if (is_ipv6(item)) continue;
      const auto address = parse_interface(item);
      if (!address) {
        fail("expected an IPv4 address such as 192.0.2.1/24");
      } else if (address_) {
        leave_out(std::string(item) + " left out: the device has one address");
      } else {
        address_ = address;
      }
    }
  }

  void read_allowed(std::string_view value) {
    for (const std::string_view item : items_of(value)) {
      if (is_ipv6(item)) continue;
      const auto range = parse_interface(item);
      if (!range) {
        fail("expected IPv4 prefixes such as 192.0.2.0/24");
      } else {
        const std::string route =
            range->length_bits == 0 ? "default" : range->prefix().to_string();
        if (std::ranges::find(routes_, route) == routes_.end()) routes_.push_back(route);
      }
    }
  }

  enum class Section : uint8_t { none, interface, peer, unknown };

  const std::string& file_;
  std::vector<config::Error>& errors_;
  std::vector<config::Error> left_out_;
  int line_ = 1;
  std::string path_;  // "Interface.MTU", of the line at hand
  Section section_ = Section::none;
  unsigned peers_ = 0;
  std::optional<config::KeyBytes> private_key_;
  std::optional<config::KeyBytes> public_key_;
  std::optional<config::KeyBytes> preshared_key_;
  std::optional<Ipv4Interface> address_;
  std::string endpoint_;
  std::vector<std::string> routes_;
  bool takes_routes_ = true;  // false: `Table = off`, the allowed addresses are not routed
  std::optional<uint16_t> mtu_;
  std::optional<uint16_t> listen_port_;
  std::optional<uint32_t> fwmark_;
  std::optional<uint16_t> heartbeat_s_;
};

}  // namespace

std::optional<WgImport> import_wg(std::string_view text, const std::string& file,
                                  const std::string& name, std::vector<config::Error>& errors) {
  const size_t before = errors.size();
  Reader reader(file, errors);
  reader.read(text);
  if (errors.size() != before) return std::nullopt;
  return reader.result(name);
}

}  // namespace adit::client
