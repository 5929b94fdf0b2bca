#include "lib/config/document.h"

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

namespace adit::config {
namespace {

// They stop an alias that contains itself or doubles at every level. A file without aliases has
// fewer nodes than bytes, and those that fair aliases add are a small part of that.
constexpr size_t kDepthMax = 32;
constexpr size_t kNodesPerByteMax = 4;
// A text of so many bytes takes as much again as a node: an alias may name a long one.
constexpr size_t kTextOfANode = 64;

Mark to_mark(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {mark.line + 1, mark.column + 1};
}

Node nothing_at(Mark mark) {
  Node node;
  node.mark = mark;
  return node;
}

// What copying a node comes to.
struct Extent {
  size_t nodes = 1;  // and what their texts come to
  size_t height = 0;
};

Extent extent_of(const Node& node) {
  Extent extent{.nodes = 1 + node.text.size() / kTextOfANode};
  for (const Key& key : node.keys) extent.nodes += key.text.size() / kTextOfANode;
  for (const Node& child : node.children) {
    const Extent inner = extent_of(child);
    extent.nodes += inner.nodes;
    extent.height = std::max(extent.height, inner.height + 1);
  }
  return extent;
}

// Makes the tree of one document as the parser goes along: a tree of yaml-cpp's own takes some two
// kilobytes a subscriber.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& file, size_t file_bytes)
      : file_(file), nodes_max_(kNodesPerByteMax * file_bytes) {}

  Node& root() { return root_; }
  // Where the document's own node begins.
  Mark begin() const { return begin_; }
  const std::vector<Error>& errors() const { return errors_; }

  void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(nothing_at(to_mark(mark)), anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node = nothing_at(to_mark(mark));
    if (awaits_key() || admit(node.mark, {})) {
      node.kind = Node::Kind::kScalar;
      node.text = value;
    }
    add(std::move(node), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    // One that is not there yet contains this alias.
    const auto found = anchored_.find(anchor);
    const Extent endless{.nodes = 0, .height = kDepthMax + 1};
    const bool fits =
        admit(to_mark(mark), found != anchored_.end() ? found->second.extent : endless);
    add(fits ? found->second.node : nothing_at(to_mark(mark)), YAML::NullAnchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    open(Node::Kind::kList, to_mark(mark), anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    open(Node::Kind::kMapping, to_mark(mark), anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  // A list or mapping whose end has not come.
  struct Open {
    Node node;
    YAML::anchor_t anchor;
    bool is_silent;  // its mistakes are not told: it is under a key that was refused
    std::map<std::string, int> lines = {};  // of a mapping's keys
    std::optional<Key> key = {};            // of the value that comes next
    bool is_key_refused = false;            // that value is left out
  };

  // What an alias may name, and what it comes to: looked at once, not for each alias.
  struct Anchored {
    Node node;
    Extent extent;
  };

  void open(Node::Kind kind, Mark mark, YAML::anchor_t anchor) {
    Open next{.node = nothing_at(mark), .anchor = anchor, .is_silent = is_silent()};
    if (admit(mark, {})) next.node.kind = kind;
    if (open_.empty()) begin_ = mark;
    open_.push_back(std::move(next));
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    add(std::move(done.node), done.anchor);
  }

  // Puts a whole node where it belongs. yaml-cpp places "nothing" at whatever comes next, which may
  // be another line's key: it is put where what has it begins.
  void add(Node node, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) anchored_[anchor] = {node, extent_of(node)};
    const bool is_nothing = node.kind == Node::Kind::kNull;
    if (open_.empty()) {
      begin_ = node.mark;
      if (is_nothing) node.mark = {};
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == Node::Kind::kList) {
      if (is_nothing) node.mark = parent.node.mark;
      parent.node.children.push_back(std::move(node));
    } else if (awaits_key()) {
      take_key(std::move(node));
    } else if (parent.key) {
      if (is_nothing) node.mark = parent.key->mark;
      if (!parent.is_key_refused) {
        parent.node.keys.push_back(std::move(*parent.key));
        parent.node.children.push_back(std::move(node));
      }
      parent.key.reset();
    }
  }

  void take_key(Node node) {
    Open& parent = open_.back();
    const bool is_word = node.kind == Node::Kind::kScalar;
    bool is_first = false;
    int first_line = 0;
    if (is_word) {
      const auto [first, is_new] = parent.lines.try_emplace(node.text, node.mark.line);
      is_first = is_new;
      first_line = first->second;
    }
    if (!is_word && !parent.is_silent) {
      const std::string path = path_here();
      fail(node.mark, path.empty() ? kWholeDocument : path, "a key must be a plain word");
    } else if (!is_first && !parent.is_silent) {
      fail(node.mark, join_path(path_here(), node.text),
           "duplicate key: line " + std::to_string(first_line) + " has it already");
    }
    parent.is_key_refused = !is_first;
    parent.key = Key{std::move(node.text), node.mark};
  }

  // May a node of this extent be added here? What has grown too large is told once.
  bool admit(Mark mark, Extent extent) {
    nodes_ += extent.nodes;
    if (open_.size() + extent.height <= kDepthMax && nodes_ <= nodes_max_) return true;
    if (!is_too_large_ && !is_silent()) {
      fail(mark, path_here(), "nested too deeply, or too large once aliases expand");
      is_too_large_ = true;
    }
    return false;
  }

  bool awaits_key() const {
    return !open_.empty() && open_.back().node.kind == Node::Kind::kMapping && !open_.back().key;
  }

  bool is_silent() const {
    if (open_.empty()) return false;
    const Open& parent = open_.back();
    return parent.is_silent || awaits_key() || (parent.key && parent.is_key_refused);
  }

  // The path of the node that comes next.
  std::string path_here() const {
    std::string path;
    for (const Open& each : open_) {
      if (each.node.kind == Node::Kind::kList) path = item_path(path, each.node.children.size());
      if (each.key) path = join_path(path, each.key->text);
    }
    return path;
  }

  void fail(Mark mark, const std::string& path, const std::string& message) {
    errors_.push_back({file_, mark.line, mark.column, path, message});
  }

  const std::string& file_;
  const size_t nodes_max_;
  std::vector<Error> errors_;
  Node root_;
  Mark begin_;
  std::vector<Open> open_;  // the outermost first
  std::map<YAML::anchor_t, Anchored> anchored_;
  size_t nodes_ = 0;
  bool is_too_large_ = false;
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
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder first(file, text.size());
    parser.HandleNextDocument(first);
    std::optional<Mark> second;
    while (true) {  // to the end, which may be no YAML
      TreeBuilder next(file, text.size());
      if (!parser.HandleNextDocument(next)) break;
      if (!second) second = next.begin();
    }
    if (second) {
      errors.push_back({file, second->line, second->column, kWholeDocument,
                        "a second YAML document begins here; expected one"});
    }
    errors.insert(errors.end(), first.errors().begin(), first.errors().end());
    return Document{file, std::move(first.root())};
  } catch (const YAML::DeepRecursion& deep) {  // its own text says "bad file"
    const Mark mark = to_mark(deep.mark);
    errors.push_back({file, mark.line, mark.column, kWholeDocument, "nested too deeply"});
    return std::nullopt;
  } catch (const YAML::Exception& exception) {
    const Mark mark = to_mark(exception.mark);
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
