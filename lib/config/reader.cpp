#include "lib/config/reader.h"

#include <algorithm>
#include <tuple>

namespace adit::config {
namespace {

const Node kNothing;

// "subscribers[2].name" -> "subscribers[].name".
std::string without_indices(std::string_view path) {
  std::string out;
  bool inside = false;
  for (const char c : path) {
    if (c == ']') inside = false;
    if (!inside) out += c;
    if (c == '[') inside = true;
  }
  return out;
}

// Insertions, deletions, substitutions and swaps of neighbours that make `b` of `a`.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      const size_t cost = a[i - 1] == b[j - 1] ? 0 : 1;
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + cost});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

std::string describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return "nothing";
    case Node::Kind::kScalar:
      return "\"" + node.text + "\"";
    case Node::Kind::kList:
      return "a list";
    case Node::Kind::kMapping:
      return "a mapping";
  }
  return "?";
}

bool may_be_mapping(const Node& node) {
  // A mapping with all of its lines commented out is nothing, and is meant as empty.
  return node.kind == Node::Kind::kMapping || node.kind == Node::Kind::kNull;
}

}  // namespace

std::string closest_word(std::string_view word, const std::set<std::string>& known) {
  // A third of the letters wrong is a slip, more is another word.
  size_t best = std::max<size_t>(1, word.size() / 3) + 1;
  std::string closest;
  for (const std::string& candidate : known) {
    const size_t distance = edit_distance(word, candidate);
    if (distance >= best) continue;
    best = distance;
    closest = candidate;
  }
  return closest;
}

void Report::sort() {
  const auto order = [this](const Error& error) {
    return std::tuple(std::find(files.begin(), files.end(), error.file) - files.begin(), error.line,
                      error.column);
  };
  std::stable_sort(errors.begin(), errors.end(),
                   [&](const Error& a, const Error& b) { return order(a) < order(b); });
}

Section::Section(const Document& document, Report& report)
    : document_(&document), report_(&report), node_(&document.root), mark_(document.root.mark) {
  if (may_be_mapping(*node_)) return;
  this->report(mark_, kWholeDocument, "expected a mapping, got " + describe(*node_));
  node_ = &kNothing;
}

Section::Section(const Section& parent, const Node& node, Mark mark, std::string path)
    : document_(parent.document_),
      report_(parent.report_),
      node_(&node),
      mark_(mark),
      path_(std::move(path)) {}

Section Section::child(std::string_view key) {
  const Node* node = find(key);
  if (node == nullptr) return Section(*this, kNothing, mark_, child_path(key));
  if (may_be_mapping(*node)) return Section(*this, *node, node->mark, child_path(key));
  report_kind(key, *node, child_path(key), "a mapping");
  return Section(*this, kNothing, node->mark, child_path(key));
}

std::vector<Section> Section::children(std::string_view key) {
  std::vector<Section> sections;
  const Node* list = find_list(key);
  if (list == nullptr) return sections;
  for (size_t i = 0; i < list->children.size(); ++i) {
    const Node& item = list->children[i];
    const std::string path = item_path(child_path(key), i);
    if (item.kind == Node::Kind::kMapping) {
      sections.push_back(Section(*this, item, item.mark, path));
    } else {
      report_kind(key, item, path, "a mapping");
    }
  }
  return sections;
}

bool Section::must_exist(std::string_view key) {
  if (find(key) != nullptr) return true;
  fail(key, "required key is missing");
  return false;
}

bool Section::has(std::string_view key) const {
  return look_up(key) != nullptr;
}

void Section::fail(std::string_view key, const std::string& message) {
  const Node* node = look_up(key);
  bad_.emplace(key);
  report(node != nullptr ? node->mark : mark_, child_path(key), message);
}

void Section::fail_item(std::string_view key, size_t index, const std::string& message) {
  const Node* list = look_up(key);
  if (list == nullptr || index >= list->children.size()) return fail(key, message);
  bad_.emplace(key);
  report(list->children[index].mark, item_path(child_path(key), index), message);
}

void Section::fail_here(const std::string& message) {
  report(mark_, path_.empty() ? kWholeDocument : path_, message);
}

void Section::reject_unknown_keys() {
  for (const Key& key : node_->keys) {
    if (known_.contains(key.text)) continue;
    const std::string closest = closest_word(key.text, known_);
    report(key.mark, child_path(key.text),
           "unknown key" + (closest.empty() ? "" : "; did you mean \"" + closest + "\"?"));
  }
  known_.clear();  // a million sections are kept for the checks that follow
}

std::string Section::place(std::string_view key) const {
  const Node* node = look_up(key);
  return document_->file + ":" + std::to_string(node != nullptr ? node->mark.line : mark_.line);
}

const Node* Section::find(std::string_view key) {
  known_.emplace(key);
  if (report_->known_keys != nullptr) {
    report_->known_keys->insert(without_indices(child_path(key)));
  }
  return look_up(key);
}

const Node* Section::find_list(std::string_view key) {
  const Node* node = find(key);
  if (node == nullptr || node->kind == Node::Kind::kList) return node;
  if (node->kind == Node::Kind::kNull) return node;  // as may_be_mapping() says
  report_kind(key, *node, child_path(key), "a list");
  return nullptr;
}

const Node* Section::look_up(std::string_view key) const {
  for (size_t i = 0; i < node_->keys.size(); ++i) {
    if (node_->keys[i].text == key) return &node_->children[i];
  }
  return nullptr;
}

void Section::report(Mark mark, const std::string& path, const std::string& message) {
  report_->errors.push_back({document_->file, mark.line, mark.column, path, message});
}

void Section::report_kind(std::string_view key, const Node& node, const std::string& path,
                          const std::string& expected) {
  bad_.emplace(key);
  report(node.mark, path, "expected " + expected + ", got " + describe(node));
}

}  // namespace adit::config
