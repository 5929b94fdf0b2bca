#include "lib/config/reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <sstream>

#include "tests/unit/config/temp_dir.h"

namespace adit::config {
namespace {

std::string lines(const std::vector<Error>& errors) {
  std::string out;
  for (const Error& error : errors) out += error.to_string() + "\n";
  return out;
}

// Parses `text` as the file "f".
Document parsed(const std::string& text, Report& report) {
  report.files = {"f"};
  auto document = parse_document(text, "f", report.errors);
  return document ? std::move(*document) : Document{"f", {}};
}

// What parsing alone complains about.
std::string parse_errors(const std::string& text) {
  std::vector<Error> errors;
  parse_document(text, "f", errors);
  return lines(errors);
}

TEST(Document, ReportsSyntaxErrorsAtTheirPlace) {
  EXPECT_EQ(parse_errors("a: 1\nb: [1, 2\n"),
            "f:3:1: (document): not YAML: end of sequence flow not found\n");
  EXPECT_EQ(parse_errors("a: 1\n\tb: 2\n").substr(0, 29), "f:2:1: (document): not YAML: ");
}

TEST(Document, ReportsDuplicateKeysAndKeepsTheFirstValue) {
  Report report;
  const Document document = parsed("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 2\n", report);
  EXPECT_EQ(lines(report.errors),
            "f:5:3: b.c: duplicate key: line 3 has it already\n"
            "f:6:1: a: duplicate key: line 1 has it already\n");
  uint16_t a = 0;
  Section(document, report).read("a", a, integer<uint16_t>(0, 9));
  EXPECT_EQ(a, 1);
}

TEST(Document, ReportsTextAfterItsEndAndKeysThatAreNoWords) {
  EXPECT_EQ(parse_errors("a: 1\n---\nb: 2\n"),
            "f:3:1: (document): a second YAML document begins here; expected one\n");
  EXPECT_EQ(parse_errors("a:\n  [1, 2]: 3\n"), "f:2:3: a: a key must be a plain word\n");
}

TEST(Document, SurvivesAliasesThatExplode) {
  // Each line holds the one above it three times.
  std::ostringstream text;
  text << "a0: &a0 [x]\n";
  for (int i = 1; i < 30; ++i) {
    text << "a" << i << ": &a" << i << " [*a" << i - 1 << ", *a" << i - 1 << ", *a" << i - 1
         << "]\n";
  }
  std::vector<Error> errors;
  parse_document(text.str(), "f", errors);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].message, "nested too deeply, or too large once aliases expand");
}

// What is quadratic in the size of a file takes minutes, or all memory.
TEST(Document, TakesTimeAndMemoryAsItsFileIsLarge) {
  constexpr int kMany = 100'000;
  constexpr double kBound_s = 5;
  const std::clock_t begin = std::clock();
  std::string list = "[", aliases = "[", keys;
  for (int i = 0; i < kMany; ++i) {
    list += "x,";
    aliases += "*a,";
    keys += "k" + std::to_string(i) + ":\n";
  }
  for (const std::string& what : {list + "]", std::string(10'000, 'x')}) {
    std::vector<Error> errors;
    const auto document = parse_document("a: &a " + what + "\nb: " + aliases + "]\n", "f", errors);
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_EQ(errors[0].message, "nested too deeply, or too large once aliases expand");
    const std::vector<Node>& copies = document->root.children[1].children;
    ASSERT_EQ(copies.size(), size_t{kMany});
    EXPECT_GT(std::ranges::count(copies, Node::Kind::kNull, &Node::kind), kMany * 9 / 10);
  }
  EXPECT_EQ(parse_errors(keys + "k7:\n"), "f:100001:1: k7: duplicate key: line 8 has it already\n");
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, kBound_s);
}

TEST(Document, RefusesWhatIsNestedWithoutEnd) {
  for (const char* level : {"[", "{a: ", "- ", "? "}) {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += level;
    const std::string told = parse_errors(text);
    EXPECT_NE(told.find(": (document): nested too deeply\n"), std::string::npos) << told;
  }
}

TEST(Document, MergesNothingAndIgnoresTags) {
  Report report;
  const Document document = parsed("a: &a {b: 1}\nc:\n  <<: *a\n  d: !!str 2\n", report);
  EXPECT_EQ(lines(report.errors), "");
  const Node& c = document.root.children[1];
  ASSERT_EQ(c.keys.size(), 2u);
  EXPECT_EQ(c.keys[0].text, "<<");  // as any other key: one that nobody knows
  EXPECT_EQ(c.children[1].text, "2");
}

TEST(Document, ReadsWhatAnAliasNames) {
  Report report;
  const Document document = parsed("a: &a\n  b: 1\n  c: &c [x, y]\nd: *a\ne: [*c, *c]\n", report);
  EXPECT_EQ(lines(report.errors), "");
  ASSERT_EQ(document.root.children.size(), 3u);
  const Node& d = document.root.children[1];
  ASSERT_EQ(d.keys.size(), 2u);
  EXPECT_EQ(d.keys[1].text, "c");
  EXPECT_EQ(d.children[1].children[1].text, "y");
  EXPECT_EQ(d.mark.line, 1);  // where it is written
  EXPECT_EQ(d.mark.column, 4);
  EXPECT_EQ(d.children[0].mark.line, 2);
  EXPECT_EQ(document.root.children[2].children[1].children[0].text, "x");
}

TEST(Document, SurvivesAnAliasThatContainsItself) {
  EXPECT_EQ(parse_errors("a: 1\nb: &b [x, *b]\n"),
            "f:2:11: b[1]: nested too deeply, or too large once aliases expand\n");
}

TEST(Document, TellsOneMistakeOfAValueWhoseKeyItRefuses) {
  EXPECT_EQ(parse_errors("a: 1\na: {b: 1, b: 2}\nc: {d: 1, d: 2}\n"),
            "f:2:1: a: duplicate key: line 1 has it already\n"
            "f:3:11: c.d: duplicate key: line 3 has it already\n");
  EXPECT_EQ(parse_errors("a: 1\na: {b: {c: 1, c: 2}}\n"),
            "f:2:1: a: duplicate key: line 1 has it already\n");
  EXPECT_EQ(parse_errors("{a: 1, a: 2}: 3\n"), "f:1:1: (document): a key must be a plain word\n");
}

TEST(Document, PutsNothingWhereItsKeyIs) {
  Report report;
  const Document document = parsed("a: 1\nb:\nc:\n  -\n  - 2\n", report);
  EXPECT_EQ(document.root.children[1].mark.line, 2);
  EXPECT_EQ(document.root.children[2].children[0].mark.line, 4);
}

TEST(Document, NamesAFileThatCannotBeRead) {
  const TempDir dir;
  std::vector<Error> errors;
  EXPECT_FALSE(read_document(dir.file("none.yaml"), errors));
  EXPECT_FALSE(read_document(dir.path(), errors));
  EXPECT_EQ(errors[0].to_string(), dir.file("none.yaml") +
                                       ":1:1: (document): cannot read the file: No such file or "
                                       "directory");
  EXPECT_EQ(errors[1].to_string(),
            dir.path() + ":1:1: (document): cannot read the file: Is a directory");
}

TEST(Section, ReadsTypedValuesAndLeavesDefaultsOfAbsentKeys) {
  Report report;
  const Document document = parsed("n: 7\nlist: [1, 2]\nsub: {on: true}\n", report);
  Section root(document, report);
  uint16_t n = 0, absent = 5;
  std::optional<uint16_t> maybe;
  std::vector<uint16_t> list = {9};
  bool on = false;
  EXPECT_TRUE(root.read("n", n, integer<uint16_t>(0, 9)));
  EXPECT_FALSE(root.read("absent", absent, integer<uint16_t>(0, 9)));
  EXPECT_TRUE(root.read("n", maybe, integer<uint16_t>(0, 9)));
  EXPECT_TRUE(root.read_list("list", list, integer<uint16_t>(0, 9)));
  EXPECT_TRUE(root.child("sub").read("on", on, boolean()));
  EXPECT_EQ(n, 7);
  EXPECT_EQ(absent, 5);
  EXPECT_EQ(maybe, 7);
  EXPECT_EQ(list, (std::vector<uint16_t>{1, 2}));
  EXPECT_TRUE(on);
  EXPECT_EQ(lines(report.errors), "");
}

TEST(Section, ReportsEveryWrongTypeOfOneRun) {
  Report report;
  const Document document = parsed(
      "n: seven\n"
      "empty:\n"
      "map: {a: 1}\n"
      "list: [1, x, [2]]\n"
      "word: 3\n"
      "items:\n"
      "  - a: 1\n"
      "  - 2\n",
      report);
  Section root(document, report);
  uint16_t n = 1;
  std::vector<uint16_t> list;
  const auto digit = integer<uint16_t>(0, 9);
  root.read("n", n, digit);
  root.read("empty", n, digit);
  root.read("map", n, digit);
  root.read_list("list", list, digit);
  root.read_list("word", list, digit);
  root.child("word");
  EXPECT_EQ(root.children("items").size(), 1u);
  EXPECT_EQ(n, 1);
  EXPECT_EQ(lines(report.errors),
            "f:1:4: n: expected a whole number from 0 to 9, got \"seven\"\n"
            "f:2:1: empty: expected a whole number from 0 to 9, got nothing\n"
            "f:3:6: map: expected a whole number from 0 to 9, got a mapping\n"
            "f:4:11: list[1]: expected a whole number from 0 to 9, got \"x\"\n"
            "f:4:14: list[2]: expected a whole number from 0 to 9, got a list\n"
            "f:5:7: word: expected a list, got \"3\"\n"
            "f:5:7: word: expected a mapping, got \"3\"\n"
            "f:8:5: items[1]: expected a mapping, got \"2\"\n");
}

TEST(Section, ReportsAMissingKeyAtItsParentsPlace) {
  Report report;
  const Document document = parsed("# a comment\na:\n  - name: x\n  - other: y\n", report);
  Section root(document, report);
  std::string name;
  for (Section& item : root.children("a")) item.require("name", name, text());
  root.child("absent").require("key", name, text());
  EXPECT_EQ(lines(report.errors),
            "f:4:5: a[1].name: required key is missing\n"
            "f:2:1: absent.key: required key is missing\n");
}

TEST(Section, ReportsUnknownKeysAndSuggestsTheKnownOne) {
  Report report;
  const Document document = parsed("adress: 1\nmtu: 2\nzzz: 3\nheartbaet: 4\n", report);
  Section root(document, report);
  std::string out;
  for (const char* key : {"address", "mtu", "heartbeat"}) root.read(key, out, text());
  root.reject_unknown_keys();
  EXPECT_EQ(lines(report.errors),
            "f:1:1: adress: unknown key; did you mean \"address\"?\n"
            "f:3:1: zzz: unknown key\n"
            "f:4:1: heartbaet: unknown key; did you mean \"heartbeat\"?\n");
}

TEST(Section, HoldsSetsWithoutRepetition) {
  Report report;
  const Document document = parsed("a: [1, 2, 1]\nb: []\n", report);
  Section root(document, report);
  std::vector<uint16_t> a = {7}, b = {8};
  root.read_set("a", a, integer<uint16_t>(0, 9));
  root.read_set("b", b, integer<uint16_t>(0, 9));
  EXPECT_EQ(a, std::vector<uint16_t>{7});
  EXPECT_EQ(b, std::vector<uint16_t>{8});
  EXPECT_EQ(lines(report.errors),
            "f:1:11: a[2]: is in the list already\n"
            "f:2:4: b: the list is empty; expected at least a whole number from 0 to 9\n");
}

TEST(Section, TakesAnEmptyFileAndAnEmptyMappingForEmpty) {
  Report report;
  const Document nothing = parsed("# only a comment\n", report);
  Section(nothing, report).reject_unknown_keys();
  const Document document = parsed("a:\n  # all commented out\nb:\n", report);
  Section root(document, report);
  std::vector<bool> unused;
  EXPECT_TRUE(root.children("b").empty());
  root.child("a").reject_unknown_keys();
  EXPECT_EQ(lines(report.errors), "");
  const Document list = parsed("- 1\n", report);
  Section(list, report).reject_unknown_keys();
  EXPECT_EQ(lines(report.errors), "f:1:1: (document): expected a mapping, got a list\n");
}

TEST(Report, OrdersErrorsByFileLineAndColumn) {
  Report report;
  report.files = {"b", "a"};
  report.errors = {
      {"a", 1, 1, "p", "m"}, {"b", 2, 1, "p", "m"}, {"b", 1, 5, "p", "m"}, {"b", 1, 2, "p", "m"}};
  report.sort();
  EXPECT_EQ(lines(report.errors), "b:1:2: p: m\nb:1:5: p: m\nb:2:1: p: m\na:1:1: p: m\n");
}

TEST(Report, RemembersWhatWasLookedForWithoutIndices) {
  std::set<std::string> known_keys;
  Report report;
  report.known_keys = &known_keys;
  const Document document = parsed("a: [{b: 1}, {b: 2}]\n", report);
  Section root(document, report);
  std::string out;
  for (Section& item : root.children("a")) item.read("b", out, text());
  EXPECT_EQ(known_keys, (std::set<std::string>{"a", "a[].b"}));
}

TEST(ClosestWord, IsASlipAway) {
  const std::set<std::string> known = {"mtu", "name", "next_hop", "private_key_file"};
  EXPECT_EQ(closest_word("nmae", known), "name");
  EXPECT_EQ(closest_word("nexthop", known), "next_hop");
  EXPECT_EQ(closest_word("private_key", known), "");
  EXPECT_EQ(closest_word("private-key-file", known), "private_key_file");
  EXPECT_EQ(closest_word("mtux", known), "mtu");
  EXPECT_EQ(closest_word("x", known), "");
  EXPECT_EQ(closest_word("", known), "");
}

}  // namespace
}  // namespace adit::config
