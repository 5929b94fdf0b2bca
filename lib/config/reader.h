// Typed reading of a configuration's mappings. A Section is one mapping; its getters fill fields,
// remember which keys were asked for, and put every mistake in the Report at its place, without
// stopping. What is absent leaves its field, which holds the default, as it was.
//
// A value of the wrong form leaves its field too and marks its key: good() tells the checks that
// follow which values may be judged, so that one mistake is reported once.
//
// The loaders own Report and the Documents; a Section points into both and is cheap to copy.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/config/document.h"
#include "lib/config/error.h"
#include "lib/config/formats.h"

namespace adit::config {

// What a run found out.
struct Report {
  std::vector<Error> errors;
  std::vector<std::string> files;  // in the order they were read
  // What was asked for anywhere, such as "ports[].mtu", where somebody wants it.
  std::set<std::string>* known_keys = nullptr;

  // Puts the errors in the order of files, lines and columns.
  void sort();
};

class Section {
 public:
  // The whole document. Anything but a mapping (or nothing at all) is reported and read as empty.
  Section(const Document& document, Report& report);

  // True when the key is there and its value is of this format; `out` is then set.
  template <typename T>
  bool read(std::string_view key, T& out, const Format<T>& format) {
    const Node* node = find(key);
    return node != nullptr && take(key, *node, child_path(key), out, format);
  }
  template <typename T>
  bool read(std::string_view key, std::optional<T>& out, const Format<T>& format) {
    T value{};
    if (!read(key, value, format)) return false;
    out = value;
    return true;
  }
  // As read(), and an absent key is a mistake.
  template <typename T>
  bool require(std::string_view key, T& out, const Format<T>& format) {
    return must_exist(key) && read(key, out, format);
  }
  // Every item that is well formed is appended; a list that is there replaces the default.
  template <typename T>
  bool read_list(std::string_view key, std::vector<T>& out, const Format<T>& format) {
    const Node* list = find_list(key);
    if (list == nullptr) return false;
    out.clear();
    for (size_t i = 0; i < list->children.size(); ++i) {
      T value{};
      const std::string path = item_path(child_path(key), i);
      if (take(key, list->children[i], path, value, format)) out.push_back(value);
    }
    return good(key);
  }
  // As read_list(), for sets: at least one item, none twice.
  template <typename T>
  bool read_set(std::string_view key, std::vector<T>& out, const Format<T>& format) {
    std::vector<T> items;
    if (!read_list(key, items, format)) return false;
    if (items.empty()) fail(key, "the list is empty; expected at least " + format.expected);
    for (size_t i = 0; i < items.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (items[i] == items[j]) fail_item(key, i, "is in the list already");
      }
    }
    if (!good(key)) return false;
    out = items;
    return true;
  }

  // The mapping under `key`; an empty one, at this section's place, when absent.
  Section child(std::string_view key);
  // The mappings in the list under `key`.
  std::vector<Section> children(std::string_view key);

  // Reports an absent key, at this section's own place because it has none itself.
  bool must_exist(std::string_view key);
  bool has(std::string_view key) const;
  // Is the key there, with nothing wrong found in its value so far?
  bool good(std::string_view key) const { return has(key) && !bad_.contains(key); }
  // Absent, so that the default holds, or good.
  bool sound(std::string_view key) const { return !bad_.contains(key); }

  // Reports a mistake at the key's value, or at the section's place when the key is absent.
  void fail(std::string_view key, const std::string& message);
  void fail_item(std::string_view key, size_t index, const std::string& message);
  void fail_here(const std::string& message);

  // Reports the keys that nobody asked for. Call it once, after the last getter.
  void reject_unknown_keys();

  // "file:line" of the key's value, to name the other party of a conflict.
  std::string place(std::string_view key) const;
  const std::string& file() const { return document_->file; }

 private:
  Section(const Section& parent, const Node& node, Mark mark, std::string path);

  const Node* find(std::string_view key);       // remembers that the key was asked for
  const Node* find_list(std::string_view key);  // nothing, once reported, for anything but a list
  const Node* look_up(std::string_view key) const;
  std::string child_path(std::string_view key) const { return join_path(path_, key); }
  void report(Mark mark, const std::string& path, const std::string& message);
  void report_kind(std::string_view key, const Node& node, const std::string& path,
                   const std::string& expected);

  template <typename T>
  bool take(std::string_view key, const Node& node, const std::string& path, T& out,
            const Format<T>& format) {
    if (node.kind == Node::Kind::kScalar) {
      if (const std::optional<T> value = format.parse(node.text)) {
        out = *value;
        return true;
      }
    }
    report_kind(key, node, path, format.expected);
    return false;
  }

  const Document* document_;
  Report* report_;
  const Node* node_;
  Mark mark_;
  std::string path_;  // "" at the top
  std::set<std::string> known_;
  std::set<std::string, std::less<>> bad_;
};

// The word of `known` that `word` is most likely a slip of, or "".
std::string closest_word(std::string_view word, const std::set<std::string>& known);

}  // namespace adit::config
