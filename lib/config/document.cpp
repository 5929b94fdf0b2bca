#include "lib/config/document.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

namespace adit::config {
namespace {

// They stop an alias that contains itself or doubles at every level. A file without aliases has
// fewer nodes than bytes, and those that fair aliases add are a small part of that.
constexpr int kDepthMax = 32;
constexpr size_t kNodesPerByteMax = 4;

Mark to_mark(const YAML::Mark& mark, Mark otherwise) {
  if (mark.is_null()) return otherwise;
  return {mark.line + 1, mark.column + 1};
}

class Converter {
 public:
  Converter(const std::string& file, size_t file_bytes, std::vector<Error>& errors)
      : file_(file), nodes_max_(kNodesPerByteMax * file_bytes), errors_(errors) {}

  Node convert(const YAML::Node& yaml, Mark parent, const std::string& path, int depth) {
    Node node;
    // yaml-cpp places "nothing" at whatever comes next, which may be another line's key.
    node.mark = yaml.IsNull() ? parent : to_mark(yaml.Mark(), parent);
    if (depth > kDepthMax || ++nodes_ > nodes_max_) {
      if (!too_large_) fail(node.mark, path, "nested too deeply, or too large once aliases expand");
      too_large_ = true;
      return node;
    }
    switch (yaml.Type()) {
      case YAML::NodeType::Scalar:
        node.kind = Node::Kind::kScalar;
        node.text = yaml.Scalar();
        break;
      case YAML::NodeType::Sequence:
        node.kind = Node::Kind::kList;
        for (const YAML::Node& item : yaml) {
          const std::string item_name = item_path(path, node.children.size());
          node.children.push_back(convert(item, node.mark, item_name, depth + 1));
        }
        break;
      case YAML::NodeType::Map:
        node.kind = Node::Kind::kMapping;
        for (const auto& entry : yaml) add_entry(node, entry.first, entry.second, path, depth);
        break;
      case YAML::NodeType::Null:
      case YAML::NodeType::Undefined:
        break;
    }
    return node;
  }

 private:
  void add_entry(Node& node, const YAML::Node& key, const YAML::Node& value,
                 const std::string& path, int depth) {
    const Mark mark = to_mark(key.Mark(), node.mark);
    if (!key.IsScalar()) {
      return fail(mark, path.empty() ? kWholeDocument : path, "a key must be a plain word");
    }
    const std::string& text = key.Scalar();
    const std::string entry_path = join_path(path, text);
    const auto first = std::find_if(node.keys.begin(), node.keys.end(),
                                    [&](const Key& other) { return other.text == text; });
    if (first != node.keys.end()) {
      return fail(mark, entry_path,
                  "duplicate key: line " + std::to_string(first->mark.line) + " has it already");
    }
    Node child = convert(value, mark, entry_path, depth + 1);
    node.keys.push_back({text, mark});
    node.children.push_back(std::move(child));
  }

  void fail(Mark mark, const std::string& path, const std::string& message) {
    errors_.push_back({file_, mark.line, mark.column, path, message});
  }

  const std::string& file_;
  const size_t nodes_max_;
  std::vector<Error>& errors_;
  size_t nodes_ = 0;
  bool too_large_ = false;
};

}  // namespace

std::string join_path(const std::string& parent, std::string_view key) {
  return parent.empty() ? std::string(key) : parent + "." + std::string(key);
}

std::string item_path(const std::string& list, size_t index) {
  return list + "[" + std::to_string(index) + "]";
}

std::optional<Document> parse_document(std::string_view text, const std::string& file,
                                       std::vector<Error>& errors) {
  try {
    // LoadAll, not Load: Load stops after the first document and ignores whatever follows.
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    Document document{file, {}};
    if (documents.size() > 1) {
      const Mark mark = to_mark(documents[1].Mark(), {});
      errors.push_back({file, mark.line, mark.column, kWholeDocument,
                        "a second YAML document begins here; expected one"});
    }
    if (!documents.empty()) {
      document.root = Converter(file, text.size(), errors).convert(documents[0], {}, "", 0);
    }
    return document;
  } catch (const YAML::Exception& exception) {
    const Mark mark = to_mark(exception.mark, {});
    errors.push_back({file, mark.line, mark.column, kWholeDocument, "not YAML: " + exception.msg});
    return std::nullopt;
  }
}

std::optional<Document> read_document(const std::string& file, std::vector<Error>& errors) {
  errno = 0;
  const std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  // Unlike an iterator, this turns a failing read (of a directory, say) into a state of `text`.
  if (stream) text << stream.rdbuf();
  if (!stream || errno != 0) {
    const std::string reason = errno != 0 ? std::strerror(errno) : "read error";
    errors.push_back({file, 1, 1, kWholeDocument, "cannot read the file: " + reason});
    return std::nullopt;
  }
  return parse_document(text.str(), file, errors);
}

}  // namespace adit::config
