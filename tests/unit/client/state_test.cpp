// What the client keeps in files: the undo journal and the state files.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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

// While it lives, no file of this process may grow beyond `bytes`: as on a disk that is full, a
// write takes what there is room for, and the next takes nothing.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
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
  EXPECT_TRUE(journal.standing().empty());
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

TEST_F(UndoJournalTest, AFullDiskTakesAWholeLineOrNone) {
  {
    UndoJournal journal;
    ASSERT_TRUE(journal.open(path("undo"), refusal_));
    EXPECT_TRUE(journal.record("route a"));
    {
      const FullDisk full(content("undo").size() + 5);
      EXPECT_FALSE(journal.record("route b"));
      EXPECT_EQ(content("undo"), "+ route a\n");
    }
    EXPECT_EQ(journal.standing(), Changes{"route a"});
    EXPECT_TRUE(journal.record("route c"));
  }
  UndoJournal next;
  ASSERT_TRUE(next.open(path("undo"), refusal_));
  EXPECT_EQ(next.standing(), (Changes{"route a", "route c"}));
}

TEST_F(UndoJournalTest, KeepsItsRoomOnTheDiskUntilItIsLarge) {
  UndoJournal journal;
  ASSERT_TRUE(journal.open(path("undo"), refusal_));
  const uintmax_t pair_bytes = 2 * std::string("+ route a\n").size();
  uintmax_t before_bytes = 0;
  for (unsigned i = 0; i < 1000; ++i) {
    journal.record("route a");
    journal.strike_out("route a");
    const uintmax_t bytes = std::filesystem::file_size(path("undo"));
    EXPECT_EQ(bytes, before_bytes + pair_bytes > 4096 ? 0 : before_bytes + pair_bytes);
    before_bytes = bytes;
  }
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
  for (const char* text : {"", "40", "400000006b0547bf32e0f6bg", "400000006b0547bf32e0f6b5ff",
                           "800000000000000000000000", "ffffffffffffffffffffffff"}) {
    std::ofstream(path("adit0.tai64n")) << text << "\n";
    EXPECT_FALSE(files.read_stamp().has_value()) << text;
  }
  // As far ahead as a clock may have been: nothing is wrong with it.
  std::ofstream(path("adit0.tai64n")) << "7fffffffffffffffffffffff\n";
  EXPECT_TRUE(files.read_stamp().has_value());
}

TEST_F(StateFilesTest, KeepTheOldStampWhenTheDiskIsFull) {
  const StateFiles files(directory_, "adit0");
  const tunnel::Tai64n stamp{0x40, 0, 0, 0, 0x65, 0x9a, 0xff, 1, 2, 3, 4, 5};
  EXPECT_TRUE(files.write_stamp(stamp));
  {
    const FullDisk full(10);
    EXPECT_FALSE(files.write_stamp({0x41}));
  }
  EXPECT_EQ(files.read_stamp(), stamp);
}

TEST_F(StateFilesTest, AreTheirDirectorysOwnersThoughRootWritesThem) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  constexpr uid_t kUser = 1234;
  constexpr gid_t kGroup = 1235;
  ASSERT_EQ(chown(directory_.c_str(), kUser, kGroup), 0);
  const StateFiles files(directory_, "adit0");
  ASSERT_TRUE(files.write_stamp({0x40, 1}));
  struct stat found;
  ASSERT_EQ(stat(path("adit0.tai64n").c_str(), &found), 0);
  EXPECT_EQ(found.st_uid, kUser);
  EXPECT_EQ(found.st_gid, kGroup);
  EXPECT_EQ(found.st_mode & 07777, 0600u);
}

TEST_F(StateFilesTest, TouchNoFileThatSomebodyPutInTheirWay) {
  std::ofstream(path("precious")) << "text";
  std::filesystem::create_hard_link(path("precious"), path("adit0.tai64n.new"));
  const StateFiles files(directory_, "adit0");
  ASSERT_TRUE(files.write_stamp({0x40, 1}));
  EXPECT_EQ(content("precious"), "text");
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
