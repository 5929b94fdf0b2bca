// A YAML file as a tree of our own. yaml-cpp reads the text; what it keeps silent about is found
// here, once: duplicate keys, a second document, trailing rubbish, an alias that contains itself.
// After this nothing else in the project knows which library parsed the file.
//
// read_document() reads a file: lib/config is start-up code and ends before the first packet.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/config/error.h"

namespace adit::config {

// What the path of an error says when the mistake belongs to the file as a whole.
inline constexpr char kWholeDocument[] = "(document)";

// A place in a file, 1-based. (yaml-cpp counts from 0.)
struct Mark {
  int line = 1;
  int column = 1;
};

struct Key {
  std::string text;
  Mark mark;
};

struct Node {
  enum class Kind { kNull, kScalar, kList, kMapping };

  Kind kind = Kind::kNull;
  Mark mark;
  std::string text;            // of a scalar
  std::vector<Key> keys;       // of a mapping: keys[i] belongs to children[i], no key twice
  std::vector<Node> children;  // of a mapping or a list
};

struct Document {
  std::string file;
  Node root;
};

// Nothing when the text is no YAML at all. A duplicate key is reported too, but the document is
// returned (with the key's first value), so that the mistakes in it are found in the same run.
std::optional<Document> parse_document(std::string_view text, const std::string& file,
                                       std::vector<Error>& errors);
std::optional<Document> read_document(const std::string& file, std::vector<Error>& errors);

// "parent.key", or "key" at the top; "list[3]".
std::string join_path(const std::string& parent, std::string_view key);
std::string item_path(const std::string& list, size_t index);

}  // namespace adit::config
