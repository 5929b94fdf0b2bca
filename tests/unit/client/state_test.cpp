// What the client keeps in files: the undo journal and the state files.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "client-lite/state_files.h"
#include "client-lite/undo_journal.h"

namespace adit::client {
namespace {

class Files : public ::testing::Test {
 protected:
  Files() {
    std::string name = (std::filesystem::temp_directory_path() / "adit-client-XXXXXX").string();
    directory_ = mkdtemp(name.data()) == nullptr ? "" : name;
  }
  ~Files() override { std::filesystem::remove_all(directory_); }
  std::string path(const char* name) const { return directory_ + "/" + name; }
  std::string content(const char* name) const {
    std::ifstream file(path(name));
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string directory_;
  std::string refusal_;
};

using UndoJournalTest = Files;
using StateFilesTest = Files;
using Changes = std::vector<std::string>;

TEST_F(UndoJournalTest, TellsTheNextRunWhatAKilledOneLeft) {
  {
    UndoJournal killed;
    ASSERT_TRUE(killed.open(path("undo"), refusal_));
    EXPECT_TRUE(killed.record("route a"));
    EXPECT_TRUE(killed.record("dns b"));
    EXPECT_TRUE(killed.record("route c"));
    killed.strike_out("dns b");
  }
  UndoJournal next;
  ASSERT_TRUE(next.open(path("undo"), refusal_));
  EXPECT_EQ(next.standing(), (Changes{"route a", "route c"}));
}

TEST_F(UndoJournalTest, ARecordIsInTheFileBeforeRecordReturns) {
  UndoJournal journal;
  ASSERT_TRUE(journal.open(path("undo"), refusal_));
  journal.record("route a");
  EXPECT_EQ(content("undo"), "+ route a\n");
}

TEST_F(UndoJournalTest, IsEmptyWhenEverythingIsUndone) {
  UndoJournal journal;
  ASSERT_TRUE(journal.open(path("undo"), refusal_));
  journal.record("route a");
  journal.strike_out("route a");
  EXPECT_EQ(content("undo"), "");
  journal.record("route b");
  journal.clear();
  EXPECT_EQ(content("undo"), "");
  EXPECT_TRUE(journal.standing().empty());
}

TEST_F(UndoJournalTest, ALineCutShortWasNeverCarriedOutAndSpoilsNoLaterOne) {
  std::ofstream(path("undo")) << "+ route a\n+ rou";
  {
    UndoJournal journal;
    ASSERT_TRUE(journal.open(path("undo"), refusal_));
    EXPECT_EQ(journal.standing(), Changes{"route a"});
    journal.record("route b");
  }
  UndoJournal next;
  ASSERT_TRUE(next.open(path("undo"), refusal_));
  EXPECT_EQ(next.standing(), (Changes{"route a", "route b"}));
}

TEST_F(UndoJournalTest, RefusesASecondClient) {
  UndoJournal first;
  UndoJournal second;
  ASSERT_TRUE(first.open(path("undo"), refusal_));
  EXPECT_FALSE(second.open(path("undo"), refusal_));
  EXPECT_NE(refusal_.find("another adit-client"), std::string::npos) << refusal_;
}

TEST_F(UndoJournalTest, RefusesAChangeThatWouldBeTwoLines) {
  UndoJournal journal;
  ASSERT_TRUE(journal.open(path("undo"), refusal_));
  EXPECT_FALSE(journal.record("route a\n+ route b"));
  EXPECT_EQ(content("undo"), "");
}

TEST_F(UndoJournalTest, SaysWhyItCannotOpen) {
  UndoJournal journal;
  EXPECT_FALSE(journal.open(path("absent/undo"), refusal_));
  EXPECT_NE(refusal_.find("No such file"), std::string::npos) << refusal_;
}

TEST_F(StateFilesTest, GiveBackTheStampAndTheAddress) {
  const StateFiles files(directory_, "adit0");
  EXPECT_FALSE(files.read_stamp().has_value());
  EXPECT_FALSE(files.read_address().has_value());
  const tunnel::Tai64n stamp{0x40, 0, 0, 0, 0x65, 0x9a, 0xff, 1, 2, 3, 4, 5};
  const auto address = Ipv4Address::from_octets(192, 168, 1, 10);
  EXPECT_TRUE(files.write_stamp({}));
  EXPECT_TRUE(files.write_stamp(stamp));
  EXPECT_TRUE(files.write_address(address));
  EXPECT_EQ(StateFiles(directory_, "adit0").read_stamp(), stamp);
  EXPECT_EQ(StateFiles(directory_, "adit0").read_address(), address);
  EXPECT_FALSE(StateFiles(directory_, "adit1").read_stamp().has_value());
}

TEST_F(StateFilesTest, TakeNoDamagedStamp) {
  const StateFiles files(directory_, "adit0");
  for (const char* text : {"", "40", "400000006b0547bf32e0f6bg", "400000006b0547bf32e0f6b5ff"}) {
    std::ofstream(path("adit0.tai64n")) << text << "\n";
    EXPECT_FALSE(files.read_stamp().has_value()) << text;
  }
}

TEST_F(StateFilesTest, SayThatTheyCannotWrite) {
  const StateFiles files(directory_ + "/absent", "adit0");
  EXPECT_FALSE(files.write_stamp({}));
}

TEST_F(StateFilesTest, MakeTheirDirectoryWithItsParents) {
  EXPECT_TRUE(make_directory(path("a/b/c")));
  EXPECT_TRUE(make_directory(path("a/b/c")));
  EXPECT_TRUE(std::filesystem::is_directory(path("a/b/c")));
  std::ofstream(path("file")) << "x";
  EXPECT_FALSE(make_directory(path("file/d")));
}

}  // namespace
}  // namespace adit::client
